"""`use_huge_pages` in real processes: what one keeps that executes itself, and where none does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from resnet_jax import huge_pages
from resnet_jax.cli import main
from resnet_jax.huge_pages import ENABLED, TUNABLE, VARIABLE

ROOT = Path(__file__).parent.parent
SET = {"GLIBC_TUNABLES": f"{TUNABLE}=1", VARIABLE: "set"}
UNSET = {"GLIBC_TUNABLES": None, VARIABLE: None}
# Prints what it has become. The file counts the executions.
REPORT = """
import json, os, signal, sys
from resnet_jax import huge_pages
with open("times", "a") as file:
    file.write("x")
PREPARE
huge_pages.use_huge_pages()
print(json.dumps({
    "times": os.path.getsize("times"),
    "pid": os.getpid(),
    "argv": [os.fsencode(word).hex() for word in sys.argv],
    "options": [sys.warnoptions, sys._xoptions, sys.flags.optimize],
    "prefix": sys.prefix,
    "directory": os.getcwd(),
    "stdin": sys.stdin.readline(),
    "inherited": os.read(int(os.environ["PIPE"]), 9).decode() if "PIPE" in os.environ else "",
    "ignored": [signal.getsignal(s) == signal.SIG_IGN for s in (signal.SIGHUP, signal.SIGTERM)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    **{name: os.environ.get(name) for name in ("GLIBC_TUNABLES", huge_pages.VARIABLE)},
}))
"""


on_linux = pytest.mark.skipif(
    not huge_pages._has_effect(), reason="the kernel or the C library has no such setting"
)


@pytest.fixture
def script(tmp_path):
    def write(prepare=""):
        (tmp_path / "script.py").write_text(REPORT.replace("PREPARE", prepare))
        return "script.py"

    write()
    return write


def environment(**changes):
    """This process's, in which nothing has been set; None leaves a variable out."""
    variables = os.environ | UNSET | {"PYTHONPATH": str(ROOT)} | changes
    return {name: value for name, value in variables.items() if value is not None}


def ended(directory, *words, changes=None, **options):
    options = {"input": "", "env": environment(**changes or {})} | options
    if "stdin" in options:
        del options["input"]
    return subprocess.run(words, cwd=directory, capture_output=True, text=True, **options)


def reported(directory, *words, python=sys.executable, **options):
    done = ended(directory, python, *words, **options)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def settings(report):
    return {name: report[name] for name in SET}


@on_linux
def test_all_of_a_process_stays_but_the_settings(tmp_path, script):
    odd = [b"a b", b"--x=\xff\xfe", b"", b"$HOME;'\"\\", "é\n".encode()]
    read, write = os.pipe()
    os.write(write, b"inherited")
    words = [sys.executable, "-X", "dev", "-Wignore", "-X", "utf8=0", "-OO", script(), *odd]

    def prepare():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(PIPE=str(read)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[read],
        preexec_fn=prepare,
    )
    printed, _ = process.communicate(b"a line\n")
    os.close(read)
    os.close(write)
    report = json.loads(printed)
    assert settings(report) == SET
    assert report["times"] == 2
    assert report["pid"] == process.pid
    assert report["argv"] == [word.hex() for word in (b"script.py", *odd)]
    assert report["options"][0][-1] == "ignore"
    assert report["options"][1:] == [{"dev": True, "utf8": "0"}, 2]
    assert report["prefix"] == sys.prefix
    assert report["directory"] == str(tmp_path)
    assert (report["stdin"], report["inherited"]) == ("a line\n", "inherited")
    assert report["ignored"] == [True, False]
    assert report["blocked"] == [signal.SIGUSR2]


@on_linux
def test_a_name_of_python_that_is_searched_finds_the_same_environment(tmp_path, script):
    """As a virtual environment's Python is found: by its directory, not by where it leads."""
    found = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    name = Path(sys.executable).name
    report = reported(tmp_path, script(), "x", python=name, changes={"PATH": found})
    assert (report["times"], report["prefix"]) == (2, sys.prefix)


@on_linux
def test_other_tunables_are_kept(tmp_path, script):
    changes = {"GLIBC_TUNABLES": "glibc.malloc.check=0:glibc.malloc.arena_max=4"}
    report = reported(tmp_path, script(), "x", changes=changes)
    assert report["GLIBC_TUNABLES"] == f"{changes['GLIBC_TUNABLES']}:{TUNABLE}=1"


@on_linux
def test_where_the_setting_is_lost_it_is_not_tried_again(tmp_path, script):
    """As glibc removes it for a Python with file capabilities."""
    report = reported(tmp_path, script("os.environ.pop('GLIBC_TUNABLES', None)"), "x")
    assert (report["times"], settings(report)) == (2, {"GLIBC_TUNABLES": None, VARIABLE: "set"})


@pytest.mark.parametrize(
    "changes",
    [
        {"GLIBC_TUNABLES": f"{TUNABLE}=0"},
        {"GLIBC_TUNABLES": f"glibc.malloc.check=0:{TUNABLE}=2"},
        {VARIABLE: "off"},
        {VARIABLE: "set"},
    ],
)
def test_what_the_user_has_set_stays(tmp_path, script, changes):
    report = reported(tmp_path, script(), "x", changes=changes)
    assert report["times"] == 1
    assert settings(report) == UNSET | changes


TRACE = "sys.settrace(lambda *_: None)"
PROFILE = "sys.setprofile(lambda *_: None)"
MONITOR = "sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, 'a debugger')"
THREAD = (
    "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start()"
)
FAILS = "sys.executable = '/no/such/python'"
TOO_LONG = "os.environ['LARGE'] = 'x' * 2**20"
NEVER = "import pathlib; huge_pages.ENABLED = pathlib.Path('never'); huge_pages.ENABLED.write_text('always madvise [never]')"
NO_KERNEL = "import pathlib; huge_pages.ENABLED = pathlib.Path('absent')"
OTHER_LIBRARY = "os.confstr = int"  # ValueError for a name that it does not know, as with musl.
OLD_LIBRARY = "os.confstr = lambda name: 'glibc 2.34'"
MACOS = "sys.platform = 'darwin'; del os.confstr"
MORE_RIGHTS = "os.geteuid = lambda: os.getuid() + 1"


@pytest.mark.parametrize(
    "prepare",
    [
        TRACE,
        PROFILE,
        pytest.param(
            MONITOR, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="from 3.12 on")
        ),
        THREAD,
        FAILS,
        TOO_LONG,
        NEVER,
        NO_KERNEL,
        OTHER_LIBRARY,
        OLD_LIBRARY,
        MACOS,
        MORE_RIGHTS,
    ],
)
def test_a_process_that_cannot_goes_on_as_it_is(tmp_path, script, prepare):
    report = reported(tmp_path, script(prepare), "x")
    assert report["times"] == 1
    assert settings(report) == UNSET


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "pdb", "-c", "continue", "-c", "quit", "script.py", "x"],
        ["-m", "cProfile", "script.py", "x"],
        ["-m", "trace", "--count", "--missing", "--coverdir=.", "script.py", "x"],
        ["-c", "import sys; sys.argv = ['script.py', 'x']; import script"],
        ["-c", "import runpy, sys; sys.argv = ['s', 'x']; runpy.run_path('script.py')"],
        ["-m", "IPython", "script.py", "x"],
        ["script.py"],
        ["script.py", "x", "--help"],
    ],
    ids=lambda words: words[1] if words[0] == "-m" else words[0],
)
def test_another_program_that_runs_it_is_left_alone(tmp_path, script, words):
    script()
    done = ended(tmp_path, sys.executable, *words)
    assert (tmp_path / "times").read_text() == "x", done.stderr
    assert '"times": 1' in done.stdout


