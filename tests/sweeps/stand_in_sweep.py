"""What `launch.py sweep` does with jobs: python stand_in_sweep.py DIRECTORY RUN[+RUN…]…

The one word `wait` waits for jobs that were submitted.
"""

import sys
from pathlib import Path

from resnet_jax.errors import UserError
from resnet_jax.sweeps.executors import Job, hold, run_locally
from resnet_jax.sweeps.slurm import wait
from resnet_jax.sweeps.sweep_directory import SweepDirectory


def say(text):
    print(text, flush=True)


path, *names = sys.argv[1:]
words = [sys.executable, str(Path(__file__).parent / "stand_in_worker.py"), path]
directory = SweepDirectory(path)
try:
    if names == ["wait"]:
        sys.exit(wait(directory, say=say))
    with hold(directory, say) as lock:
        jobs = [Job(tuple(name.split("+"))) for name in names]
        sys.exit(
            run_locally(jobs, lambda job: [*words, *job.runs], directory, lock, max_parallel=2)
        )
except UserError as error:
    sys.exit(f"error: {error}")
