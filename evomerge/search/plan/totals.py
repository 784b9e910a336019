"""The whole search by several optimizers, racing and not racing. This file knows nothing about memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import yaml

from evomerge.config import conf_dir
from evomerge.errors import UsageError
from evomerge.recipes import SearchSpace
from evomerge.search.config import SearchConfig
from evomerge.search.plan.asking import asking
from evomerge.search.plan.cost import Cost
from evomerge.search.plan.measured import Measured
from evomerge.search.plan.total import Crew, Total, known, total
from evomerge.search.plan.work import Step


def totals(
    config: SearchConfig,
    measured: Measured,
    work: Sequence[Step],
    space: SearchSpace,
    *,
    start: Cost,
    crew: Crew,
    baselines: int,
    candidates: int,
    others: Iterable[str],
    seconds: float,
    say: Callable[[str], None],
) -> tuple[Total, ...]:
    """Sum up: the search as configured, the other way of racing, and the same for other optimizers.

    Args:
        config: the configuration.
        measured: one candidate.
        work: the parts of the search.
        space: that the optimizer is asked about.
        start: what the program costs until its models are to be loaded.
        crew: who scores.
        baselines, candidates: how many models are scored before the first question, and how many questions.
        others: names of other optimizers.
        seconds: about how long the questions to each optimizer may take.
        say: is told what is being done.
    """
    items = next(known(step.items) for step in work if step.phase == "candidates")
    one, result = partial(total, measured, work, start=start, crew=crew), list[Total]()
    for name in dict.fromkeys((config.optimizer.name, *others)):
        say(f"asking {name}")
        options, scalarization = _options(config, name)
        asked = asking(
            *(name, options, space.dimensions, items),
            scalarization=scalarization,
            known=baselines,
            candidates=candidates,
            seed=config.seed,
            seconds=seconds,
        )
        for raced in (config.racing.enabled, not config.racing.enabled):
            racing = config.racing.settings if raced else None
            result.append(one(optimizer=name, asking=asked, racing=racing))
    return tuple(result)


def _options(config: SearchConfig, name: str) -> tuple[Mapping[str, Any], str]:
    """Return an optimizer's options and scalarization: as configured, or as its file in conf/ has them."""
    if name == config.optimizer.name:
        return config.optimizer.options, config.optimizer.scalarization
    file = conf_dir() / "optimizer" / f"{name}.yaml"
    if not file.is_file():
        known_names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UsageError(f"optimizer {name!r} is unknown; known: {known_names}")
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return data["options"], data["scalarization"]
