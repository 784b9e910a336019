"""What a reader of a run needs and neither its ledger nor its configuration has: `about.json`.

That is the outline of the models' tensors, how each task is scored, the items of every split with their texts and
right answers, and the advice that was given. It is written when a search starts, so that a run directory that was
copied from elsewhere, and one whose search was killed, can be read without models, data sets or a hub. This file knows
nothing about scores.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask
from evomerge.evaluation.types import Split
from evomerge.recipes import Layout

ABOUT_VERSION = 1
#: Characters of a text that are kept.
LONGEST = 1000


@dataclass(frozen=True)
class Item:
    """An item of a task: its id, and the question and the right answer as texts of at most `LONGEST` characters."""

    id: str
    text: str
    target: str


@dataclass(frozen=True)
class About:
    """What is known of a run besides its ledger and configuration; all of it may be missing.

    Attributes:
        tensors: names of one tensor for each finest group of the models (`Layout.outline`).
        metrics: task -> the metric that is its score, and whether larger values of it are better.
        items: split -> task -> the items, in the order of the scores in the ledger.
        advice: what was said of the configuration before the search began, a line each.
    """

    tensors: tuple[str, ...] = ()
    metrics: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, tuple[Item, ...]]] = field(default_factory=dict)
    advice: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"version": ABOUT_VERSION, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> "About | None":
        """Read the file of a run, None if it has none; `UsageError` if it is damaged or of another version."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["version"] != ABOUT_VERSION:
                raise UsageError(
                    f"{path}: version {data['version']!r} is not the {ABOUT_VERSION} this evomerge reads; remove it"
                )
            return cls(
                tensors=tuple(data["tensors"]),
                metrics={task: (str(metric), bool(larger)) for task, (metric, larger) in data["metrics"].items()},
                items={
                    split: {task: tuple(Item(**item) for item in items) for task, items in by_task.items()}
                    for split, by_task in data["items"].items()
                },
                advice=tuple(data["advice"]),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{path}: damaged; remove it, `evomerge report` writes it anew where it can") from None


def about(
    layout: Layout,
    tasks: Mapping[str, EvalTask],
    items: Mapping[Split, Mapping[str, Sequence[str]]],
    advice: Sequence[str] = (),
) -> About:
    """Gather what readers of a run need.

    Args:
        layout: of the models.
        tasks: task name -> task.
        items: split -> task -> the ids of the items that are scored.
        advice: lines that were said of the configuration.
    """
    return About(
        layout.outline.tensors,
        {name: (task.metric, task.higher_is_better) for name, task in tasks.items()},
        {
            split: {
                name: tuple(Item(item, cut(tasks[name].text(item)), cut(tasks[name].target(item))) for item in ids)
                for name, ids in by_task.items()
            }
            for split, by_task in items.items()
        },
        tuple(advice),
    )


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text with its middle left out where it is too long, as valid Unicode."""
    text = text.encode(errors="replace").decode()
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]} [...] {text[len(text) - (longest - head) :]}"
