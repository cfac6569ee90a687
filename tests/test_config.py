"""Configs: defaults, overrides, checks, durations."""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from resnet_jax.config import (
    FIELDS,
    OTHER_NAMES,
    Config,
    base_config,
    canonical,
    default_config,
    describe_fields,
    differences,
    field_meant,
    flatten,
    load_config,
    override,
    to_steps,
    validate,
    with_fields,
)
from resnet_jax.errors import UserError, most_like, nearest
from resnet_jax.training.hyperparameters import program_key

ROOT = Path(__file__).parent.parent
CONFIGS = sorted([*ROOT.glob("configs/*.py"), *ROOT.glob("configs/imagenet/*.py")])


def test_defaults_are_legal_and_every_field_has_a_meaning():
    assert validate(default_config()) == Config()
    assert repr(default_config().to_dict()) == repr(Config().to_dict())
    assert all(field.meaning for field in FIELDS.values())
    assert all(f"--config.{name}=" in describe_fields() for name in FIELDS)


@pytest.mark.parametrize(
    ("name", "kind", "optional"),
    [
        ("seed", "int", False),
        ("model.block", "str", True),
        ("model.scan_blocks", "bool", True),
        ("model.freeze", "strs", False),
        ("data.mean", "floats", True),
        ("train.duration", "duration", False),
        ("schedule.boundaries", "durations", False),
        ("evaluate.scales", "ints", False),
        ("evaluate.crop_fraction", "float", True),
    ],
)
def test_the_annotation_gives_the_kind_of_a_field(name, kind, optional):
    assert (FIELDS[name].kind, FIELDS[name].optional) == (kind, optional)


def test_a_config_is_replaced_and_does_not_change():
    config = with_fields(Config(), {"seed": 3, "train.batch_size": 64, "train.mixup": 0.2})
    assert (config.seed, config.train.batch_size, config.train.mixup) == (3, 64, 0.2)
    assert differences(Config().to_dict(), config.to_dict()) == [
        "seed: 0 → 3",
        "train.batch_size: 128 → 64",
        "train.mixup: 0.0 → 0.2",
    ]
    with pytest.raises(FrozenInstanceError):
        config.train.batch_size = 32
    with pytest.raises(TypeError, match="batchsize"):
        with_fields(Config(), {"train.batchsize": 64})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("batch_size", ""),
        ("batchsize", '"TrainConfig" has no attribute "batchsize"'),
        ("loss", "str"),
    ],
)
def test_the_type_checker_knows_the_fields(tmp_path, field, found):
    code = "from resnet_jax.config import Config\n\ndef size(config: Config) -> int:\n    return "
    (tmp_path / "reader.py").write_text(f"{code}config.train.{field}\n")
    command = [sys.executable, "-m", "mypy", str(tmp_path / "reader.py")]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert checked.returncode == bool(found), checked.stdout + checked.stderr
    assert found in checked.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_config_is_legal_and_says_how_to_run_it(path):
    validate(load_config(str(path)))
    assert f"--config={path.relative_to(ROOT)}" in path.read_text()


def test_every_default_survives_its_own_text_and_json():
    texts = {name: str(value) for name, value in flatten(default_config().to_dict()).items()}
    assert override(default_config(), texts).to_dict() == default_config().to_dict()
    restored = ConfigDict(json.loads(json.dumps(default_config().to_dict())))
    assert not differences(default_config().to_dict(), restored.to_dict())


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("model.depth", "56", 56),
        ("model.shortcut", "B", "B"),
        ("model.shortcut", "None", None),
        ("model.shortcut", "none", "none"),
        ("train.ema_decay", "none", None),
        ("optimizer.learning_rate", "1e-2", 0.01),
        ("optimizer.learning_rate", "1", 1),
        ("data.flip", "true", True),
        ("data.flip", "False", False),
        ("train.duration", "90 epochs", "90 epochs"),
        ("train.duration", "640", 640),
        ("schedule.boundaries", "30 epochs,60 epochs", ("30 epochs", "60 epochs")),
        ("schedule.boundaries", "(100, 200)", (100, 200)),
        ("schedule.boundaries", "()", ()),
    ],
)
def test_override_from_text(field, text, value):
    config = override(default_config(), {field: text})
    assert flatten(config.to_dict())[field] == value


