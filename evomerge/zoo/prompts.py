"""How a task item becomes a prompt and the text that should follow it.

The models are trained on exactly `prompt + target + end-of-text`, without examples in front; the tasks' YAML files
say the same in lm-eval's words. Knows nothing about tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """The prompt and target of an item, the texts that end an answer, and a bound on its length in tokens."""

    prompt: Callable[[Item], str]
    target: Callable[[Item], str]
    stop: tuple[str, ...]
    max_tokens: int


FORMATS: dict[str, Format] = {
    "math": Format(
        lambda item: f"Question: {item['question']}\nAnswer:",
        lambda item: f" {item['answer']}",
        ("\n\n", "Question:"),
        64,
    ),
    "code": Format(
        lambda item: f'"""\n{item["text"]}\n{item["test_list"][0]}\n"""\n',
        lambda item: str(item["code"]),
        ("\n\n", '"""'),
        80,
    ),
    "translate": Format(
        lambda item: f"English: {item['source']}\nKoro:",
        lambda item: f" {item['target']}",
        ("\n",),
        48,
    ),
}
