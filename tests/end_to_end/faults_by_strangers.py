"""Directories that somebody else made: each does what its docstring says, and returns what came of it."""

import contextlib
import io
import json

import jax
from commands import command_line, run
from faulty_runs import Outcome, content, copy_of_undisturbed, refused, short
from jax.experimental.compilation_cache import compilation_cache

from resnet_jax.cli import main


def received(directory, **fields):
    """A run of another user, whose config names what it likes."""
    workdir = copy_of_undisturbed(directory)
    (workdir / ".origin").unlink()
    config = json.loads((workdir / "config.json").read_text())
    for name, value in fields.items():
        section, field = name.split("__")
        config[section][field] = value
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


@contextlib.contextmanager
def fresh_start():
    """As in a process that has not looked for compiled programs yet."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()


def received_compiled_programs(directory):
    """A received run whose `data.cache_dir` has compiled programs, which are machine code, in it"""
    cache = directory / "run" / "cache"
    workdir = received(directory, data__cache_dir=str(cache))
    (cache / "compiled").mkdir(parents=True)
    (cache / "compiled" / "jit_evaluate-cache").write_bytes(b"patched")
    before = content(cache)
    with fresh_start(), contextlib.redirect_stdout(io.StringIO()):
        assert main(["evaluate", f"--workdir={workdir}", "--json"]) == 0
        assert not jax.config.jax_compilation_cache_dir.startswith(str(directory))
    assert content(cache) == before
    return Outcome("neither read nor written: those of the user's own cache are used", [0])


def received_paths(directory):
    """A received run whose config.json names images of the user's"""
    workdir = received(directory, data__name="folder:/home", data__data_dir="/etc")
    before = content(workdir)
    message = refused(run("evaluate", workdir), "--config.data.name=folder:/home", "data_dir=/etc")
    words = "analyze", "gradients", f"--workdir={workdir}", "--examples=8"
    refused(command_line().run(*words), "--config.data.name=folder:/home")
    assert content(workdir) == before
    return Outcome(f"`{short(message, 400)}`", [2, 2])


def links_in_report_and_analysis(directory):
    """A received run with links: in `report/` to a shell's start-up file, `analysis/` to a directory outside"""
    start_up, outside, folder = (directory / name for name in ("bashrc", "outside", "folder"))
    start_up.write_text("alias ls=ls\n")
    outside.mkdir()
    folder.mkdir()
    workdir = received(folder)
    (workdir / "report").mkdir()
    for name in ("report.html", "report.md", "report_runs.csv", "report_curves.png"):
        (workdir / "report" / name).symlink_to(start_up)
    message = refused(command_line().run("report", workdir), "is a link to", "bashrc")
    # In a folder of runs, that one cannot be read, and the files of the report replace the links.
    copy_of_undisturbed(folder, "other")
    (folder / "report").symlink_to(outside)
    refused(command_line().run("report", folder), "is a link to", "outside")
    (folder / "report").unlink()
    (workdir / "report").rename(folder / "report")
    assert command_line().run("report", folder).returncode == 0
    assert not (folder / "report" / "report.html").is_symlink()
    (workdir / "analysis").symlink_to(outside)
    words = "analyze", "gradients", f"--workdir={workdir}", "--examples=8"
    refused(command_line().run(*words), "is a link to", "outside")
    assert start_up.read_text() == "alias ls=ls\n"
    assert not list(outside.iterdir())
    return Outcome(f"`{short(message, 250)}`", [2, 2, 0, 2])


def run_ids_that_lead_outside(directory):
    """A received sweep.json whose run ids are `../../private`, an absolute path, empty, or numbers"""
    private = received(directory)
    sweep = directory / "sweep"
    (sweep / "runs").mkdir(parents=True)
    names = dict.fromkeys(("name", "title", "description"), "study")
    for run_id in ("../../run", str(private), "", ".", "a\0b", 7, ["a"]):
        runs = [{"id": run_id, "overrides": {}, "parameters": 1, "macs": 1}]
        study = {**names, "form": None, "config": {}, "runs": runs}
        (sweep / "sweep.json").write_text(json.dumps(study))
        done = command_line().run("report", sweep)
        assert done.returncode == 0, done
        (line,) = (sweep / "report" / "report_runs.csv").read_text().splitlines()[1:]
        assert "is not the id of a run" in line
        assert "unreadable" in line
        assert "digits" not in line
    return Outcome(
        "an unreadable run in the report, with the reason; nothing outside was read", [0]
    )
