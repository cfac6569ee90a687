"""Commands and instruments are found by name, and JAX is imported only by what needs it."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import resnet_jax.analysis
from resnet_jax import cli
from resnet_jax.analysis.instruments import INSTRUMENTS

HELP = "import sys; from resnet_jax import cli\ntry: cli.main({!r})\nexcept SystemExit: pass\nprint(sorted(sys.modules))"


def printed_help(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help"])
    assert stop.value.code == 0
    return unwrapped(capsys.readouterr().out)


def unwrapped(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    "words",
    [
        [],
        *([command] for command in cli.COMMANDS),
        *(["analyze", instrument] for instrument in INSTRUMENTS),
    ],
    ids=" ".join,
)
def test_help_imports_no_jax(words):
    code = HELP.format([*words, "--help"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    modules = done.stdout.splitlines()[-1]
    assert not [name for name in ("jax", "numpy", "rich", "matplotlib") if f"'{name}'" in modules]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_line_and_a_page_of_help(command, capsys):
    assert cli.COMMANDS[command] in printed_help(capsys)
    module = importlib.import_module(f"resnet_jax.cli.{command}")
    assert unwrapped(module.DESCRIPTION) in printed_help(capsys, command)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_has_a_line_and_a_page_of_help(name, capsys):
    instrument = INSTRUMENTS[name]
    assert instrument.help_line in printed_help(capsys, "analyze")
    page = printed_help(capsys, "analyze", name)
    assert unwrapped(instrument.description) in page
    assert all(option in page for option in ("--out", "--seed", "--json", *instrument.options))
    assert ("--workdir" in page) == (instrument.examples is not None)


def test_instruments_are_the_modules_that_analyze():
    modules = [
        importlib.import_module(f"resnet_jax.analysis.{module.name}")
        for module in pkgutil.iter_modules(resnet_jax.analysis.__path__)
    ]
    found = {
        m.__name__.rpartition(".")[2] for m in modules if callable(getattr(m, "analyze", None))
    }
    assert found - {"analyze"} == set(INSTRUMENTS)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["train", "--learning_rate=0.2"], "did you mean --config.optimizer.learning_rate=0.2?"),
        (["analyze", "lesion", "--max-deleted=3"], "did you mean --max_deleted?"),
        (["report", "DIR", "--config.seed=1"], "--config.seed"),
    ],
)
def test_unknown_arguments_are_refused_with_a_hint(words, fix, capsys):
    if words[0] == "train":
        words = [*words, "--config=configs/digits.py", "--workdir=DIR"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert fix in error
