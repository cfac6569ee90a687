"""Bad input is one clear line, exit code 2, and nothing half-written."""

import json
import shutil

import pytest
from commands import ROOT, SMALL, launch

from resnet_jax.cli import main
from resnet_jax.config import default_config
from resnet_jax.training.run_directory import RunDirectory

DIGITS = f"--config={ROOT}/configs/digits.py"


def refused(capsys, *words):
    """The one line that a refused command prints."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    return captured.err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--config.model.dpeth=20", "did you mean 'model.depth'"),
        ("--config.model.depth=deep", "model.depth = 'deep': must be a whole number"),
        ("--config.model.depth=21", "model.depth = 21: allowed: 6n+2"),
        ("--config.model.shortcut=E", "model.shortcut = 'E': allowed: none, A, B, C, D, constant"),
        ("--config.model.branch_init=fixup", "fixup needs norm 'none'"),
        ("--config.model.freeze=stm", "model.freeze = 'stm': allowed: head, stage1, stage2"),
        ("--config.model.init_from=nowhere.safetensors", "no file of weights"),
        ("--config.model.init_from=README.md", "must end with .safetensors"),
        ("--config.evaluate.scales=0", "must be from 1 to 8192"),
        (
            "--config.evaluate.scales=3 --config.model.stem=patchify",
            "evaluate.scales = 3: images of 3 pixels are too small",
        ),
        ("--config.model.freeze=stem,stage1,stage2,stage3,head", "leaves nothing to train"),
        ("--config.data.name=cifar01", "did you mean 'cifar10'"),
        ("--config.data.name=cifar-10", "did you mean 'cifar10'?"),
        ("--config.data.name=CIFAR10", "did you mean 'cifar10'?"),
        ("--config.data.name=imagenet", "did you mean 'imagenet2012'?"),
        (f"--config.data.name={ROOT}", f"did you mean 'folder:{ROOT}'?"),
        ("--config.model.shortcut=b", "did you mean 'B'?"),
        ("--config.optimizer=adamw", "is a section; name one of its fields: optimizer.name, "),
        ("config.model.depth=8", "did you mean --config.model.depth=8?"),
        ("-config.model.depth=8", "did you mean --config.model.depth=8?"),
        (f"--config={ROOT}/configs/digit.py", f"did you mean {ROOT}/configs/digits.py?"),
        (f"--config={ROOT}/configs/sweeps", "it is a directory; give one of its files: "),
        ("--lr=0.5", "did you mean --config.optimizer.learning_rate=0.5?"),
        ("--epochs=5", "did you mean --config.train.duration='5 epochs'?"),
        ("--work-dir=x", "did you mean --workdir?"),
        ("--config.data.data_dir=nowhere --config.data.name=cifar10", "launch.py prepare cifar10"),
        ("--config.data.eval_split=dev", "digits has train, test"),
        ("--config.data.pad=8", "smaller than the images of digits (8×8)"),
        ("--config.optimizer.name=adm", "did you mean 'adamw'"),
        (
            "--config.schedule.name=linear",
            "schedule.name = 'linear': allowed: constant, step, cosine",
        ),
        ("--config.parallel.num_devices=8 --config.train.batch_size=12", "nearest: 8 or 16"),
        ("--config.optimizer.learning_rate=1e999", "learning_rate = inf: must be finite"),
        ("--config.train.duration=1e999epochs", "must be finite"),
        ("--config.model.dtype=float16", "is not for training: its gradients underflow"),
        (
            "--config.model.family=imagenet --config.model.depth=18 --config.train.batch_size=1"
            " --config.parallel.num_devices=1",
            "train.batch_size = 1: leaves one image to a batch norm",
        ),
        ("--config.train.duration=-1", "train.duration = -1: must be greater than 0"),
        ("--config.train.duration=0 --config.train.batch_size=8", "must be greater than 0"),
        ("--config.model.num_classes=100", "digits has 10 classes"),
        ("--config.model.depth", "write --config.model.depth=VALUE"),
        ("--steps=3", "argument = '--steps=3': is unknown"),
        ("--config=nowhere.py", "no such file"),
    ],
)
def test_train_refuses_and_writes_nothing(capsys, tmp_path, option, words):
    workdir = tmp_path / "run"
    command = ["train", DIGITS, f"--workdir={workdir}", *option.split()]
    assert words in refused(capsys, *command)
    assert not workdir.exists()


def test_config_file_that_raises(capsys, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def get_config():\n    return 1 / 0\n")
    message = refused(capsys, "train", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert "raised ZeroDivisionError: division by zero" in message


def test_work_directory_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "train", DIGITS, f"--workdir={tmp_path / 'file' / 'run'}")
    assert "cannot be written (Not a directory)" in message


def test_work_directory_with_something_else_in_it(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    message = refused(capsys, "train", DIGITS, f"--workdir={tmp_path}")
    assert "is not empty and holds no run" in message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("option", "words"),
    [("--json", "nothing was trained there"), ("--step=x", "nothing was trained")],
)
def test_evaluate_where_nothing_was_trained(capsys, tmp_path, option, words):
    assert words in refused(capsys, "evaluate", f"--workdir={tmp_path}", option)


@pytest.fixture
def sweep_directory(tmp_path):
    """A sweep as it looks from outside: its file, and runs with a config each."""
    directory = tmp_path / "study"
    for seed in range(6):
        RunDirectory(directory / "runs" / f"seed={seed}").create(default_config().to_dict())
    (directory / "sweep.json").write_text("{}")
    return directory


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["export", "--out=x.stablehlo"],
        ["analyze", "gradients", "--out=x"],
        ["train", DIGITS],
    ],
    ids=lambda words: words[0],
)
def test_a_sweep_is_not_a_run_and_its_runs_are_named(capsys, sweep_directory, words):
    message = refused(capsys, *words, f"--workdir={sweep_directory}")
    assert "is a sweep, not a run; give one of its runs: " in message
    assert f"{sweep_directory}/runs/seed=0, " in message
    assert message.strip().endswith("and 3 more")
    message = refused(capsys, *words, f"--workdir={sweep_directory / 'runs'}")
    assert (
        f"is a folder of runs, not a run; give one of them: {sweep_directory}/runs/seed=0"
        in message
    )
    inside = sweep_directory / "runs" / "seed=0" / "checkpoints"
    inside.mkdir()
    (inside / "5").touch()
    message = refused(capsys, *words, f"--workdir={inside}")
    assert f"is a part of a run directory; give the run: {inside.parent}" in message


@pytest.mark.parametrize("option", ["--max_parallel=1", "--dry_run"])
def test_a_run_is_not_a_sweep(capsys, sweep_directory, option):
    words = ["sweep", f"--config={ROOT}/configs/sweeps/depth.py", option]
    message = refused(capsys, *words, f"--workdir={sweep_directory}/runs/seed=0")
    assert "is the directory of a run, not of a sweep; use another directory" in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([DIGITS], "has no function sweep(); to train one run use the command `train`"),
        ([f"--config={ROOT}/configs/sweeps/depth.py:ful"], "did you mean 'full'?"),
        ([f"{DIGITS}:foo"], "this file has no forms (FORMS); give "),
        (
            ["--search=optuna"],
            "--trials = None: must be 1 or more: how many runs the search trains",
        ),
        (["--search=optuna", "--trials=3"], "states no ranges"),
        (["--trials=3"], "needs --search=optuna"),
        (["--search"], "expected one argument"),
        (["--search=bayes", "--trials=3"], "allowed: optuna"),
        (["--max_parallel=0"], "must be 1 or more"),
    ],
)
def test_sweep_refuses(capsys, tmp_path, words, expected):
    if not words[0].startswith("--config"):
        words = [f"--config={ROOT}/configs/sweeps/depth.py", *words]
    if words[-1] == "--search":
        with pytest.raises(SystemExit) as error:
            main(["sweep", f"--workdir={tmp_path / 'study'}", *words])
        assert (error.value.code, expected in capsys.readouterr().err) == (2, True)
    else:
        assert expected in refused(capsys, "sweep", f"--workdir={tmp_path / 'study'}", *words)
    assert not (tmp_path / "study").exists()


RANGES = """
from resnet_jax.config import default_config as get_config
from resnet_jax.sweeps.grid import log_uniform