# Field → spellings of one value, the canonical one first.
SPELLINGS = {
    "train.duration": (10, "10", "10 steps", "10 step", " 10  STEPS", 10.0, "10.0", "1e1 steps", np.int64(10)),
    "evaluate.every": ("2 epochs", "2.0 epochs", "2 epoch", "2epochs", "2e0 Epochs"),
    "checkpoint.every": ("1 epoch", "1 epochs", "1.0 epochs", "1. epoch"),
    "log.every": ("0.5 epochs", ".5 epochs", "5e-1 epoch"),
    "schedule.warmup": (0, "0", "0 epochs", "0.0 epochs", "0 steps", 0.0),
    "optimizer.weight_decay": (0.0001, "1e-4", "0.0001", 1e-4, "1E-4", ".0001"),
    "optimizer.learning_rate": (1.0, 1, "1", "1.0", "1e0", np.float64(1)),
    "data.brightness": (0.0, -0.0, "-0.0", 0),
    "train.batch_size": (1000, "1000", "1e3", 1e3, 1000.0, "1_000", np.int32(1000)),
    "data.flip": (True, "True", "true", "TRUE"),
    "data.cutout": (0, "0", 0.0, "-0"),
    "train.ema_decay": (None, "None", "none"),
    "model.shortcut": (None, "None"),
    "model.freeze": (("stem", "stage1"), ["stem", "stage1"], "stem, stage1", "('stem', 'stage1')"),
    "evaluate.scales": ((16, 24), [16, 24], "16,24", "[16, 24]", [16.0, "24"]),
    "schedule.boundaries": ((100, "2 epochs"), ["100 steps", "2.0 epochs"], "100, 2 epochs"),
}  # fmt: skip


@pytest.mark.parametrize("field", SPELLINGS)
def test_spellings_of_one_value_are_one_value_everywhere(field, tmp_path):
    expected, *others = SPELLINGS[field]
    base = default_config()
    config = override(base, {field: expected})
    for value in others:
        respelled = override(base, {field: value})
        assert repr(flatten(respelled.to_dict())[field]) == repr(expected)
        assert program_key(respelled) == program_key(config)
        # A run that an earlier version wrote with this spelling resumes.
        with base.unlocked():
            written = json.loads(json.dumps(base.to_dict(), default=str))
            section, name = field.split(".")
            written[section][name] = value if not hasattr(value, "dtype") else value.item()
        assert not differences(written, config.to_dict())


@given(st.sampled_from(["step", "epoch"]), st.integers(1, 10**6), st.integers(0, 3))
def test_a_duration_has_one_spelling_however_its_number_is_written(unit, number, zeros):
    plain = canonical("train.duration", f"{number} {unit}s")
    point = f"{number}.{'0' * zeros} {unit}"
    assert canonical("train.duration", point) == plain
    assert canonical("train.duration", f"{number / 1000!r}e3{unit}S") == plain
    assert canonical("train.duration", plain) == plain
    assert to_steps("train.duration", plain, 640, 64) == number * (10 if unit == "epoch" else 1)


@settings(max_examples=100)
@given(st.data())
def test_the_canonical_spelling_is_a_fixed_point_and_survives_text_and_json(data):
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    values = st.one_of(
        st.integers(-3, 300), st.floats(), st.booleans(), st.none(), st.text(max_size=5),
        st.sampled_from(["none", "True", "3 epochs", "1e2", "1, 2"]), st.lists(st.integers(1, 9)),
    )  # fmt: skip
    try:
        value = canonical(name, data.draw(values))
    except UserError:
        return
    assert repr(canonical(name, value)) == repr(value)
    assert repr(canonical(name, json.loads(json.dumps(value, allow_nan=False)))) == repr(value)
    if FIELDS[name].kind not in ("str", "strs"):
        assert repr(canonical(name, str(value))) == repr(value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model.dept", "3", "did you mean 'model.depth'"),
        ("model", "3", "is a section"),
        ("model.depth", "deep", "must be a whole number"),
        ("model.depth", "2.5", "must be a whole number"),
        ("model.depth", "True", "must be a whole number"),
        ("model.depth", "-3", "from 1 to 10000"),
        ("data.flip", "1", "must be True or False"),
        ("optimizer.learning_rate", "fast", "must be a number"),
        ("optimizer.learning_rate", float("nan"), "greater than 0"),
        ("optimizer.momentum", "1.0", "from 0 to 1"),
        ("optimizer.learning_rate", "1e999", "must be finite"),
        ("model.gate_bias", float("-inf"), "must be finite"),
        ("train.duration", "1e999 epochs", "must be finite"),
        ("train.duration", True, "must be a duration"),
        ("train.duration", [10], "must be a duration"),
        ("schedule.boundaries", 100, "must be a list of durations"),
        ("train.duration", "0 epochs", "greater than 0"),
        ("train.duration", "-5", "greater than 0"),
        ("train.duration", "10 miles", "write '64000 steps' or '90 epochs'"),
        ("train.duration", "1.5 steps", "whole number"),
        ("schedule.boundaries", "-3 epochs,", "greater than 0"),
        ("train.batch_size", "None", "must be a whole number"),
        ("seed", "-1", "from 0 to 4294967295"),
        ("model.depth", 10**9, "from 1 to 10000"),
        ("model.width_factor", 10**400, "from 1 to 1000000"),
        ("train.batch_size", 10**12, "from 1 to 10000000"),
        ("data.image_size", 10**6, "from 1 to 8192"),
        ("evaluate.scales", [224, 10**6], "from 1 to 8192"),
        ("data.num_threads", 10**6, "from 1 to 1024"),
        ("train.duration", 10**400, "must be a duration"),
    ],
)
def test_wrong_override_names_field_value_and_what_is_allowed(field, value, words):
    with pytest.raises(UserError) as error:
        override(default_config(), {field: value})
    message = str(error.value)
    assert field in message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("train.weight-decay", "optimizer.weight_decay"),
        ("Weight_Decay", "optimizer.weight_decay"),
        ("train.epochs", "train.duration', e.g. '64000 steps' or '90 epochs"),
        ("bs", "train.batch_size"),
        ("batchsize", "train.batch_size"),
        ("model.resnet_depth", "model.depth"),
        ("dataset", "data.name"),
        ("data.Name", "data.name"),
        ("model.DEPTH", "model.depth"),
    ],
)
def test_a_field_of_another_name_is_hinted_at(name, meant):
    with pytest.raises(
        UserError, match=re.escape(f"no such config field; did you mean '{meant}'?")
    ):
        override(default_config(), {name: "1"})


