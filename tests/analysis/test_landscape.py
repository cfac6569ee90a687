"""Surfaces of the loss: the network is their centre, filters give directions their norms."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.analysis import directions as module
from resnet_jax.analysis.loss_surface import barrier, grid, losses_at, nonconvex_share
from resnet_jax.analysis.subject import open_runs
from resnet_jax.cli import main
from resnet_jax.training.state import pure_arrays

FEW = "--examples=24"


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def subject(small_run):
    return open_runs([str(small_run)], {})[0]


@pytest.mark.parametrize("scanned", [False, True], ids=["unrolled", "scanned"])
def test_directions_have_the_norms_of_the_filters(scanned):
    rng = np.random.default_rng(0)
    options = {"family": "cifar", "depth": 14, "scan_blocks": scanned}
    model = nnx.eval_shape(lambda: models.resnet(**options, rngs=nnx.Rngs(0)))
    weights = jax.tree.map(lambda w: rng.normal(2, 1, w.shape), pure_arrays(model))
    first, second = map(leaves, module.random_directions(weights, 2, seed=3))
    for name, weight in leaves(weights).items():
        if not name.endswith("['kernel']"):
            assert not first[name].any()
            assert not second[name].any()
            continue
        assert not np.allclose(first[name], second[name])
        # One block at a time, one output at a time.
        pairs = [(weight, first[name])]
        if "scanned" in name:
            pairs = list(zip(*pairs[0], strict=True))
        for kernel, direction in pairs:
            for output in range(kernel.shape[-1]):
                expected = np.linalg.norm(kernel[..., output])
                assert np.linalg.norm(direction[..., output]) == pytest.approx(expected, rel=1e-4)


def test_loss_at_a_place_is_that_of_a_network_with_these_weights(subject):
    model, (images, labels, _) = subject.model, subject.examples(None, 6, 0)
    weights = pure_arrays(model)
    directions = module.random_directions(weights, 2, seed=0)
    places = grid(np.array([-0.3, 0.0]), np.array([0.0, 0.4]))
    np.testing.assert_allclose(places, [[-0.3, 0], [0, 0], [-0.3, 0.4], [0, 0.4]])
    # Four examples at a time: the last batch is filled up.
    found = losses_at(model, directions, places, images, labels, batch_size=4)
    graph = nnx.graphdef(model)

    @jax.jit
    def predict(moved):
        return nnx.merge(graph, moved["params"], moved["batch_stats"])(images)

    for place, loss, accuracy in zip(places, found["loss"], found["accuracy"], strict=True):
        moved = jax.tree.map(
            lambda w, *d, p=place: w + p[0] * d[0] + p[1] * d[1], weights, *directions
        )
        logits = np.asarray(predict(moved), np.float64)
        expected = np.log(np.exp(logits).sum(1)) - logits[range(6), labels]
        assert loss == pytest.approx(expected.mean(), rel=1e-4)
        assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


def test_batch_statistics_undo_a_change_of_scale(subject):
    """What a batch norm follows may be scaled by anything, if it normalises what it sees."""
    model, (images, labels, _) = subject.model, subject.examples(None, 8, 0)
    own = jax.tree.map_with_path(
        lambda path, w: np.asarray(w) if "conv" in str(path) else np.zeros_like(w),
        pure_arrays(model),
    )
    data = [own], np.array([[0.0], [0.5]]), images, labels
    kept, moved = losses_at(model, *data, statistics="batch")["loss"]
    assert moved == pytest.approx(kept, rel=1e-2)
    kept, moved = losses_at(model, *data, statistics="running")["loss"]
    assert abs(moved - kept) > 0.1 * kept


def test_principal_plane_of_a_flat_course_holds_it():
    rng = np.random.default_rng(0)
    start = {"params": {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=5)}, "batch_stats": {}}
    u, v = (jax.tree.map(lambda w: rng.normal(size=w.shape), start) for _ in range(2))

    def at(a):
        return jax.tree.map(lambda w, x, y: w + a * x + a**2 * y, start, u, v)

    flat = [at(a) for a in range(5)]
    plane = module.principal_plane(flat)
    assert plane.explained.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(plane.positions[-1], 0, atol=1e-5)
    for weights, place in zip(flat, plane.positions, strict=True):
        again = jax.tree.map(
            lambda w, x, y, p=place: w + p[0] * x + p[1] * y, flat[-1], *plane.directions
        )
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), again, weights)


def test_what_the_plane_leaves_out_is_what_it_does_not_explain():
    rng = np.random.default_rng(0)
    course = [{"params": {"a": rng.normal(size=20)}, "batch_stats": {}} for _ in range(6)]
    plane = module.principal_plane(course)
    x, y = (direction["params"]["a"] for direction in plane.directions)
    points = np.stack([weights["params"]["a"] for weights in course])
    points = points - points.mean(0)
    left = points - np.outer(points @ x, x) - np.outer(points @ y, y)
    share = 1 - np.square(left).sum() / np.square(points).sum()
    assert plane.explained.sum() == pytest.approx(share, abs=1e-5)


def test_roughness_and_barrier_of_known_curves():
    x = np.linspace(-1, 1, 11)
    assert nonconvex_share(x**2 + x[:, None] ** 2) == 0
    assert nonconvex_share(-(x**2)) == 1
    assert nonconvex_share(np.where(abs(x) < 0.95, x**2, np.nan)) == pytest.approx(2 / 9)
    assert barrier(np.array([1.0, 3.5, 2.0])) == 2
    assert barrier(np.array([2.0, 1.2, 1.0])) == 0


def run(out, *words):
    assert main(["analyze", "landscape", f"--out={out}", "--size=3", *map(str, words)]) == 0
    text = json.loads((out / "landscape.json").read_text())
    with np.load(out / "landscape.npz") as arrays:
        return text["results"], dict(arrays)


def evaluated(workdir, step="latest"):
    """Loss of the network itself on the 24 examples of `FEW`."""
    (subject,) = open_runs([str(workdir)], {}, step)
    images, labels, _ = subject.examples(None, 24, 0)
    logits = np.asarray(jax.jit(subject.model)(images), np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[range(24), labels]
    return pytest.approx(losses.mean(), rel=1e-4)


def test_the_centre_is_the_network(small_run, small_plain_run, tmp_path):
    words = "--workdir", small_run, small_plain_run, FEW
    results, arrays = run(tmp_path, *words)
    assert results["residual"]["loss"] == evaluated(small_run)
    assert results["plain"]["loss"] == evaluated(small_plain_run)
    results, curve = run(tmp_path, *words, "--dimensions=1")
    np.testing.assert_allclose(curve["residual/loss"], arrays["residual/loss"][1], rtol=1e-4)


@pytest.mark.slow
def test_the_centre_is_the_evaluation_of_the_run(small_run, tmp_path):
    results, _ = run(tmp_path, "--workdir", small_run, "--examples=0")
    expected = json.loads((small_run / "status.json").read_text())["result"]
    assert results["residual"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert results["residual"]["accuracy"] == pytest.approx(expected["accuracy"])


def test_a_line_ends_at_its_two_networks(small_run, tmp_path):
    words = "--view=interpolation", FEW
    alone = run(tmp_path, *words, "--workdir", small_run, "--from_step=5")[0]["residual"]
    assert alone["loss_at_first"] == evaluated(small_run, "5")
    assert alone["loss_at_second"] == evaluated(small_run)
    assert alone["steps"] == "5 to 10"
    shutil.copytree(small_run, tmp_path / "twin")
    both = run(tmp_path, *words, "--workdir", small_run, tmp_path / "twin")[0]
    assert both["residual to twin"]["loss_at_second"] == evaluated(small_run)
    assert both["residual to twin"]["barrier"] == pytest.approx(0, abs=1e-4)


def test_a_line_joins_networks_of_one_kind(small_run, small_plain_run, tmp_path, capsys):
    """Shapes do not tell: a plain net has those of a residual one."""
    command = ["analyze", "landscape", "--view=interpolation", FEW, f"--out={tmp_path}"]
    assert main([*command, f"--workdir={small_run}", f"--workdir={small_plain_run}"]) == 2
    assert (
        "--workdir = 'plain': is another kind of network than residual" in capsys.readouterr().err
    )


def test_the_course_is_drawn_in_its_plane(small_run, tmp_path):
    words = "--view=trajectory", "--workdir", small_run, FEW
    results, arrays = run(tmp_path, *words)
    assert arrays["residual/steps"].tolist() == [0, 5, 10]
    # Three networks lie in a plane.
    assert arrays["residual/explained"].sum() == pytest.approx(1, abs=1e-4)
    assert (tmp_path / "landscape_trajectory.png").exists()
    assert results["residual"]["networks"] == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--size=4"], "--size = 4: allowed: an odd number from 3"),
        (["--extent=0"], "--extent = 0.0: allowed: greater than 0"),
        (["--extent=inf"], "--extent = inf: allowed: greater than 0"),
        (["--batch_size=0"], "--batch_size = 0: allowed: 1 or more"),
        (["--view=interpolation", "--from_step=first"], "--from_step = 'first': allowed: latest"),
        (["--statistics=batch", "--examples=7", "--batch_size=4"], "does not divide the 7"),
        (["--view=interpolation"], "--from_step = None: is needed"),
        (["--view=trajectory", "--step=5"], "needs a checkpoint between"),
    ],
)
def test_what_cannot_be_done_is_refused(words, problem, small_run, tmp_path, capsys):
    out = tmp_path / "out"
    words = f"--workdir={small_run}", "--examples=8", *words
    command = ["analyze", "landscape", f"--out={out}", *words]
    assert main(command) == 2
    assert problem in capsys.readouterr().err
    assert not out.exists()