def sweep():
    return {"optimizer.learning_rate": log_uniform(0.01, 1.0)}
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "states ranges, so it is a search; add --search=optuna --trials=N"),
        (["--search=optuna"], "--trials = None: must be 1 or more"),
        (["--search=optuna", "--trials=0"], "--trials = 0: must be 1 or more"),
        (["--dry_run"], "states ranges, so it is a search; add --search=optuna"),
        (["--dry_run", "--search=optuna", "--trials=2"], "a search has no list of runs"),
    ],
)
def test_a_study_of_ranges_is_refused_without_a_search(capsys, tmp_path, options, expected):
    (tmp_path / "study.py").write_text(RANGES)
    words = ["sweep", f"--config={tmp_path / 'study.py'}", f"--workdir={tmp_path / 'study'}"]
    assert expected in refused(capsys, *words, *options)
    assert not (tmp_path / "study").exists()


def test_a_directory_that_does_not_exist(capsys, tmp_path):
    message = refused(capsys, "evaluate", f"--workdir={tmp_path / 'nowhere'}")
    assert "does not exist; give the directory of a run" in message


def test_usage_errors_have_exit_code_2_too(capsys):
    for words in ([], ["trian"], ["train"], ["evaluate"]):
        with pytest.raises(SystemExit) as error:
            main(words)
        assert error.value.code == 2
    assert "usage: resnet-jax" in capsys.readouterr().err