def test_this_test_would_not_be_executed_again(monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("executed"))
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    huge_pages.use_huge_pages()


def test_a_script_from_a_pipe_is_read_once(tmp_path, script):
    command = f"{sys.executable} <(cat {script()}) x"
    assert '"times": 1' in ended(tmp_path, "bash", "-c", command).stdout


@on_linux
@pytest.mark.parametrize("way", ["launch.py", "-m", "resnet-jax"])
def test_each_way_to_start_a_command_has_them(tmp_path, way):
    """What a command sees, and what the processes get that it starts."""
    config = tmp_path / "config.py"
    words = {
        "launch.py": [sys.executable, str(ROOT / "launch.py")],
        "-m": [sys.executable, "-m", "resnet_jax"],
        "resnet-jax": [str(tmp_path / "resnet-jax")],
    }[way]
    console = tmp_path / "resnet-jax"
    console.write_text(
        f"#!{sys.executable}\nimport sys\nfrom resnet_jax.__main__ import main\nsys.exit(main())\n"
    )
    console.chmod(0o755)
    config.write_text("import subprocess; subprocess.run(['env']); 1 / 0\n")
    done = ended(tmp_path, *words, "train", f"--config={config}", "--workdir=run")
    lines = done.stdout.splitlines()
    assert {f"{name}={value}" for name, value in SET.items()} <= set(lines), done.stderr


@on_linux
def test_huge_pages_are_used(tmp_path, script):
    """Memory that a C library's malloc maps for a thread, as XLA's: in huge pages only with the setting."""
    prepare = """
if huge_pages.VARIABLE in os.environ:
    import ctypes, re, threading
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    work = threading.Thread(target=lambda: libc.memset(libc.malloc(2**26), 1, 2**26))
    work.start()
    work.join()
    text = open("/proc/self/smaps_rollup").read()
    print(re.search(r"AnonHugePages: *([0-9]+)", text)[1])
"""
    script(prepare)
    found = [
        int(ended(tmp_path, sys.executable, "script.py", "x", changes=changes).stdout.split()[0])
        for changes in ({}, {VARIABLE: "off"})
    ]
    if found[0] == 0 and "madvise" not in (ENABLED.parent / "defrag").read_text():
        pytest.skip("the kernel has none left")
    assert found[0] > 2**14 > found[1]


@on_linux
@pytest.mark.slow
def test_training_is_the_same_bit_for_bit(tmp_path):
    words = [
        "train",
        "--config=configs/digits.py",
        "--config.train.duration=6 steps",
        "--config.model.depth=8",
        "--config.schedule.warmup=0",
    ]
    for value in ("on", "off"):
        launch = [sys.executable, "launch.py", *words, f"--workdir={tmp_path / value}"]
        done = ended(ROOT, *launch, changes={VARIABLE: value, "JAX_PLATFORMS": "cpu"})
        assert not done.returncode, done.stderr
        out = tmp_path / f"{value}.safetensors"
        assert main(["export", f"--workdir={tmp_path / value}", f"--out={out}"]) == 0
    on, off = (load_file(tmp_path / f"{value}.safetensors") for value in ("on", "off"))
    assert on.keys() == off.keys()
    assert all(on[name].tobytes() == off[name].tobytes() for name in on)
