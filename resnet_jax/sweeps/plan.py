"""Before a sweep starts: every run checked, runs that share programs grouped, the cost known.

`check` runs in a process of its own, so that the process that starts workers holds no device.
"""

import multiprocessing
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnet_jax.config import validate
from resnet_jax.errors import UserError
from resnet_jax.sweeps.jobs import Job
from resnet_jax.sweeps.study import Run, of_run
from resnet_jax.sweeps.timing import CACHED, costs
from resnet_jax.training.interruption import end_with_parent


@dataclass(frozen=True)
class Plan:
    """What is known about the runs of a study.

    Attributes:
        facts: run id → `parameters`, `macs` of an image, `steps`, `work` (multiply-adds of the whole
            run), and, where they were timed, estimates of the `seconds` that it will take and of those to
            `compile` its programs.
        groups: ids of the runs that share their compiled programs, in the order of the file.
        errors: run id → what is wrong with it; it has no facts and no group.
        warnings: what is legal and probably not meant → ids of the runs of which it is said.
        start_up: seconds until a process had read the data and built one network.
        checking: seconds of checking all runs, as every sweep does before it starts.
    """

    facts: dict[str, dict[str, Any]]
    groups: list[list[str]]
    errors: dict[str, UserError]
    warnings: dict[str, list[str]]
    start_up: float = 0.0
    checking: float = 0.0

    def seconds(self, jobs: Sequence[Job]) -> float:
        """An estimate of the time of these jobs, one process after the other."""
        total, compiled = self.checking, set[int]()
        group_of = {run_id: n for n, group in enumerate(self.groups) for run_id in group}
        for job in jobs:
            group = group_of[job.runs[0]]
            share = CACHED if group in compiled else 1.0
            compiled.add(group)
            total += self.start_up + share * self.facts[job.runs[0]]["compile"]
            total += sum(self.facts[run_id]["seconds"] for run_id in job.runs)
        return total


def make_plan(runs: Sequence[Run], timed: bool = False) -> Plan:
    """Check all runs in another process.

    Args:
        runs: of a study.
        timed: train some steps of two of the networks, to estimate the time.
    """
    began = time.time()
    work = [(run.id, run.config.to_dict()) for run in runs]
    # A pool would need shared memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_plan, args=(sender, work, timed, began))
    process.start()
    sender.close()
    try:
        found: Plan | Exception = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        raise RuntimeError(f"the process that checks runs ended with exit code {code}") from None
    process.join()
    if isinstance(found, Exception):
        raise found
    return found


def _send_plan(sender: Any, *arguments: Any) -> None:
    end_with_parent()
    try:
        sender.send(check(*arguments))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        sender.send(error)


def make_legal_plan(runs: Sequence[Run], timed: bool = False) -> Plan:
    """The same.

    Raises:
        UserError: names the first run that is wrong.
    """
    plan = make_plan(runs, timed)
    for error in plan.errors.values():
        raise error
    return plan


def check(
    runs: Sequence[tuple[str, Mapping[str, Any]]], timed: bool = False, began: float = 0.0
) -> Plan:
    """Build the parts of every run; see `make_plan`.

    Args:
        runs: id and config of each.
        timed: as of `make_plan`.
        began: `time.time()` when this process was started.
    """
    from resnet_jax.training.hyperparameters import program_key

    configs = {run_id: validate(fields) for run_id, fields in runs}
    groups: dict[str, list[str]] = {}
    for run_id, config in configs.items():
        groups.setdefault(program_key(config), []).append(run_id)
    plan = Plan({}, [], {}, {})
    experiments, start_up = [], 0.0
    for group in groups.values():
        experiment = _check_group(plan, {run_id: configs[run_id] for run_id in group})
        start_up = start_up or time.time() - began
        if experiment is not None:
            experiments.append(experiment)
    if not timed:
        return plan
    checking = time.time() - began
    for group, first, cost in zip(plan.groups, experiments, costs(experiments), strict=True):
        for run_id in group:
            seconds = cost.of_run(first.of(configs[run_id]))
            plan.facts[run_id] |= {"seconds": seconds, "compile": cost.compile}
    return replace(plan, start_up=start_up, checking=checking)


def _check_group(plan: Plan, configs: dict[str, Any]) -> Any:
    """Add to the plan the runs that are legal, and the errors of the others.

    Returns:
        The experiment of one of them, or None.
    """
    experiment, good = None, []
    for run_id, config in configs.items():
        try:
            if experiment is None:
                experiment = _experiment(config)
            for warning in experiment.of(config).warnings:
                plan.warnings.setdefault(warning, []).append(run_id)
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
    return experiment if good else None


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
