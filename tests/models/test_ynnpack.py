"""What XLA's CPU compiler makes of our layers, and of programs that it is known to get wrong.

Needs JAX, Flax, NumPy, pytest and hypothesis alone, for `python tests/jaxlibs.py`.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from resnet_jax.compiler import FLAG, turn_off_ynnpack

turn_off_ynnpack()

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_jax import models
from resnet_jax.models import compilation
from resnet_jax.models.normalization import norm_factory
from resnet_jax.models.pooling import average_pool, blur_pool, max_pool
from resnet_jax.models.ynnpack import FUSION, misused

ROOT = Path(__file__).parents[2]

# Each program is a function of arrays, and gives a number that is 0 where it is right. YNNPACK is wrong at
# each in some jaxlib; the last but one ends the process.
PROGRAMS = """
import json, sys
import numpy as np
from resnet_jax.compiler import turn_off_ynnpack
if "default" not in sys.argv:
    turn_off_ynnpack()
import jax
import jax.numpy as jnp
from resnet_jax import models

rng = np.random.default_rng(3)
points = rng.standard_normal((2**15 + 1, 3), np.float32)
squares = rng.standard_normal((5, 60, 60), np.float32)
grid = rng.standard_normal((64, 128), np.float32)
two = rng.standard_normal((2, 2, 3, 1, 2, 2, 8, 8, 8), np.float32)
with_nan = np.where(np.arange(512 * 64).reshape(512, 64) % 97 == 5, np.nan, 1).astype(np.float32)


def lengths(rows):
    turned = jax.vmap(lambda row: jnp.eye(3) @ row)(rows)
    return jnp.square(turned).sum(1)


def product_with_a_number(m, number):
    return (jnp.matmul(m, jnp.full(m.shape, number)) * m).sum((1, 2))


def maximum_between_holes(x):
    lowest = jnp.float32(-jnp.inf)
    apart = jax.lax.reduce_window(x, lowest, jax.lax.max, (2, 1), (2, 1), "VALID", base_dilation=(1, 2))
    return jnp.isfinite(apart).sum()


def seven_axes(x, y):
    return (x * y).sum(3)


def relu_of_nan(x):
    return jnp.maximum(x, 0).sum(1)


def maximum_of_nan(x):
    return x.max(1)


wide = squares.astype(np.float64)
CASES = {
    "lengths": (lengths, (points,), (points.astype(np.float64) ** 2).sum(1)),
    "product_with_a_number": (
        product_with_a_number,
        (squares, np.float32(2)),
        (np.matmul(wide, np.full(wide.shape, 2.0)) * wide).sum((1, 2)),
    ),
    "maximum_between_holes": (maximum_between_holes, (grid,), np.array(32 * 128)),
    "relu_of_nan": (relu_of_nan, (with_nan,), with_nan.sum(1)),
    "maximum_of_nan": (maximum_of_nan, (with_nan,), with_nan.max(1)),
    "seven_axes": (seven_axes, tuple(two), (two[0].astype(np.float64) * two[1]).sum(3)),
}
compiled = models.checked_jit if "checked" in sys.argv else jax.jit
for name, (function, arguments, right) in CASES.items():
    result = np.asarray(compiled(function)(*arguments), np.float64)
    assert (np.isnan(result) == np.isnan(right)).all(), name
    error = np.nanmax(np.abs(result - right)) / np.nanmax(np.abs(right))
    assert error < 1e-3, (name, error)
    print(name, flush=True)
