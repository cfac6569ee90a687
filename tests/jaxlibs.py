"""The tests of the compiler with each jaxlib that is supported, in environments of their own.

    python tests/jaxlibs.py DIR [--only VERSION …]

Makes an environment for each version in DIR by pip, with the Python that it needs (`python3.11`, `python3.12` and
`python3.13` on the path), and runs `TESTS` there. Needs the network.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# jaxlib → Python.
VERSIONS = {"0.10.2": "python3.11", "0.11.2": "python3.12", "0.12.0.1": "python3.13"}
PACKAGES = ("flax", "numpy", "pytest", "hypothesis")
TESTS = ("tests/models/test_ynnpack.py", "tests/test_onednn_check.py")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="of the environments")
    parser.add_argument("--only", nargs="*", default=list(VERSIONS), choices=VERSIONS)
    arguments = parser.parse_args()
    codes = []
    for version in arguments.only:
        python = environment(arguments.directory / version, version)
        print(f"jaxlib {version}:", flush=True)
        # Without the fixtures, which need the whole package.
        words = [python, "-m", "pytest", "--noconftest", *TESTS]
        variables = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
        codes.append(subprocess.run(words, cwd=ROOT, env=variables).returncode)
    return max(codes)


def environment(directory: Path, version: str) -> str:
    """The interpreter of an environment with this jaxlib; made where it is not there."""
    python = str(directory / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([VERSIONS[version], "-m", "venv", directory], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"jax=={version}", f"jaxlib=={version}", *PACKAGES], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
