"""`evomerge search`: run or resume a search; Hydra composes its configuration from conf/ and the overrides."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, cast

from evomerge.cli.quiet import quiet
from evomerge.cli.termination import raising_terminated
from evomerge.cli.words import Commands, add_command, print_next
from evomerge.errors import EvomergeError, UsageError

EXAMPLES = """
evomerge search experiment=quickstart
evomerge search experiment=quickstart optimizer=tpe budget.candidates=60 seed=1
evomerge search -m experiment=quickstart optimizer=random,cmaes seed=1,2,3
"""


def add(commands: Commands) -> None:
    """Declare the command. Its words are Hydra's, so that argparse sees none of them when it runs."""
    parser = add_command(
        commands, "search", run, help="run or resume a search; -m sweeps over several", examples=EXAMPLES
    )
    parser.add_argument("overrides", nargs="*", metavar="HYDRA_OVERRIDE")


def run(options: argparse.Namespace) -> int:
    """Run the search, or the sweep, that the overrides describe."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed with a traceback
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from evomerge.config import conf_dir, explain_override

    refused: list[EvomergeError | OSError] = []
    here = os.getpid()

    def job(composed: DictConfig) -> float | None:
        try:
            return one(composed)
        except (EvomergeError, OSError) as error:
            if os.getpid() != here:
                raise  # a launcher's process: the launcher has to know
            refused.append(error)  # Hydra would print a line of its own; and other jobs of a sweep go on
            return None

    def one(composed: DictConfig) -> float:
        from evomerge.search.config import SearchConfig
        from evomerge.search.start import run_search

        data = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        running = HydraConfig.get()
        in_sweep = running.mode == RunMode.MULTIRUN
        directory = Path(running.runtime.output_dir)
        quiet()
        best = run_search(SearchConfig.from_dict(data), data, directory, open_report=not in_sweep)
        if not in_sweep:
            shown = Path(os.path.relpath(directory))
            print(f"{shown / 'report.html'} shows it all in a browser")
            print_next(
                (["evomerge", "front", shown], "the trade-offs that were found"),
                (["evomerge", "export", shown, "my-model"], "the best candidate's model"),
            )
        return best

    flags = [word for word in options.overrides if word in ("-m", "--multirun")]
    rest = [word for word in options.overrides if word not in flags]
    sys.argv = ["evomerge search", *flags, *rest]  # Hydra wants flags in front of overrides
    try:
        with raising_terminated():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain_override(error)) from None
    from evomerge.search.sweep import finished_sweeps, report_winner

    if refused:
        raise refused[0]
    for sweep in finished_sweeps:
        report_winner(sweep)
    return 0
