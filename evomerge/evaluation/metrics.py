"""From what a metric says about one item to a number, and the metrics that are not lm-eval's.

Most metrics of lm-eval give a number an item, and their mean is the result. Some give what only all items together
turn into a number; of one item alone,
- the perplexities say the log-likelihood per unit (word, byte, document), and how many units there are;
- others (BLEU, chrF, the Brier score, ...) say what their own aggregation makes of a single item;
- the F score and Matthews' correlation of yes and no are undefined, and refused.

This file knows nothing about prompts or splits.
"""

import hashlib
import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lm_eval.api import metrics as harness

from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.spec import ANSWER_LANGUAGE, ANSWER_LENGTH, TaskSpec
from evomerge.evaluation.types import Generation

Aggregation = Callable[[Sequence[Any]], Any]

#: Aggregations of pairs (log-likelihood, units), and what turns a log-likelihood per unit into the score.
_PER_UNIT: dict[Aggregation, float] = {harness.weighted_perplexity: 1.0, harness.bits_per_byte: 1 / math.log(2)}
#: Metrics whose score of an item lies between 0 and 1, as far as that is known before any is scored.
SHARES = frozenset({"exact_match", "acc", "acc_norm", "pass_at_1", ANSWER_LANGUAGE})

_UNDEFINED_FOR_ONE = (harness.f1_score, harness.matthews_corrcoef)


def defined_for_one(aggregation: Aggregation) -> bool:
    """Return whether an aggregation may say something of a single item."""
    return aggregation not in _UNDEFINED_FOR_ONE


def item_score(value: Any, aggregation: Aggregation, *, higher_is_better: bool) -> tuple[float, float]:
    """Return (score, weight) of one item: larger is better, and the weight is what it counts for in a mean.

    Raises `TypeError` or `ValueError` where the metric has no number for a single item.
    """
    if aggregation in _PER_UNIT:
        logprob, units = value
        return float(logprob) / units * _PER_UNIT[aggregation], float(units)
    if aggregation is harness.perplexity:
        return float(value), 1.0
    try:
        number = float(value)
    except (TypeError, ValueError):
        if aggregation in (harness.mean, harness.nanmean) or value is None:
            raise
        number = float(aggregation([value]))
    return (number if higher_is_better else 0.0 - number), 1.0  # not -number: no negative zero


@dataclass(frozen=True)
class OwnMetric:
    """A metric that is not lm-eval's; its result over items is the mean.

    Attributes:
        value: (document, extracted answer, whole answer) -> number.
        higher_is_better: its direction.
        fingerprint: changes when the metric does.
    """

    value: Callable[[dict[str, Any], str, Generation], float]
    higher_is_better: bool
    fingerprint: str


def own_metric(spec: TaskSpec) -> OwnMetric | None:
    """Return the metric of a spec if it is not one of lm-eval's; `UsageError` if it cannot be had."""
    if not spec.own_metric:
        return None
    up = spec.higher_is_better
    if spec.metric == ANSWER_LENGTH:
        return OwnMetric(lambda doc, text, answer: float(answer.tokens), bool(up), ANSWER_LENGTH)
    try:
        if spec.metric == ANSWER_LANGUAGE:
            return _language_metric(str(spec.language), up is not False)
        return _users_function(str(spec.metric), up is not False)
    except UsageError as error:
        raise UsageError(f"task {spec.name}: {error}") from None


# -- the language of a text --------------------------------------------------------------------------------------------


def _language_metric(language: str, higher_is_better: bool) -> OwnMetric:
    known = _identifier().labels
    if language not in known:
        raise UsageError(f"language {language!r} is none of {', '.join(sorted(known))}")
    return OwnMetric(
        lambda doc, text, answer: float(_language_of(text) == language),
        higher_is_better,
        f"{ANSWER_LANGUAGE}/{language}",
    )


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """Return the language identifier of py3langid: naive Bayes over byte n-grams, its model inside the package."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UsageError(f"metric {ANSWER_LANGUAGE} needs: pip install 'evomerge[language]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None if nothing in it tells (no letters, no known n-gram)."""
    code, score = _identifier().classify(text)
    known = score > -1e30 and any(character.isalpha() for character in text)
    return str(code) if known else None


# -- a function of the user's ------------------------------------------------------------------------------------------


def _users_function(reference: str, higher_is_better: bool) -> OwnMetric:
    place, _, name = reference.rpartition(":")
    try:
        module = _module(place)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"metric {reference}: {place} cannot be imported: {one_line(error)}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"metric {reference}: {place} has no function {name!r}; write FILE.py:function")

    def value(doc: dict[str, Any], text: str, answer: Generation) -> float:
        try:
            return float(function(doc, text))
        except Exception as error:
            raise WorkError(f"metric {reference} fails: {one_line(error)}") from None

    source = Path(module.__file__).read_bytes() if module.__file__ else b""
    return OwnMetric(value, higher_is_better, f"{name}/{hashlib.sha256(source).hexdigest()}")


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"metric file {place} does not exist")
    found = importlib.util.spec_from_file_location(f"evomerge_metric_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def one_line(error: Exception) -> str:
    """Return an exception as one short line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__


def source_of(function: Any) -> str:
    """Return what identifies a function of a task's YAML file in a hash: its name and its source."""
    name = getattr(function, "__qualname__", str(type(function)))
    try:
        return f"{name}/{inspect.getsource(function)}"
    except (OSError, TypeError):
        return str(name)
