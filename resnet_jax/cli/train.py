"""The command `train`."""

import argparse
import sys

from resnet_jax.cli.options import CONFIG, add_workdir
from resnet_jax.cli.parser import CommandParser
from resnet_jax.cli.processes import Together, add_processes, processes
from resnet_jax.config import describe_fields, load_config, override
from resnet_jax.console import print_progress
from resnet_jax.errors import printable
from resnet_jax.training.compilation_cache import keep_compiled_programs
from resnet_jax.training.interruption import StopRequest

DESCRIPTION = """\
Train the experiment of a config file. The same command again resumes a run that was
stopped."""
FIELDS_TITLE = (
    "config fields (also --config.FIELD=VALUE; durations are '64000 steps' or '90 epochs'):"
)


def add_options(parser: CommandParser) -> None:
    """Add the options of `train`."""
    parser.epilog = f"{FIELDS_TITLE}\n{describe_fields()}"
    option = parser.add_argument
    option("--config", metavar="FILE", required=True, help=CONFIG)
    add_workdir(option)
    option("--profile", metavar="START:STOP", help="trace these steps into DIR/profile")
    add_processes(option)


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Train; returns the exit code."""
    print_progress()
    with StopRequest(at_once=True) as stop, processes(arguments, stop) as together:
        return _train_until(stop, together, arguments, overrides)


def _train_until(
    stop: StopRequest, together: Together, arguments: argparse.Namespace, overrides: dict[str, str]
) -> int:
    with together() as first:
        config = override(load_config(arguments.config), overrides)
        from resnet_jax.training.run_directory import RunDirectory

        run = RunDirectory(arguments.workdir, writes=first)
        run.claim(config.to_dict())
        keep_compiled_programs(config)
        from resnet_jax.training.experiment import make_experiment
        from resnet_jax.training.process_facts import refuse_other_processes
        from resnet_jax.training.progress import Reporter, result_rows, table
        from resnet_jax.training.train import train

        starts, facts = not run.has_checkpoint(), run.stored_data()
        experiment = make_experiment(config, starts=starts, facts=facts)
        experiment.check_training()
        reporter, profile = Reporter(quiet=not first), None
        if arguments.profile is not None:
            from resnet_jax.training.profile import Profile, steps_to_profile

            profiled = steps_to_profile(arguments.profile, experiment.total_steps)
            say = reporter.console.print
            profile = Profile(run.profile, profiled, say) if first else None
    checkpoints = sorted(run.checkpoint_steps())
    refuse_other_processes(config, experiment, command="train", checkpoints=checkpoints)
    with together():
        run.create(config.to_dict())
        run.write_data(experiment.facts)
    with together():
        run.wait_until_seen()
    exit_code = train(experiment, run, reporter, stop=stop, profile=profile)
    if not first:
        return exit_code
    if profile is not None and not profile.begun:
        reporter.warn(f"no trace: no call of this command began in --profile={arguments.profile}")
    status = run.read_status()
    reporter.console.print(table(f"Result of {arguments.workdir}", result_rows(status)))
    if "error" in status:
        print(f"error: {printable(status['error'])}", file=sys.stderr)
    return exit_code