def test_help_at_each_level(capsys):
    for words, expected in (
        ([], "prepare"),
        (["train"], "--config.model.shortcut"),
        (["evaluate"], "--json"),
        (["prepare"], "--manual_dir"),
    ):
        with pytest.raises(SystemExit) as error:
            main([*words, "--help"])
        assert error.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    assert launch("train", workdir, train__duration="2 steps").returncode == 0
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    return workdir


def test_another_config_is_refused_with_the_difference(capsys, run):
    before = (run / "config.json").read_text()
    message = refused(capsys, "train", DIGITS, f"--workdir={run}", "--config.model.depth=14")
    assert "model.depth: 8 → 14" in message
    assert (run / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--step=7", "has 2"),
        ("--step=last", "allowed: latest, best, or a number"),
        ("--split=dev", "digits has train, test"),
        ("--config.model.depth=14", "belongs to the run"),
        ("--config.nonsense=1", "no such config field"),
    ],
)
def test_evaluate_refuses(capsys, run, option, words):
    assert words in refused(capsys, "evaluate", f"--workdir={run}", option)


def damage_array(run):
    for path in (run / "checkpoints" / "2" / "state" / "ocdbt.process_0" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:100])


def lose_state(run):
    shutil.rmtree(run / "checkpoints" / "2" / "state")


def change_depth(run):
    config = json.loads((run / "config.json").read_text())
    config["model"]["depth"] = 14
    (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_array, "is damaged"),
        (lose_state, "is damaged"),
        (change_depth, "is of another model or optimiser"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named(capsys, run, damage, words):
    damage(run)
    message = refused(capsys, "evaluate", f"--workdir={run}")
    assert "checkpoints/2" in message
    assert words in message
    assert "remove" not in message


def test_an_edited_config_json_is_found_and_restored_by_what_the_messages_say(capsys, run):
    original = (run / "config.json").read_text()
    change_depth(run)
    message = refused(capsys, "evaluate", f"--workdir={run}")
    assert "config.json, which differs from what was trained" in message
    assert "the `train` command that made the run lists the fields that differ" in message
    fields = SMALL | {"train.duration": 2}
    words = [f"--config.{field}={value}" for field, value in fields.items()]
    message = refused(capsys, "train", DIGITS, f"--workdir={run}", *words)
    assert "holds a run of another config: model.depth: 14 → 8; use" in message
    config = json.loads((run / "config.json").read_text())
    config["model"]["depth"] = 8
    (run / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    assert (run / "config.json").read_text() == original
    assert main(["evaluate", f"--workdir={run}", "--json"]) == 0


def test_damaged_config_json(capsys, run):
    (run / "config.json").write_text("{")
    assert "config.json" in refused(capsys, "evaluate", f"--workdir={run}")


def test_prepare_refuses(capsys, tmp_path):
    assert "needs no preparation" in refused(capsys, "prepare", "digits")
    assert "no such data set" in refused(capsys, "prepare", "nosuchset")
    missing = refused(capsys, "prepare", "fashion_mnist", f"--manual_dir={tmp_path}")
    assert "train-images-idx3-ubyte.gz" in missing
