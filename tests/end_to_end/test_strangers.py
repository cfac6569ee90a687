"""Directories of other people: what a command reads and writes is what its user named."""

import json
import os
import shutil
from operator import attrgetter

import numpy as np
import pytest
from ml_collections import ConfigDict

from resnet_jax import origin
from resnet_jax.analysis.deepen import config_text
from resnet_jax.cli import main
from resnet_jax.config import FIELDS, default_config, override
from resnet_jax.errors import UserError
from resnet_jax.report.study import read_study
from resnet_jax.sweeps import executors
from resnet_jax.sweeps.slurm_queue import recorded_jobs
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.lock import Lock
from resnet_jax.training.run_directory import RunDirectory

FOLDER = {"data.name": "folder:images", "data.data_dir": "/data", "data.cache_dir": "/cache"}
DATA = ("data.name", "data.data_dir")


def make_run(path, fields=None):
    run = RunDirectory(path)
    run.create(override(default_config(), fields or {}).to_dict())
    run.unlock()
    return run


@pytest.fixture
def own(tmp_path):
    return make_run(tmp_path / "own", FOLDER)


@pytest.fixture
def received(own, tmp_path):
    shutil.copytree(own.path, tmp_path / "received")
    (tmp_path / "received" / ".origin").unlink()
    return RunDirectory(tmp_path / "received")


def test_paths_of_the_users_own_run_and_of_its_copies_are_used(own, tmp_path):
    shutil.copytree(own.path, tmp_path / "copy")
    for run in (own, RunDirectory(tmp_path / "copy")):
        config = run.load_config({})
        assert {name: attrgetter(name)(config) for name in FOLDER} == FOLDER
        run.refuse_unconfirmed(*DATA)


def test_paths_of_a_received_run_are_ignored_or_confirmed(received):
    assert received.load_config({}).data.cache_dir is None
    received.refuse_unconfirmed("model.init_from")
    fix = "add --config.data.name=folder:images --config.data.data_dir=/data$"
    with pytest.raises(UserError, match=f"^data.name = 'folder:images': is named by .*{fix}"):
        received.refuse_unconfirmed(*DATA)
    config = received.load_config(FOLDER)
    received.refuse_unconfirmed(*DATA)
    assert config.data.cache_dir == "/cache"


@pytest.mark.parametrize("name", ["folder:images", "folder:a/b..c"])
def test_a_folder_in_a_directory_that_the_user_names_is_named(tmp_path, name):
    run = make_run(tmp_path / "run", FOLDER | {"data.name": name})
    (run.path / ".origin").unlink()
    run.load_config({"data.data_dir": "/mine"})
    run.refuse_unconfirmed(*DATA)


@pytest.mark.parametrize(
    "name",
    ["folder:../etc", "folder:/etc", "folder:~", "folder:a/../..", "hf:name", "kaggle:x", "a/../b"],
)
def test_a_path_that_leads_elsewhere_is_not_named_by_its_directory(tmp_path, name):
    run = make_run(tmp_path / "run", {"data.name": name})
    (run.path / ".origin").unlink()
    run.load_config({"data.data_dir": "/mine"})
    with pytest.raises(UserError, match="data.name"):
        run.refuse_unconfirmed(*DATA)


def test_a_name_alone_needs_no_confirmation(tmp_path):
    for name in ("digits", "synthetic", "cifar10", "imagenette/320px-v2"):
        run = make_run(tmp_path / name, {"data.name": name})
        (run.path / ".origin").unlink()
        run.load_config({})
        run.refuse_unconfirmed(*DATA)


def test_an_edited_path_is_anothers(own):
    path = own.path / "config.json"
    path.write_text(path.read_text().replace('"/cache"', '"/other"'))
    assert own.load_config({}).data.cache_dir is None


def test_a_confirmed_path_must_be_the_one_of_the_run(received):
    with pytest.raises(UserError, match="belongs to the run"):
        received.load_config({"data.name": "folder:/etc"})


def test_a_run_of_an_earlier_version_is_signed_by_the_command_that_trains_it(received):
    other = override(default_config(), FOLDER | {"data.cache_dir": None}).to_dict()
    received.create(other)
    received.unlock()
    # That command named no cache.
    assert received.load_config({}).data.cache_dir is None
    received.create(override(default_config(), FOLDER).to_dict())
    received.unlock()
    assert received.load_config({}).data.cache_dir == "/cache"


def test_every_field_that_can_be_a_path_is_known_as_one():
    words = ("directory", "PATH", "file,", "cache")
    named = {name for name, f in FIELDS.items() if any(word in f.meaning for word in words)}
    assert named <= {name for name, field in FIELDS.items() if field.path}


