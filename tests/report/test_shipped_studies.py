"""What a report compares in the studies of configs/sweeps."""

import pytest
from fabricate import all_done, compare_all

from resnet_jax.config import flatten, open_config_file

STUDIES = {
    "depth": 10,
    "depth:full": 11,
    "dataset": 21,
    "dataset:full": 20,
    "learning_rate": 7,
    "learning_rate:full": 6,
    "shortcut_he2015": 3,
    "shortcut_he2015:full": 3,
    "shortcut_he2016": 10,
    "shortcut_he2016:full": 13,
    "activation_he2016": 4,
    "activation_he2016:full": 8,
}
# What goes together in these on purpose, as in the paper.
COUPLED = {
    "depth:full": {"model.depth", "schedule.warmup", "schedule.warmup_start_factor"},
    "activation_he2016:full": {"model.depth", "model.block", "model.shortcut"},
    "shortcut_he2016": {"model.shortcut", "model.gate_bias", "model.branch_scale"},
    "shortcut_he2016:full": {"model.shortcut", "model.gate_bias", "model.branch_scale"},
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_shipped_studies_compare_one_field_at_a_time(name):
    path, _, form = name.partition(":")
    file = open_config_file(f"configs/sweeps/{path}.py" + (f":{form}" if form else ""))
    overrides = file.module.sweep(form or "small")
    study = all_done(flatten(file.config().to_dict()), overrides)
    comparisons, confounded, settings = compare_all(study)
    found = [c for c in comparisons if c.split == "test"]
    for c in found:
        rows = [overrides[int(side.runs[0].id)] for side in (c.baseline, c.other)]
        differing = {n for n in {*rows[0], *rows[1]} if rows[0].get(n) != rows[1].get(n)}
        assert differing == set(c.axis.fields)
    assert len(found) == STUDIES[name]
    coupled = {field for pair in confounded for field, _, _ in pair.fields}
    assert coupled == COUPLED.get(name, set())
    # Each setting has a verdict somewhere, but the deeper net of a pair of nets.
    assert {id(s) for c in found for s in (c.baseline, c.other)} == set(map(id, settings))


def test_the_kinds_of_a_shortcut_are_compared_with_the_original_alone():
    file = open_config_file("configs/sweeps/shortcut_he2016.py")
    study = all_done(flatten(file.config().to_dict()), file.module.sweep())
    comparisons, _, _ = compare_all(study)
    pairs = [(c.fixed, *c.names) for c in comparisons]
    assert ("", "residual A", "exclusive gating") in pairs
    assert ("exclusive gating", "gate bias default (−6)", "gate bias 0") in pairs
    assert not any("gate bias 0" in (a, b) and "residual A" in (a, b) for _, a, b in pairs)