@pytest.mark.parametrize(("other", "field"), OTHER_NAMES.items())
def test_other_names_lead_to_fields_from_every_section(other, field):
    assert field in FIELDS
    assert field_meant(other) == field_meant(f"train.{other}") == field


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("b", ("none", "A", "B", "C"), "B"),
        ("CIFAR-10", ("cifar100", "cifar10", "cifar10_1"), "cifar10"),
        ("Full-Preactivation", ("original", "full_preactivation"), "full_preactivation"),
        ("adm", ("sgd", "adamw"), "adamw"),
        ("x", ("sgd", "adamw"), None),
    ],
)
def test_hints_do_not_count_case_and_hyphens(word, known, meant):
    assert most_like(word, known) == meant
    assert nearest(word, known) == (f"did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("x = 1", "no function get_config"),
        ("def get_config(): return 3", "returned int"),
        ("def get_config(): raise ValueError('broken\\nhere')", "raised ValueError: broken here"),
        ("import nosuchmodule", "nosuchmodule"),
        (
            "from resnet_jax.config import default_config\n"
            "def get_config():\n c = default_config()\n c.optimizer.lr = 1\n return c",
            "a field 'lr', which does not exist; did you mean config.optimizer.learning_rate[?]$",
        ),
        (
            "from ml_collections import ConfigDict\nfrom resnet_jax.config import default_config\n"
            "def get_config():\n c = default_config().unlock()\n c.optim = ConfigDict({'lr': 1})\n return c",
            "'optim.lr': no such config field; did you mean 'optimizer.learning_rate'",
        ),
        (
            "from resnet_jax.config import Config\n"
            "def get_config():\n c = Config()\n c.seed = 1\n return c",
            r"cannot assign to field 'seed'; start from default_config\(\)",
        ),
        ("def get_config(:", "SyntaxError"),
        (
            "from resnet_jax.config import default_config\n"
            "def get_config():\n c = default_config()\n c.model.detph = 3\n return c",
            "depth",
        ),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config(): return ConfigDict({'seed': 0})",
            "is missing",
        ),
    ],
)
def test_bad_config_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


def test_a_config_file_starts_from_another(tmp_path):
    (tmp_path / "base.py").write_text(
        "from resnet_jax.config import default_config\n"
        "def get_config():\n c = default_config()\n c.model.depth = 8\n return c"
    )
    base = base_config(str(tmp_path / "base.py"))
    base.train.batch_size = 64
    changed = with_fields(Config(), {"model.depth": 8, "train.batch_size": 64})
    assert validate(base) == changed
    # `get_config()` may also return a checked config.
    (tmp_path / "config.py").write_text(
        "from resnet_jax.config import load_config, override\n"
        f"def get_config():\n return override(load_config({str(tmp_path / 'base.py')!r}), {{'train.batch_size': 64}})"
    )
    assert load_config(str(tmp_path / "config.py")) == changed


@given(st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 4096))
def test_epochs_become_steps(epochs, examples, batch_size):
    steps = to_steps("train.duration", f"{epochs} epochs", examples, batch_size)
    assert steps == max(1, epochs * examples / batch_size)
    assert to_steps("train.duration", f"{epochs} steps", examples, batch_size) == epochs


def test_differences_leave_out_where_a_run_happens():
    old, new = default_config(), default_config()
    new.parallel.mode = "pmap"
    new.data.data_dir = "/elsewhere"
    assert not differences(old.to_dict(), new.to_dict())
    new.model.depth = 32
    assert differences(old.to_dict(), new.to_dict()) == ["model.depth: 20 → 32"]


@pytest.mark.parametrize("duration", ["1e18 steps", "1e18 epochs", 2**31])
def test_more_steps_than_an_optimizer_counts(duration):
    with pytest.raises(UserError, match="at most 2,147,483,647 steps"):
        to_steps("train.duration", duration, 1000, 10)
    assert to_steps("train.duration", 2**31 - 1, 1000, 10) == 2**31 - 1
