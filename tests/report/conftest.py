"""Studies that the tests report on."""

import itertools

import pytest
from fabricate import make_sweep

# Final (test, train) error in percent by depth, shortcut and seed.
DEPTH_STUDY = {
    (8, "none"): [(10.0, 5.0), (10.2, 5.2), (9.8, 4.8)],
    (8, "A"): [(9.0, 4.0), (9.1, 4.1), (8.9, 3.9)],
    (14, "none"): [(12.0, 8.0), (12.4, 8.2), (11.6, 7.8)],
    (14, "A"): [(8.0, 2.0), (8.3, 2.1), (7.7, 1.9)],
}


@pytest.fixture
def depth_study(tmp_path):
    """A sweep directory of two depths, two shortcuts and three seeds, all done."""
    runs = [
        ({"model.depth": depth, "model.shortcut": shortcut, "seed": seed}, errors)
        for (depth, shortcut), seeds in DEPTH_STUDY.items()
        for seed, errors in enumerate(seeds)
    ]
    return make_sweep(tmp_path / "depth", runs, {"data.name": "cifar10"})


@pytest.fixture
def broken_study(tmp_path):
    """A sweep of three learning rates and three seeds with every state that a run can be in."""
    outcomes = {
        0.1: [(10.0, 5.0), (10.4, 5.2), ("failed", "RuntimeError: out of <b>memory</b>")],
        1.0: [("diverged", "not finite at step 3")] * 3,
        0.01: [(20.0, 15.0), ("running", None), "pending"],
    }
    runs = [
        ({"optimizer.learning_rate": rate, "seed": seed}, outcome)
        for rate, seeds in outcomes.items()
        for seed, outcome in enumerate(seeds)
    ]
    return make_sweep(tmp_path / "broken", runs)


@pytest.fixture
def sweep_of(tmp_path):
    """A function that writes a sweep with an error for every combination of fields and values."""

    def make(fields, error=lambda overrides: (10.0, 5.0), seeds=1, **options):
        combinations = itertools.product(*fields.values(), range(seeds))
        names = [*fields, "seed"]
        runs = [dict(zip(names, values, strict=True)) for values in combinations]
        return make_sweep(tmp_path / "sweep", [(run, error(run)) for run in runs], **options)

    return make
