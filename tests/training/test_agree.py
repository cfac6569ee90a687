"""What all processes of a run must have alike, without processes: `test_hosts.py` starts some."""

import json

import pytest

from resnet_jax.config import override, same_everywhere
from resnet_jax.errors import UserError
from resnet_jax.training import hosts
from resnet_jax.training.progress import Reporter


def agree_with(monkeypatch, mine, other, index=0):
    told = [mine, other] if index == 0 else [other, mine]
    monkeypatch.setattr(hosts, "exchange", lambda _: [json.dumps(facts) for facts in told])
    monkeypatch.setattr("jax.process_index", lambda: index)
    hosts.agree(mine)


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 5), ("train.steps_per_call", 2), ("parallel.mode", "pmap")]
)
def test_a_field_that_differs_is_told_by_the_first_process(
    small_config, monkeypatch, capsys, field, value
):
    mine = same_everywhere(small_config)
    other = same_everywhere(override(small_config, {field: value}))
    with pytest.raises(UserError, match=f"{field} = .+: process 1 has {value}; run the same"):
        agree_with(monkeypatch, mine, other)
    with pytest.raises(SystemExit, match="2"):
        agree_with(monkeypatch, other, mine, index=1)
    assert capsys.readouterr() == ("", "")


def test_each_process_may_have_its_own_place_of_the_data(small_config, monkeypatch):
    own = override(small_config, {"data.data_dir": "/elsewhere", "data.num_threads": 9})
    agree_with(monkeypatch, same_everywhere(small_config), same_everywhere(own))
    hosts.agree(same_everywhere(own))


def test_checkpoints_that_one_process_does_not_see_are_told(monkeypatch):
    with pytest.raises(UserError, match=r"checkpoints = \[5\]: process 1 has \[\]; .*file system"):
        agree_with(monkeypatch, {"checkpoints": [5]}, {"checkpoints": []})


def test_what_a_quiet_process_warns_of_is_not_lost(capsys):
    Reporter(quiet=True).warn("damaged image: [a].jpg")
    assert capsys.readouterr() == ("", "warning: process 0: damaged image: [a].jpg\n")
