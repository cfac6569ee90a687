"""Before a sweep starts: every run checked, runs that share programs grouped, the cost known.

`check` runs in a process of its own, so that the process that starts workers holds no device.
"""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from resnet_jax.errors import UserError
from resnet_jax.sweeps.jobs import Job
from resnet_jax.sweeps.study import Run, of_run

TIMED_STEPS = 3


@dataclass(frozen=True)
class Plan:
    """What is known about the runs of a study.

    Attributes:
        facts: run id → `parameters`, `macs` of an image, `steps`, `work` (multiply-adds of the whole
            run), and, where it was timed, an estimate of the `seconds` that it will take.
        groups: ids of the runs that share their compiled programs, in the order of the file.
        errors: run id → what is wrong with it; it has no facts and no group.
    """

    facts: dict[str, dict[str, Any]]
    groups: list[list[str]]
    errors: dict[str, UserError]


def make_plan(runs: Sequence[Run], timed: bool = False) -> Plan:
    """Check all runs in another process.

    Args:
        runs: of a study.
        timed: train some steps of one of the networks, to estimate the time.
    """
    work = [(run.id, run.config.to_dict()) for run in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(check, work, timed).result()


def make_legal_plan(runs: Sequence[Run], timed: bool = False) -> Plan:
    """The same.

    Raises:
        UserError: names the first run that is wrong.
    """
    plan = make_plan(runs, timed)
    for error in plan.errors.values():
        raise error
    return plan


def check(runs: Sequence[tuple[str, Mapping[str, Any]]], timed: bool = False) -> Plan:
    """Build the parts of every run; see `make_plan`."""
    from ml_collections import ConfigDict

    from resnet_jax.training.hyperparameters import program_key

    configs = {run_id: ConfigDict(fields, type_safe=False) for run_id, fields in runs}
    groups: dict[str, list[str]] = {}
    for run_id, config in configs.items():
        groups.setdefault(program_key(config), []).append(run_id)
    plan = Plan({}, [], {})
    for group in groups.values():
        _check_group(plan, {run_id: configs[run_id] for run_id in group})
    if timed and plan.groups:
        by_work = sorted(plan.groups, key=lambda group: plan.facts[group[0]]["work"])
        pace = _seconds_per_mac(configs[by_work[len(by_work) // 2][0]])
        for facts in plan.facts.values():
            facts["seconds"] = pace * facts["work"]
    return plan


def _check_group(plan: Plan, configs: dict[str, Any]) -> None:
    """Add to the plan the runs that are legal, and the errors of the others."""
    experiment, good = None, []
    for run_id, config in configs.items():
        try:
            if experiment is None:
                experiment = _experiment(config)
            experiment.of(config)
        except UserError as error:
            plan.errors[run_id] = of_run(run_id, error)
            continue
        good.append(run_id)
        plan.facts[run_id] = {
            "parameters": experiment.parameters,
            "macs": experiment.macs,
            "steps": experiment.total_steps,
            "work": _macs(experiment),
        }
    plan.groups.extend([good] if good else [])


def _experiment(config: Any) -> Any:
    from resnet_jax.training.experiment import make_experiment
    from resnet_jax.training.parallel import make_parallel

    # The devices of this process need not be those of the worker.
    fields = config.parallel
    parallel = make_parallel(fields.mode, fields.batch_statistics, fields.num_devices or 1)
    experiment = make_experiment(config, starts=True, parallel=parallel)
    experiment.check_training()
    return experiment


def _macs(experiment: Any) -> float:
    """Multiply-adds of a run: a training image costs three times those of an evaluated one."""
    e = experiment
    evaluations = 1 + e.total_steps // e.evaluate_every
    images = 3 * e.total_steps * e.config.train.batch_size + evaluations * len(
        e.inputs.eval_examples
    )
    return e.macs * images


def _seconds_per_mac(config: Any) -> float:
    """Of training steps of one network on this machine."""
    import jax

    from resnet_jax.random_streams import run_key
    from resnet_jax.training.compilation_cache import keep_compiled_programs
    from resnet_jax.training.programs import Programs

    keep_compiled_programs(config)
    e, seed = _experiment(config), config.seed
    programs = Programs(e)
    state = e.parallel.place([programs.initialise(run_key(seed))])
    numbers = e.parallel.stack([e.numbers])
    start = 0.0
    for step in range(1 + TIMED_STEPS):
        state, _ = programs.training(1)(state, numbers, *e.inputs.train(step, (seed,)))
        jax.block_until_ready(state)
        start = start or time.perf_counter()
    macs = 3 * e.macs * e.config.train.batch_size * TIMED_STEPS
    return (time.perf_counter() - start) / macs


def make_jobs(groups: Sequence[Sequence[str]], together: bool, max_parallel: int) -> list[Job]:
    """The work of each process.

    Args:
        groups: ids of runs that share programs.
        together: a process trains a group, or else one run.
        max_parallel: processes at once; groups are split until there is one for each.
    """
    if not together:
        return [Job((run_id,)) for group in groups for run_id in group]
    jobs = [tuple(group) for group in groups]
    while jobs and len(jobs) < max_parallel and max(map(len, jobs)) > 1:
        largest = max(range(len(jobs)), key=lambda index: len(jobs[index]))
        runs = jobs[largest]
        jobs[largest : largest + 1] = [runs[: len(runs) // 2], runs[len(runs) // 2 :]]
    return [Job(runs) for runs in jobs]
