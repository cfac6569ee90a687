"""The compiled programs of runs give YNNPACK sums and nothing else, whatever a user puts into them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax import cli, models
from resnet_jax.models import compilation
from resnet_jax.models.ynnpack import FUSION, misused
from resnet_jax.sweeps.together import RunsTogether
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.losses import softmax_loss
from resnet_jax.training.mesh import JitMesh
from resnet_jax.training.replicas import PmapReplicas
from resnet_jax.training.state import initial_state, make_network
from resnet_jax.training.steps import StepOptions, train_step


@pytest.fixture
def programs(monkeypatch):
    """What YNNPACK would compute wrongly in each program that it is used for: None, if all is well."""
    found = []

    def spy(text):
        found.extend([misused(text)] if FUSION in text else [])
        return misused(text)

    monkeypatch.setattr(compilation, "misused", spy)
    return found


def small_network():
    return make_network(
        lambda rngs: models.ResNet(
            num_classes=10, stage_sizes=(1,), widths=(8,), stem="cifar", in_channels=1, rngs=rngs
        )
    )


MODES = {
    "jit": JitMesh,
    "pmap": PmapReplicas,
    "together": lambda devices: RunsTogether(1, devices, by_map=True),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_that_ynnpack_gets_wrong_is_right(mode, programs, capsys):
    """Its rows are products with a small matrix, whose squares are summed."""
    compilation._say_once.cache_clear()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2**15 + 1, 3), np.float32)

    def loss(logits, batch, numbers):
        turned = jax.vmap(lambda row: jnp.eye(3) @ row)(batch["rows"])
        lengths = jnp.square(turned).sum(1)
        return softmax_loss(logits, batch) + jnp.sum(lengths * jnp.arange(lengths.size) / 2**29)

    network, optimizer = small_network(), optax.sgd(0.1)
    parallel = MODES[mode](jax.devices()[:1])
    options = StepOptions(loss=loss, axis_name=parallel.axis_name)
    static = Hyperparameters(), network, lambda numbers: optimizer

    def with_keys(batch):
        return batch | {"key": jax.random.split(jax.random.key(0), 4)}

    def step(state, numbers, own, batch):
        return train_step(state, with_keys(batch), *static, options)

    def plain(state, numbers, own, batch):
        options = StepOptions(axis_name=parallel.axis_name)
        return train_step(state, with_keys(batch), *static, options)

    batch = {
        "image": rng.standard_normal((4, 8, 8, 1), np.float32),
        "label": np.arange(4, dtype=np.int32),
        "mask": np.ones(4, bool),
        "rows": rows,
    }
    # Runs together are placed as a list of states.
    place = parallel.place if mode != "together" else lambda state: parallel.place([state])
    losses = []
    for function in (step, plain):
        state = place(initial_state(network, optimizer, seed=0, with_ema=False))
        compiled = parallel.compile(function, returns_state=True)
        _, metrics = compiled(state, {}, {}, parallel.replicate(batch))
        losses.append(float(np.squeeze(parallel.read(metrics)["loss"])) / 4)
    weights = np.arange(len(rows)) / 2**29
    expected = np.sum(np.square(rows.astype(np.float64)).sum(1) * weights)
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-4)
    assert set(programs) == {"dot"}
    (line,) = capsys.readouterr().err.splitlines()
    assert "a program with dot is compiled without YNNPACK" in line


WORDS = ["--config.train.duration=2", "--config.schedule.warmup=0", "--config.train.ema_decay=0.9"]


def train(workdir, *words):
    command = ["train", "--config=configs/digits.py", f"--workdir={workdir}", *WORDS, *words]
    assert cli.main(command) == 0
    return f"--workdir={workdir}"


def test_programs_of_train_evaluate_and_export_have_sums_alone(programs, tmp_path):
    workdir = train(tmp_path / "run", "--config.parallel.num_devices=1")
    trained = len(programs)
    assert cli.main(["evaluate", workdir]) == 0
    assert cli.main(["export", workdir, f"--out={tmp_path / 'net.stablehlo'}"]) == 0
    assert len(programs) > trained > 0
    assert set(programs) == {None}


FIELDS = [
    ["--config.model.activation_order=full_preactivation", "--config.model.norm=group"],
    ["--config.model.squeeze_reduction=4", "--config.train.loss=binary_cross_entropy"],
    ["--config.train.label_smoothing=0.1", "--config.evaluate.scales=(8, 12)"],
    ["--config.parallel.mode=pmap", "--config.parallel.num_devices=2"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", FIELDS)
def test_programs_of_other_networks_have_sums_alone(words, programs, tmp_path):
    if "num_devices" not in "".join(words):
        words = [*words, "--config.parallel.num_devices=1"]
    train(tmp_path / "run", *words)
    assert set(programs) == {None}


ANALYSES = {
    "lesion": [],
    "gradients": [],
    "features": ["--examples=32"],
    "paths": [],
    "curvature": ["--examples=64"],
    "landscape": ["--examples=64"],
}


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ANALYSES)
def test_programs_of_analyses_have_sums_alone(analysis, programs, tmp_path):
    workdir = train(tmp_path / "run", "--config.parallel.num_devices=1")
    del programs[:]
    out = f"--out={tmp_path / 'analysis'}"
    assert cli.main(["analyze", analysis, workdir, out, *ANALYSES[analysis]]) == 0
    assert set(programs) <= {None}
