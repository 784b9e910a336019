"""The words that the evaluator and the rest of the house share. Plain data, no behaviour worth the name."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Split = Literal["search", "selection", "report"]
SPLITS: tuple[Split, ...] = ("search", "selection", "report")


@dataclass(frozen=True)
class Generation:
    """What a model said to one prompt.

    Attributes:
        text: the answer, up to the first stop string.
        tokens: how many tokens were generated, with the one that ended the answer.
        truncated: neither the model nor a stop string ended the answer, but the token limit.
    """

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Outcome:
    """The result of one model on one item of a task.

    Attributes:
        task: the task's name.
        item: the item's id, unique in its task and stable for ever: `<dataset split>:<index>`, as in `test:17`.
        score: the task's metric on this item, larger is better.
        tokens: how many tokens were generated.
        truncated: the answer was cut off by the token limit, not ended by the model or a stop string.
        answer: the generated text.
        prompt_hash: 16 hexadecimal digits of SHA-256 of the prompt.
        strict, flexible: the score under the filters `strict-match` and `flexible-extract`, where the task has both.
    """

    task: str
    item: str
    score: float
    tokens: int
    truncated: bool
    answer: str
    prompt_hash: str
    strict: float | None = None
    flexible: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