"""
NAMES = [
    "lengths",
    "product_with_a_number",
    "maximum_between_holes",
    "relu_of_nan",
    "maximum_of_nan",
    "seven_axes",
]


def run(*arguments, code=PROGRAMS, flags=""):
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": ""}
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def test_known_programs_are_right_as_our_commands_set_the_compiler():
    done = run()
    assert done.stdout.split() == NAMES, done.stderr
    assert done.returncode == 0
    assert done.stderr == ""


def test_known_programs_are_right_by_the_check_alone():
    """In a process with YNNPACK."""
    done = run("default", "checked")
    assert done.stdout.split() == NAMES, done.stderr
    assert done.stderr.count("set XLA_FLAGS=") == 1  # The warning of the import.


def test_known_programs_are_wrong_without_either():
    """Else there would be nothing left to turn off."""
    done = run("default")
    assert done.returncode != 0
    assert done.stdout.split() != NAMES


def both(function):
    """Compiled as the rest of a command is, and as a step is: with YNNPACK for sums alone."""
    return jax.jit(function), models.checked_jit(function)


def sines(like):
    return jnp.sin(jnp.arange(like.size, dtype=like.dtype)).reshape(like.shape)


def assert_near(function, truth, *arguments, relative=1e-4):
    """Values, and derivatives weighted by sines, in both settings equal those in float64."""
    wide = [np.asarray(a, np.float64) for a in arguments]
    with jax.enable_x64(True):
        outputs, transpose = jax.vjp(truth, *wide)
        expected = [np.asarray(a) for a in (outputs, *transpose(sines(outputs)))]

    def all_of(*arguments):
        outputs, transpose = jax.vjp(function, *arguments)
        return outputs, *transpose(sines(outputs))

    for compiled in both(all_of):
        for actual, right in zip(compiled(*arguments), expected, strict=True):
            scale = max(np.abs(right).max(), 1e-3)
            np.testing.assert_allclose(actual, right, rtol=0, atol=relative * scale)


# Sizes on both sides of where YNNPACK begins, at 4,096 elements.
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 16, 17, 31])
SHAPES = st.tuples(st.integers(1, 40), SIZES, SIZES, SIZES)
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@settings(max_examples=8, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=5), st.data(), SEEDS)
def test_sums_against_numpy(shape, data, seed):
    """Of any axes, of squares and of products with a broadcast array."""
    axes = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    other = [size if data.draw(st.booleans()) else 1 for size in shape]
    x, y = normal(seed, *shape), normal(seed + 1, *other)

    def sums(x, y, xp=jnp):
        return [xp.sum(x, axes), xp.sum(x * x, axes), xp.sum(x * y, axes), xp.mean(xp.exp(x), axes)]

    expected = sums(x.astype(np.float64), y.astype(np.float64), np)
    scale = [np.abs(a).max() + 1 for a in sums(np.abs(x), np.abs(y), np)]
    for compiled in both(sums):
        for actual, right, size in zip(compiled(x, y), expected, scale, strict=True):
            # A hundred thousand numbers, one after the other, are rounded to 1e-4 by XLA itself.
            np.testing.assert_allclose(actual, right, rtol=0, atol=1e-3 * size)


@settings(max_examples=3, deadline=None)
@given(SHAPES, SEEDS)
def test_pooling_against_float64(shape, seed):
    x = normal(seed, *shape)
    for pool in (lambda x: average_pool(x, 2), lambda x: x.mean((1, 2)), lambda x: max_pool(x)):
        assert_near(pool, pool, x)
    if min(shape[1:3]) > 1:
        assert_near(lambda x: blur_pool(x, 2), lambda x: blur_pool(x, 2), x)


def with_arrays(norm, scale, bias):
    norm.scale.set_value(scale)
    norm.bias.set_value(bias)
    return norm


def batch_norm(x, scale, bias):
    return with_arrays(models.BatchNorm(x.shape[-1]), scale, bias)(x)


def group_norm(kind, groups, x, scale, bias):
    options = {"num_groups": groups} if kind == "group" else {}
    norm = norm_factory(kind, **options)(x.shape[-1], rngs=nnx.Rngs(0))
    return with_arrays(norm, scale, bias)(x)


def standardised(x, axes):
    x = x - x.mean(axes, keepdims=True)
    return x / jnp.sqrt(jnp.square(x).mean(axes, keepdims=True) + 1e-5)


@settings(max_examples=4, deadline=None)
@given(
    st.integers(2, 40), st.integers(3, 17), st.integers(3, 9), st.sampled_from([8, 24, 64]), SEEDS
)
def test_norms_against_their_definitions_in_float64(batch, height, width, channels, seed):
    x, scale, bias = (
        normal(seed, *shape)
        for shape in [(batch, height, width, channels), (channels,), (channels,)]
    )

    def batch_definition(x, scale, bias):
        return standardised(x, (0, 1, 2)) * scale + bias

    assert_near(batch_norm, batch_definition, x, scale, bias)
    for kind, groups in (("group", 4), ("layer", 1)):

        def definition(x, scale, bias, groups=groups):
            grouped = x.reshape(batch, height, width, groups, -1)
            return standardised(grouped, (1, 2, 4)).reshape(x.shape) * scale + bias

        norm = partial(group_norm, kind, groups)
        assert_near(norm, definition, x, scale, bias)


@settings(max_examples=4, deadline=None)
@given(
    st.integers(1, 40), SIZES, st.sampled_from([8, 33, 64]), st.sampled_from([2, 10, 100]), SEEDS
)
def test_heads_against_float64(batch, side, channels, classes, seed):
    def build():
        options = {"stage_sizes": (1,), "widths": (channels,), "stem": "cifar"}
        return models.ResNet(num_classes=classes, rngs=nnx.Rngs(0), **options)

    def head(last, kernel, bias):
        network = nnx.eval_shape(build)
        network.head.kernel.set_value(kernel)
        network.head.bias.set_value(bias)
        return network.classify(last)

    def definition(last, kernel, bias):
        return last.mean((1, 2)) @ kernel + bias

    shapes = [(batch, side, side, channels), (channels, classes), (classes,)]
    arrays = [normal(seed + n, *shape) for n, shape in enumerate(shapes)]
    assert_near(head, definition, *arrays)


@pytest.mark.parametrize("classes", [10, 1000])
def test_a_head_has_no_product_in_a_fusion_and_keeps_nan(classes):
    """Before-activation networks end with a ReLU and a mean, all others with a mean."""
    for order in ("original", "full_preactivation"):
        network = models.initialise(
            lambda rngs, order=order: models.ResNet(
                num_classes=classes,
                stage_sizes=(1,),
                widths=(64,),
                activation_order=order,
                rngs=rngs,
            )
        )
        network.eval()
        lowered = jax.jit(network.classify).lower(normal(0, 64, 8, 8, 64))
        text = lowered.compile(compiler_options=compilation.SUMS_ONLY).as_text()
        assert FUSION in text
        assert misused(text) is None
        last = normal(0, 64, 8, 8, 64)
        last[5, 3, 2, 1] = np.nan
        logits = models.checked_jit(network.classify)(last)
        assert np.isnan(logits[5]).all()
        assert np.isfinite(np.delete(logits, 5, 0)).all()


def test_a_softmax_keeps_its_sums():
    """Its maximum is read beside the array itself, in which NaN are seen."""
    logits = normal(0, 64, 1000)
    program = models.compile_checked(jax.jit(jax.nn.log_softmax).lower(logits))
    assert FUSION in program.as_text()
    logits[3, 7] = np.nan
    assert np.isnan(program(logits)[3]).all()


def test_one_program_for_each_shape(monkeypatch):
    compiled = []
    monkeypatch.setattr(compilation, "misused", lambda text: compiled.append(text) or misused(text))
    double = models.checked_jit(lambda x, *, y: x * 2 + y, donate_argnums=0)
    for size in (3, 4, 3, 4, 3):
        result = double(jnp.ones(size), y=np.arange(size, dtype=np.float32))
        np.testing.assert_array_equal(result, 2 + np.arange(size))
    assert len(compiled) == 2
    with pytest.raises(TypeError, match="incompatible shapes"):
        double(jnp.ones(3), y=np.ones(4, np.float32))


def test_the_line_is_printed_once(capsys):
    compilation._say_once.cache_clear()
    for _ in range(2):
        lowered = jax.jit(lambda x: jnp.maximum(x, 0).sum(1)).lower(normal(0, 64, 100))
        assert FUSION not in models.compile_checked(lowered).as_text()
    (line,) = capsys.readouterr().err.splitlines()
    assert "a program with maximum" in line


def test_other_backends_are_left_alone(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert type(models.checked_jit(jnp.sum)) is type(jax.jit(jnp.sum))


def test_options_that_this_jaxlib_does_not_have_are_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "has_ynnpack", lambda: False)
    assert FUSION not in models.compile_checked(jax.jit(jnp.sum).lower(normal(0, 64, 99))).as_text()


WARNS = "import jax, warnings; import resnet_jax; from resnet_jax import models"


@pytest.mark.parametrize(
    ("code", "flags", "platforms", "count"),
    [
        (WARNS, "", "", 1),
        ("from resnet_jax import models", "--xla_cpu_enable_fast_math=false", "", 1),
        (WARNS, f"{FLAG}LIBRARY_FUSION_TYPE_DOT", "", 0),
        (WARNS, "", "cuda", 0),
        ("import resnet_jax", "", "", 0),
        (
            "from resnet_jax.cli import main; main(['summary', '--config=configs/digits.py'])",
            "",
            "",
            0,
        ),
    ],
)
def test_an_import_warns_once(code, flags, platforms, count):
    if "cli" in code:
        pytest.importorskip("ml_collections")  # Not there by `jaxlibs.py`.
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": platforms}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f'set XLA_FLAGS="{FLAG}" before JAX starts') == count


def test_flags_are_added_to_those_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=dump")
    turn_off_ynnpack()
    turn_off_ynnpack()
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=dump {FLAG}"
    chosen = f"{FLAG}LIBRARY_FUSION_TYPE_DOT"
    monkeypatch.setenv("XLA_FLAGS", chosen)
    turn_off_ynnpack()
    assert os.environ["XLA_FLAGS"] == chosen
    file = tmp_path / "flags"
    file.write_text("--xla_dump_to=dump\n--xla_dump_hlo_as_text\n")
    monkeypatch.setenv("XLA_FLAGS", str(file))
    turn_off_ynnpack()
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=dump --xla_dump_hlo_as_text {FLAG}"
