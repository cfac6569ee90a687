"""The summary adds up to the network, and its receptive field is what a gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models


@pytest.mark.parametrize("name", ["resnet20", "resnet1202", "resnet50d", "wrn16_8", "bit_r50x1"])
def test_parts_add_up(name):
    model = nnx.eval_shape(lambda: models.create(name, scan_blocks=None, rngs=nnx.Rngs(0)))
    parts = models.summarize(model, (64, 64, 3))
    assert sum(part.parameters for part in parts) == models.ZOO[name].parameters
    assert sum(part.macs for part in parts) == models.count_macs(model, (64, 64, 3))


@pytest.mark.parametrize(("name", "stem"), [("resnet50", 11), ("resnet50d", 15)])
def test_receptive_field_grows_by_twice_the_stride_at_every_3x3_convolution(name, stem):
    """The first 3×3 convolution of a stage still has the stride of the one before."""
    model = nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0)))
    parts = models.summarize(model, (224, 224, 3))
    expected, stride, sizes = [stem], 4, (3, 4, 6, 3)
    for number, size in enumerate(sizes):
        before = stride
        stride *= 2 if number else 1
        expected.append(expected[-1] + 2 * before + 2 * stride * (size - 1))
    assert [part.receptive_field for part in parts[:-1]] == expected


@pytest.mark.parametrize(
    "options", [{}, {"antialias": True, "shortcut": "B"}, {"stem": "patchify"}]
)
def test_receptive_field_is_what_the_gradient_of_one_output_reaches(options):
    """With all weights 1, no norm and no max pool, every pixel of the field has a gradient."""
    model = models.create(
        "cifar_resnet8", norm="none", scan_blocks=False, **options, rngs=nnx.Rngs(0)
    )
    model.eval()
    graph, state = nnx.split(model)
    ones = jax.tree.map(jnp.ones_like, nnx.to_pure_dict(state))
    last = models.summarize(model, (129, 129, 3))[-2]

    def centre(x):
        output = nnx.merge(graph, ones).features(x)["stage3"]
        return output[0, output.shape[1] // 2, output.shape[2] // 2].sum()

    gradient = jax.grad(centre)(jnp.ones((1, 129, 129, 3)))
    rows = np.flatnonzero(np.asarray(gradient[0]).any((1, 2)))
    assert rows[-1] - rows[0] + 1 == last.receptive_field
