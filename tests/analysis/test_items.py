"""Items are computed once each, on all devices, and go on where they were stopped."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.analysis import items as module
from resnet_jax.analysis.items import over_items


def function(shared, item):
    return {"sum": shared + item["x"].sum(), "twice": 2 * item["x"]}


@pytest.mark.parametrize("count", [1, 8, 21])
@pytest.mark.parametrize("together", [1, 3])
def test_every_item_once_and_in_order(count, together):
    x = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)
    bound = jax.device_put(jnp.float32(5), jax.devices()[1])
    result = over_items(function, bound, {"x": x}, together=together, per_call=2)
    np.testing.assert_allclose(result["sum"], 5 + x.sum(1))
    np.testing.assert_allclose(result["twice"], 2 * x)


def test_a_stopped_computation_goes_on(tmp_path, monkeypatch):
    kept, moves = tmp_path / "part.npz", []

    class Stops(module.Bar):
        def move(self, done):
            moves.append(done)
            if len(moves) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "Bar", Stops)
    x = np.arange(40, dtype=np.float32)[:, None]
    with pytest.raises(KeyboardInterrupt):
        over_items(function, jnp.float32(0), {"x": x}, kept=kept)
    result = over_items(function, jnp.float32(0), {"x": x}, kept=kept)
    assert moves == [0, 8, 16, 16, 24, 32, 40]
    np.testing.assert_allclose(result["sum"], x[:, 0])


def test_what_is_computed_together_is_one_call(monkeypatch):
    moves = []
    monkeypatch.setattr(module.Bar, "move", lambda bar, done: moves.append(done))
    items = {"x": np.arange(64, dtype=np.float32)[:, None]}
    over_items(function, jnp.float32(0), items, together=4)
    assert moves == [0, 32, 64]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from resnet_jax.analysis import items
move = items.Bar.move
def killed_at_the_third(bar, done):
    move(bar, done)
    if done == 3:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
items.Bar.move = killed_at_the_third
items.over_items(lambda _, x: {"y": x * 2}, 0.0, np.arange(6.0), label="l", kept=Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_a_killed_process_had_done_is_kept(tmp_path, name):
    kept = tmp_path / "kept.npz"
    variables = os.environ | {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type="}
    words = [sys.executable, "-c", KILLED, str(kept), name]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.Signals[name], "")
    with np.load(kept) as arrays:
        np.testing.assert_array_equal(arrays["y"], [0, 2, 4, 6])
