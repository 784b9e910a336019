"""`evomerge search`: run or resume a search; Hydra composes its configuration from conf/ and the overrides."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from evomerge.cli.hydra_words import FLAGS
from evomerge.cli.quiet import quiet
from evomerge.cli.termination import raising_terminated
from evomerge.cli.words import Commands, add_command, print_next
from evomerge.errors import EvomergeError, UsageError, nearest

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
    from evomerge.search.sweep import finished_sweeps, report_winner

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

    for word in options.overrides:
        if word.startswith("-") and word.partition("=")[0] not in FLAGS:
            raise UsageError(f"search: unknown option {word!r}; {nearest(word, FLAGS)} (see evomerge search --help)")
    flags = [word for word in options.overrides if word in ("-m", "--multirun")]
    rest = [word for word in options.overrides if word not in flags]
    finished_sweeps.clear()  # of an earlier call in this process
    try:
        # Hydra wants flags in front of overrides
        sys.argv = ["evomerge search", *flags, *(sweep_words(rest) if flags else rest)]
        with raising_terminated():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain_override(error)) from None
    if refused:
        raise refused[0]
    for sweep in finished_sweeps:
        report_winner(sweep)
    return 0


def sweep_words(words: Sequence[str]) -> list[str]:
    """Return the words of a sweep with names for its jobs' directories: what is swept, the optimizer and the seed.

    Hydra would name them after all overrides, of which some (`+models.experts={...}`) make no name of a directory, and
    twice after one that is given a single value before it is swept.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = [word for word in words if word[:1] == "~" or ("=" in word and word[:1] != "-")]
    given = dict(zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True))
    swept = {one.key_or_group for one in given.values() if one.is_sweep_override()}
    if not swept:
        return list(words)
    superseded = {
        word
        for word, one in given.items()
        if one.key_or_group in swept and not one.is_sweep_override() and not isinstance(one.value(), dict)
    }
    left_out = sorted({one.key_or_group for one in given.values()} - swept - {"optimizer", "seed"})
    named = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(left_out)}]"
    return [named, *(word for word in words if word not in superseded)]
