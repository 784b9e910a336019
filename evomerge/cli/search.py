"""`evomerge search`: run or resume a search; Hydra composes its configuration from conf/ and the overrides."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from evomerge.cli.hydra_words import FLAGS
from evomerge.cli.launched import WithoutHydrasLine, by_launcher, launched
from evomerge.cli.quiet import quiet
from evomerge.cli.termination import raising_terminated
from evomerge.cli.words import Commands, add_command, print_next
from evomerge.config import parse_overrides
from evomerge.errors import SAFE, EvomergeError, UsageError, WorkError, nearest
from evomerge.search.workers.turns import turn

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

    from evomerge.search.directory import RunDirectory

EXAMPLES = """
evomerge search experiment=quickstart
evomerge search experiment=quickstart optimizer=tpe budget.candidates=60 seed=1
evomerge search -m experiment=quickstart optimizer=random,cmaes seed=1,2,3
evomerge search -m cluster=slurm experiment=quickstart seed=1,2,3 hydra.launcher.partition=gpu
"""


def add(commands: Commands) -> None:
    """Declare the command. Its words are Hydra's, so that argparse sees none of them when it runs."""
    parser = add_command(
        commands, "search", run, help="run or resume a search; -m sweeps over several", examples=EXAMPLES
    )
    parser.add_argument("overrides", nargs="*", metavar="HYDRA_OVERRIDE")


def run(options: argparse.Namespace) -> int:
    """Run the search, or the sweep, that the overrides describe."""
    for word in options.overrides:
        if word.startswith("-") and word.partition("=")[0] not in FLAGS:
            raise UsageError(f"search: unknown option {word!r}; {nearest(word, FLAGS)} (see evomerge search --help)")
    flags = [word for word in options.overrides if word in ("-m", "--multirun")]
    words = [word for word in options.overrides if word not in flags]
    here = (socket.gethostname(), os.getpid())
    refused: list[EvomergeError | OSError] = []

    def job(composed: DictConfig) -> float | None:
        if (socket.gethostname(), os.getpid()) != here:
            with launched(), turn(composed.workers.at_once):
                return _search(composed)
        try:
            return _search(composed)
        except (EvomergeError, OSError) as error:
            refused.append(error)  # Hydra would print a line of its own; and other jobs of a sweep go on
            return None

    from evomerge.search.sweep import finished_sweeps

    finished_sweeps.clear()  # of an earlier call in this process
    with raising_terminated():
        _hydra([*flags, *(sweep_words(words) if flags else words)], job)
        if refused:
            raise refused[0]
        _report_winners(words)
    return 0


def _hydra(words: Sequence[str], job: Callable[[DictConfig], Any]) -> None:
    """Have Hydra run a job, or one for each point of a sweep where the words say so."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed with a traceback
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from evomerge.config import conf_dir, explain_override

    sys.argv = ["evomerge search", *words]  # Hydra wants flags in front of overrides
    try:
        with redirect_stderr(cast(TextIO, WithoutHydrasLine(sys.stderr))):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain_override(error)) from None
    except EvomergeError:
        raise
    except Exception as error:
        if not by_launcher(error):
            raise
        said = " ".join(str(error).split("\n")[0].split())
        raise WorkError(
            f"the launcher of the sweep: {said or type(error).__name__}; each job's log is in .submitit in the sweep's "
            f"directory; {SAFE}"
        ) from None


def _search(composed: DictConfig) -> float:
    """Search in the directory that Hydra has given this job; returns its objective."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

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


def _report_winners(words: Sequence[str]) -> None:
    """Open the report split for the winners of the sweeps that have ended, where their jobs ran."""
    from evomerge.search.report import print_report
    from evomerge.search.sweep import finished_sweeps, open_report, winner_of

    sweeps = finished_sweeps[:]
    finished_sweeps.clear()
    for sweep in sweeps:
        winner = winner_of(sweep.path)
        if not sweep.elsewhere:
            open_report(winner)
            continue

        def job(composed: DictConfig, winner: RunDirectory = winner) -> None:
            with launched(), turn(composed.workers.at_once):
                quiet()
                open_report(winner)

        swept = {word for word, one in _overrides(words).items() if one.is_sweep_override()}
        rest = [word for word in words if word not in swept]
        _hydra(["-m", *rest, f"hydra.sweep.dir='{sweep.path}'", "hydra.sweep.subdir=.submitit/report"], job)
        finished_sweeps.clear()
        print_report(json.loads(winner.report.read_text(encoding="utf-8")))


def sweep_words(words: Sequence[str]) -> list[str]:
    """Return the words of a sweep with names for its jobs' directories: what is swept, the optimizer and the seed.

    Hydra would name them after all overrides, of which some (`+models.experts={...}`) make no name of a directory, and
    twice after one that is given a single value before it is swept.
    """
    given = _overrides(words)
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


def _overrides(words: Sequence[str]) -> dict[str, Override]:
    """Return `parse_overrides` of those words that are overrides."""
    return parse_overrides([word for word in words if word[:1] == "~" or ("=" in word and word[:1] != "-")])
