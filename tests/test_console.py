"""Standard streams that are closed, full or not read, in processes of their own."""

import os
import pty
import subprocess
import sys
import time

import pytest

from resnet_jax import console

BEGIN = """
import sys, os, time
from resnet_jax import console
"""
PROGRESS = (
    BEGIN
    + """
console.PATIENCE_SECONDS = 0.3
with console.standard_streams():
    console.print_progress()
    for step in range(2000):
        print("step", step, "x" * 100)
    print("told", file=sys.stderr)
    sys.exit(console.exit_code(0))
"""
)
RESULT = (
    BEGIN
    + """
with console.standard_streams():
    for step in range(2000):
        print("step", step, "x" * 100)
    sys.exit(console.exit_code(int(sys.argv[1])))
"""
)


def run(code, *arguments, **options):
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, text=True, timeout=60, **{"stderr": subprocess.PIPE, **options})


def with_closed_pipe(code, *arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as stream:
        return run(code, *arguments, stdout=stream)


def with_full_disk(code, *arguments):
    with open("/dev/full", "wb") as stream:
        return run(code, *arguments, stdout=stream)


def with_lost_terminal(code, *arguments):
    ours, its = pty.openpty()
    os.close(ours)
    with open(its, "wb") as stream:
        return run(code, *arguments, stdout=stream)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (with_closed_pipe, "Broken pipe"),
        (with_full_disk, "No space left on device"),
        (with_lost_terminal, "Input/output error"),
    ],
)
def test_progress_is_lost_in_one_line(stream, reason):
    done = stream(PROGRESS)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"warning: standard output cannot be written ({reason}): going on without it",
        "told",
    ]


def test_progress_is_lost_in_silence_where_stderr_is_lost_too():
    with open("/dev/full", "wb") as stream:
        assert run(PROGRESS, stdout=stream, stderr=stream).returncode == 0


@pytest.mark.parametrize("code", [PROGRESS, RESULT])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(tmp_path, code, closed):
    opens = code.replace("    for", f"    file = open({str(tmp_path / 'file')!r}, 'w')\n    for")
    words = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", opens, "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # Nothing was printed into the file that was opened next.
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize(
    ("stream", "code", "words"),
    [(with_closed_pipe, 141, []), (with_full_disk, 2, ["standard output", "No space left"])],
)
def test_a_lost_result_has_an_exit_code(stream, code, words):
    done = stream(RESULT, "0")
    assert done.returncode == code
    assert done.stderr.count("\n") == bool(words)
    assert all(word in done.stderr for word in words)


def test_a_command_that_failed_keeps_its_exit_code():
    assert with_full_disk(RESULT, "3").returncode == 3


def started(code):
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, "0"], stdout=pipe, stderr=pipe)


def test_progress_does_not_wait_for_a_reader_who_has_stopped():
    process = started(PROGRESS)
    assert process.wait(timeout=30) == 0
    # What a pipe can take is there.
    out, errors = process.communicate()
    assert out.startswith(b"step 0 x")
    assert 2**14 < len(out) < 2**18
    assert errors == b"told\n"


def test_a_result_waits_for_its_reader():
    process = started(RESULT)
    time.sleep(1)
    assert process.poll() is None
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    assert [line.split()[1] for line in out.splitlines()] == [str(n).encode() for n in range(2000)]


def test_a_stream_that_does_not_block_gets_everything():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "wb") as stream:
        words = [sys.executable, "-c", RESULT, "0"]
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.PIPE)
    time.sleep(0.5)
    with open(reader, "rb") as stream:
        assert len(stream.read().splitlines()) == 2000
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


def test_streams_of_another_program_are_left(capsys):
    before = sys.stdout, sys.stderr
    with console.standard_streams():
        print("text")
        assert (sys.stdout, sys.stderr) == before
        assert console.exit_code(0) == 0
    assert capsys.readouterr().out == "text\n"