@pytest.mark.parametrize("lock", [".lock", ".sweep.lock", ".workers.lock"])
def test_a_lock_is_not_written_through_a_link(tmp_path, lock):
    (tmp_path / "bashrc").write_text("alias ls=ls\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock).symlink_to(tmp_path / "bashrc")
    if lock == ".lock":
        with pytest.raises(OSError, match="symbolic links"):
            Lock(tmp_path / "run" / lock).acquire()
    else:
        hold = executors.hold(SweepDirectory(tmp_path / "run"))
        with pytest.raises(UserError, match="cannot be written"), hold:
            pass
    assert (tmp_path / "bashrc").read_text() == "alias ls=ls\n"


def test_a_received_directory_is_not_trained_in_through_links(received, tmp_path):
    (tmp_path / "outside").mkdir()
    (received.path / "checkpoints").symlink_to(tmp_path / "outside")
    config = override(default_config(), FOLDER).to_dict()
    with pytest.raises(UserError, match="is a link to"):
        received.create(config)
    assert not origin.is_own(received.path)
    assert not list((tmp_path / "outside").iterdir())


def test_links_of_the_users_own_run_are_followed(own, tmp_path):
    (tmp_path / "scratch").mkdir()
    (own.path / "checkpoints").symlink_to(tmp_path / "scratch")
    own.load_config({})
    own.create(override(default_config(), FOLDER).to_dict())


STUDY = {
    "name": "study",
    "form": None,
    "title": "A study",
    "description": "A study",
    "config": {"seed": 0},
    "runs": [{"id": "seed=0", "overrides": {"seed": 0}, "parameters": 1, "macs": 2}],
}


def write_study(path, study):
    path.mkdir(exist_ok=True)
    (path / "sweep.json").write_text(json.dumps(study) if not isinstance(study, str) else study)
    return SweepDirectory(path)


@pytest.mark.parametrize(
    "run_id",
    ["../x", "/etc", "a/b", "", ".", "..", ".hidden", "-x", "a\0", "x" * 256, "\ud800", 3, None],
    ids=ascii,
)
def test_ids_that_are_no_name_of_a_run_are_refused(tmp_path, run_id):
    runs = [STUDY["runs"][0] | {"id": run_id}]
    with pytest.raises(UserError, match="is not the id of a run"):
        write_study(tmp_path, STUDY | {"runs": runs}).read()


@pytest.mark.parametrize("run_id", ["train_split=train[:10%]", "base", "é", "x" * 255])
def test_ids_of_earlier_versions_are_read(tmp_path, run_id):
    runs = [STUDY["runs"][0] | {"id": run_id}]
    assert write_study(tmp_path, STUDY | {"runs": runs}).read()["runs"] == runs


@pytest.mark.parametrize(
    "study",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        {},
        *(STUDY | {name: 5} for name in STUDY),
        STUDY | {"config": {"seed": [[1]]}},
        STUDY | {"search": "optuna"},
    ],
    ids=range(13),
)
def test_an_odd_sweep_file_is_one_line(tmp_path, capsys, study):
    write_study(tmp_path / "sweep", study)
    assert main(["report", str(tmp_path / "sweep")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(
    "run",
    [
        5,
        {"id": "a"},
        STUDY["runs"][0] | {"overrides": {"seed": {"a": 1}}},
        STUDY["runs"][0] | {"macs": "many"},
        STUDY["runs"][0] | {"id": "../../private"},
    ],
    ids=range(5),
)
def test_an_odd_run_of_a_sweep_is_refused_and_unreadable_in_a_report(tmp_path, run):
    directory = write_study(tmp_path / "sweep", STUDY | {"runs": [*STUDY["runs"], run]})
    with pytest.raises(UserError, match="cannot be read"):
        directory.read()
    study = read_study([str(directory.path)])
    assert [run.state for run in study.runs] == ["pending", "unreadable"]


@pytest.mark.parametrize("name", ["sweep.json", "runs", "runs/seed=0", "runs/seed=0/status.json"])
def test_links_of_a_received_sweep_are_refused(tmp_path, name):
    directory = write_study(tmp_path / "sweep", STUDY)
    link = directory.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link to"):
        directory.read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"jobs": [{"id": "../../x", "runs": []}]}',
        '{"jobs": [{"id": "1", "runs": ["/"]}]}',
    ],
)
def test_an_odd_record_of_slurm_jobs_is_refused(tmp_path, text):
    (tmp_path / "slurm.json").write_text(text)
    with pytest.raises(UserError, match=r"slurm\.json': cannot be read"):
        recorded_jobs(SweepDirectory(tmp_path))


HOSTILE = [
    '"""\nimport os\n"""',
    "\\",
    "'\"",
    '{config}"""',
    "\ud800",
    "\r\nraise SystemExit\n",
    "é",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_of_a_received_run_is_text_in_the_config_that_deepen_writes(tmp_path, text):
    config = override(default_config(), {"data.name": f"folder:{text}", "data.train_split": text})
    source = config_text(config, f"{text} at step 3", tmp_path / "deepened.py")
    names: dict[str, object] = {"__file__": "deepened.py", "__name__": "deepened"}
    exec(compile(source, "deepened.py", "exec"), names)
    made: ConfigDict = names["get_config"]()  # type: ignore[operator]
    assert (made.data.name, made.data.train_split) == (f"folder:{text}", text)
    assert set(names) - {"__builtins__"} == {
        "__file__", "__name__", "__doc__", "Path", "ConfigDict", "default_config", "get_config",
    }  # fmt: skip


def test_a_pickle_in_the_files_of_a_stopped_analysis_is_not_run(tmp_path):
    from resnet_jax.analysis.items import _read

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "kept.npz", value=np.array([Evil()], object))
    with np.load(tmp_path / "kept.npz") as content, pytest.raises(ValueError, match="pickle"):
        content["value"]
    assert _read(tmp_path / "kept.npz") == []
    assert not (tmp_path / "ran").exists()
