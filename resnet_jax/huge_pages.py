"""Huge pages for a command's process: it executes itself once more, with a setting of glibc.

XLA allocates the temporary buffers of a step at each call. Their memory comes fresh from the kernel, and
in pages of 4 KiB that takes a good part of the step (`docs/performance.md`). glibc reads its setting at
start-up only; processes that this one starts inherit it. Imports neither JAX nor NumPy.
"""

import contextlib
import getopt
import os
import sys
import traceback
from pathlib import Path

# `off`: the process stays as it was started. The second time finds `set`, also where the tunable is lost.
VARIABLE = "RESNET_JAX_HUGE_PAGES"
TUNABLE = "glibc.malloc.hugetlb"
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Those of the `python` command; a letter before a colon takes a value.
PYTHON_OPTIONS = "bBdEhiIOPqRsStuvVW:xX:c:m:?"
MONITORING_TOOLS = range(6)
# Calls that have not ended where a program starts by this; inside of pytest there are dozens.
MOST_CALLERS = 8


def use_huge_pages() -> None:
    """Execute this process again with huge pages, or return where that is impossible or not wanted.

    Nothing may have happened yet in this process. Its id, arguments, directory, open files and ignored
    signals stay. It returns also where the user has set `RESNET_JAX_HUGE_PAGES` or the tunable, for
    `--help`, without glibc 2.35, where the kernel gives huge pages to all or to none, and where another
    program runs this one: a debugger, profiler, notebook or test.
    """
    if not (_is_wanted() and _has_effect() and _is_alone()):
        return
    tunables = filter(None, (os.environ.get("GLIBC_TUNABLES"), f"{TUNABLE}=1"))
    changes = {"GLIBC_TUNABLES": ":".join(tunables), VARIABLE: "set"}
    with contextlib.suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | changes)


def _is_wanted() -> bool:
    if len(sys.argv) < 2 or not {"-h", "--help"}.isdisjoint(sys.argv):
        return False
    own = TUNABLE in os.environ.get("GLIBC_TUNABLES", "")
    return not own and os.environ.get(VARIABLE, "on") == "on"


def _has_effect() -> bool:
    """Whether the C library and the kernel know the setting, and it changes anything."""
    # Of a process with more rights than its user, glibc removes the setting.
    if sys.platform != "linux" or (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid()):
        return False
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        numbers = tuple(map(int, version.split(".")[:2]))
        return (
            name == "glibc"
            and numbers >= (2, 35)
            and "[madvise]" in ENABLED.read_text(encoding="ascii")
        )
    except (ValueError, OSError):  # Another C library does not know the name.
        return False


def _is_alone() -> bool:
    """Whether Python was started for this program, and nothing else runs in the process."""
    if sys.gettrace() or sys.getprofile() or len(os.listdir("/proc/self/task")) > 1:
        return False
    if sum(1 for _ in traceback.walk_stack(None)) > MOST_CALLERS:
        return False
    monitoring = getattr(sys, "monitoring", None)  # From Python 3.12 on.
    if monitoring and any(map(monitoring.get_tool, MONITORING_TOOLS)):
        return False
    try:
        options, rest = getopt.getopt(sys.orig_argv[1:], PYTHON_OPTIONS, ["check-hash-based-pycs="])
    except getopt.GetoptError:
        return False
    programs = [value for name, value in options if name in ("-c", "-m")]
    if programs:
        return programs == ["resnet_jax"] and rest == sys.argv[1:]
    # A script from a pipe cannot be read again.
    return rest == sys.argv and os.path.isfile(rest[0])
