"""Directories of any name, under locales with and without UTF-8."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from commands import ROOT, command, environment, run, saved_steps, status

NAME = os.fsdecode(b" [1] *?{x}$HOME$ 'q\" \\ #%41\n[/b] :smile: \xe9\xf0\x9f\x99\x82 ~")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
LATIN = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}


def train(workdir, locale, *options):
    words = [*command("train", workdir, log__tensorboard=True), *options]
    done = subprocess.run(words, cwd=ROOT, env=environment(**locale), capture_output=True)
    assert done.returncode == 0, done
    assert not done.stderr
    return done.stdout


def test_a_run_in_a_directory_of_any_name(tmp_path, monkeypatch):
    workdir = tmp_path / NAME
    workdir.parent.mkdir()
    title = r" [1] *?{x}$HOME$ 'q" '"' r" \ #%41\n["
    assert title in train(workdir, ASCII, "--profile=2:4").decode("ascii")
    assert saved_steps(workdir) == [5, 10]
    assert list(workdir.glob("profile/**/perfetto_trace.json.gz"))
    shutil.rmtree(workdir / "checkpoints" / "10")
    assert "checkpoint of step 5" in train(workdir, LATIN).decode("latin-1")
    assert status(workdir)["state"] == "done"
    assert saved_steps(workdir) == [5, 10]
    result = run("evaluate", workdir, "--json")
    assert json.loads(result.stdout)["accuracy"] == status(workdir)["result"]["accuracy"], result
    # As long as a name may be.
    out = workdir / ("é" * 121 + ".safetensors")
    assert run("export", workdir, f"--out={out}").returncode == 0
    assert out.is_file()
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [*command("x", "")[:1], Path(ROOT, "launch.py"), "report", tmp_path],
        env=environment(PYTHONPATH=str(ROOT), **ASCII), capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert (tmp_path / "report" / "report.html").is_file()
