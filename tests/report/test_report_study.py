"""Reading directories: every state, damage, several at once."""

import pytest
from fabricate import make_sweep, read

from resnet_jax.errors import UserError
from resnet_jax.report.axes import find_axes
from resnet_jax.report.facts import failures, summary_sentence
from resnet_jax.report.settings import count_states, make_settings
from resnet_jax.report.study import read_study


def test_every_state_is_counted_and_shown_with_its_reason(broken_study):
    study, axes, settings = read(broken_study)
    states = {"done": 3, "running": 1, "pending": 1, "diverged": 3, "failed": 1}
    assert count_states(study.runs) == states
    assert summary_sentence(study, axes, settings) == (
        "9 runs: 3 done, 1 running, 1 pending, 3 diverged and 1 failed. "
        "3 settings of learning rate, 3 seeds each."
    )
    reasons = {(state, reason): len(ids) for state, reason, ids in failures(study.runs)}
    assert reasons == {
        ("failed", "RuntimeError: out of <b>memory</b>"): 1,
        ("diverged", "not finite at step 3"): 3,
    }


def test_only_done_runs_have_final_errors(broken_study):
    _, _, settings = read(broken_study)
    by_rate = {next(iter(s.values.values()))[0]: s for s in settings}
    assert by_rate[0.1].errors("test") == pytest.approx({0: 10.0, 1: 10.4})
    assert by_rate[1.0].errors("test") == {}
    assert by_rate[0.01].errors("test") == pytest.approx({0: 20.0})
    assert by_rate[0.1].states() == "2 of 3 (1 failed)"
    assert by_rate[0.01].states() == "1 of 3 (1 running, 1 pending)"


def test_a_run_that_has_not_begun_has_the_config_of_the_sweep(broken_study):
    study, _, _ = read(broken_study)
    (run,) = [run for run in study.runs if run.state == "pending"]
    assert (run.config["optimizer.learning_rate"], run.config["seed"]) == (0.01, 2)
    assert run.parameters == 272_474


def test_a_damaged_run_hides_no_other(depth_study):
    first = sorted(depth_study.runs.iterdir())[0]
    (first / "metrics.jsonl").write_text('{"event": "train"\nnonsense\n')
    study, _, _ = read(depth_study)
    damaged = [run for run in study.runs if run.state == "unreadable"]
    assert [run.id for run in damaged] == [first.name]
    assert "line 1 cannot be read" in damaged[0].error
    assert sum(run.state == "done" for run in study.runs) == 11


def test_a_config_that_cannot_be_read(depth_study):
    """Without sweep.json nothing is known of such a run but that it is there."""
    first = sorted(depth_study.runs.iterdir())[0]
    (first / "config.json").write_text("{")
    study = read_study([str(depth_study.runs)])
    axes = find_axes(study)
    assert [run.state for run in study.runs if run.id == first.name] == ["unreadable"]
    assert [axis.fields for axis in axes.axes] == [("model.depth",), ("model.shortcut",)]
    assert sum(len(setting.runs) for setting in make_settings(study, axes)) == 11


def test_a_last_line_cut_short_is_left_out(depth_study):
    first = sorted(depth_study.runs.iterdir())[0]
    with (first / "metrics.jsonl").open("a") as file:
        file.write('{"event": "eval", "step": 1')
    study, _, _ = read(depth_study)
    assert all(run.state == "done" for run in study.runs)


def test_one_run_and_a_sweep_together(depth_study, tmp_path):
    run = sorted(depth_study.runs.iterdir())[0]
    assert [r.id for r in read_study([str(run)]).runs] == [run.name]
    other = make_sweep(
        tmp_path / "other", [({"model.depth": 20, "model.shortcut": "A"}, (7.0, 1.0))]
    )
    study = read_study([str(depth_study.path), str(other.path)])
    assert len(study.runs) == 13
    assert len({run.id for run in study.runs}) == 13


def test_a_repeated_run_counts_once(depth_study):
    """The same config and seed twice is no second replicate."""
    run = sorted(depth_study.runs.iterdir())[0]
    study = read_study([str(depth_study.path), str(run)])
    assert len(study.runs) == 12
    assert study.repeats == (run.name,)


def test_the_repeat_that_is_done_is_kept(tmp_path):
    overrides = {"model.depth": 8, "seed": 0}
    begun = make_sweep(tmp_path / "begun", [(overrides, ("failed", "lost"))])
    done = make_sweep(tmp_path / "done", [(overrides, (9.0, 1.0))])
    study = read_study([str(begun.path), str(done.path)])
    assert [run.state for run in study.runs] == ["done"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_report_on(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="DIR"):
        read_study([str(tmp_path / name)])
