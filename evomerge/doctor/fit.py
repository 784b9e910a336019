"""Whether evomerge itself would merge these models, and by which choice of vocabulary: the pool is asked.

This file knows nothing about why; that is in the pool's own words.
"""

from collections.abc import Iterable, Mapping, Sequence

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.pool import SAME
from evomerge.checkpoints.vocabulary import CHOICES
from evomerge.doctor.deltas import TensorPair
from evomerge.doctor.facts import Facts
from evomerge.doctor.findings import Finding
from evomerge.errors import UsageError

#: label -> choice of vocabulary -> why the pool refuses; None: it does not.
Fits = Mapping[str, Mapping[str, str | None]]


def try_choices(base: Facts, experts: Iterable[Facts]) -> Fits:
    """Open a pool of the base and each expert alone with every choice of vocabulary (only "same" where that works)."""
    fits: dict[str, dict[str, str | None]] = {}
    for expert in experts:
        reasons = fits[expert.label] = {SAME: _refusal(base, [expert], SAME)}
        if reasons[SAME] is not None and base.model and expert.model:
            reasons.update({choice: _refusal(base, [expert], choice) for choice in CHOICES})
    return fits


def fit_findings(fits: Fits, stopped: set[str]) -> list[Finding]:
    """Return a finding for each expert that does not merge as it is; `stopped` have one that says why."""
    findings = []
    for label, reasons in fits.items():
        working = [choice for choice, reason in reasons.items() if reason is None]
        if not working and label not in stopped:
            reason = reasons.get(CHOICES[0]) or reasons[SAME] or ""
            findings.append(Finding("stop", "refused", (label,), reason))
        elif working and SAME not in working:
            text = f"its vocabulary is not the base's: merges with `vocabulary: {' | '.join(working)}`, not with `same`"
            hint = "set `vocabulary:` in the recipe; base drops tokens that only experts have, union keeps all"
            findings.append(Finding("warning", "vocabulary", (label,), text, hint, details=dict(reasons)))
    return findings


def open_together(base: Facts, experts: Sequence[Facts], fits: Fits) -> tuple[ModelPool | None, str | None]:
    """Open the experts that fit as one pool; return it, or why it cannot be. (None, None) if no expert fits."""
    fitting = [expert for expert in experts if None in fits[expert.label].values()]
    if not fitting:
        return None, None
    choices = [choice for choice in (SAME, *CHOICES) if all(fits[e.label].get(choice, None) is None for e in fitting)]
    reason: str | None = "experts with different vocabularies; no choice of `vocabulary:` suits all of them"
    for choice in choices:
        reason = _refusal(base, fitting, choice)
        if reason is None:
            return _open(base, fitting, choice), None
    return None, reason


def tensor_pairs(base: Facts, experts: Sequence[Facts], pool: ModelPool | None) -> list[TensorPair]:
    """Return the tensors to measure: as the merge sees them, and of experts that do not fit those of equal shape."""
    if base.model is None:
        return []
    names = pool.layout.tensors if pool else base.model.names
    fitting = pool.experts if pool else {}
    others = [expert for expert in experts if expert.label not in fitting and expert.model]
    pairs = []
    for name in names:
        source = pool.source("", name) if pool else base.model.source(name)
        sources = {label: pool.source(label, name) for label in fitting} if pool else {}
        for expert in others:
            if expert.model and expert.shapes.get(name) == source.shape:
                sources[expert.label] = expert.model.source(name)
        pairs.append(TensorPair(name, source, dict(sorted(sources.items()))))
    return pairs


def _refusal(base: Facts, experts: Sequence[Facts], choice: str) -> str | None:
    try:
        _open(base, experts, choice)
    except UsageError as error:
        return str(error)
    return None


def _open(base: Facts, experts: Sequence[Facts], choice: str) -> ModelPool:
    references = {expert.label: str(expert.path) for expert in experts}
    return ModelPool.open(str(base.path), references, check_weights=False, vocabulary=choice)
