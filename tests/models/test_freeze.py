"""Frozen parts stay parameters of the same tree, and one filter selects what trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import models

LAYOUTS = pytest.mark.parametrize(
    "options", [{}, {"scan_blocks": True}], ids=["unrolled", "scanned"]
)


def shapes(model, kind):
    state = nnx.to_flat_state(nnx.state(model, kind))
    return {".".join(map(str, path)): value.shape for path, value in state}


@LAYOUTS
def test_a_frozen_network_has_the_tree_of_a_free_one(options):
    free, frozen = (models.create("cifar_resnet14", **options) for _ in range(2))
    models.freeze(frozen, ["stem", "stage1"])
    for kind in (nnx.Param, nnx.BatchStat):
        assert shapes(frozen, kind) == shapes(free, kind)
    left = {
        n: s for n, s in shapes(free, nnx.Param).items() if not n.startswith(("stem", "stage1"))
    }
    assert shapes(frozen, models.trainable) == left
    assert models.count_parameters(frozen) == sum(map(np.prod, left.values()))
    graph = nnx.graphdef(nnx.eval_shape(lambda: frozen))
    merged = nnx.merge(graph, nnx.to_pure_dict(nnx.state(free)))
    assert shapes(merged, models.trainable) == left


@LAYOUTS
def test_norms_that_are_built_frozen_have_the_tree_of_free_ones(options):
    free, frozen = (
        models.create("cifar_resnet14", norm=norm, **options) for norm in ("batch", "frozen_batch")
    )
    for kind in (nnx.Param, nnx.BatchStat):
        assert shapes(frozen, kind) == shapes(free, kind)
    kernels = {n for n in shapes(free, nnx.Param) if "norm" not in n}
    assert set(shapes(frozen, models.trainable)) == kernels


@LAYOUTS
def test_an_optimizer_of_what_trains_leaves_frozen_parts_exactly_as_they_are(options):
    model = models.create("cifar_resnet14", **options)
    models.freeze(model, ["stem", "stage2"])
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model)))
    transform = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9))
    optimizer = nnx.Optimizer(model, transform, wrt=models.trainable)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))

    def loss(model):
        return jnp.square(model(images)).sum()

    for _ in range(2):
        gradient = nnx.grad(loss, argnums=nnx.DiffState(0, models.trainable))(model)
        optimizer.update(model, gradient)
    for path, now in jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(model))):
        old = before
        for key in path:
            old = old[key.key]
        assert np.array_equal(now, old) == (path[0].key in ("stem", "stage2")), path
