"""docs/architecture.md states the way that a batch really takes."""

import re
import sys
from pathlib import Path

import jax
import pytest

from resnet_jax.training.experiment import make_experiment

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| \d+ \| `(\S+)` \| `(\w+)` \|")


@pytest.fixture
def first_calls():
    """(file, function) of the package in the order of their first calls."""
    calls = {}

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT / "resnet_jax")):
            calls.setdefault((str(Path(code.co_filename).relative_to(ROOT)), code.co_name))

    sys.setprofile(note)
    yield calls
    sys.setprofile(None)


def test_a_batch_takes_the_documented_way(small_config, first_calls):
    experiment = make_experiment(small_config)
    state = experiment.parallel.place(experiment.programs.initialise(jax.random.key(0)))
    numbers, arguments = experiment.placed_numbers(), experiment.train_arguments(0)
    experiment.programs.training(1)(state, numbers, *arguments)
    sys.setprofile(None)
    documented = ROW.findall((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert 2 < len(documented) <= 8
    # Making the network calls the last one too, before there is a batch.
    *way, last = documented
    assert [call for call in first_calls if call in way] == way
    assert last in first_calls
