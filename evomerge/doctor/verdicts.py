"""What measured task vectors mean for a merge, in plain words, each with its evidence and what to do.

The thresholds are here, each with its reason. This file knows nothing about files.
"""

import math
from collections.abc import Mapping, Sequence

from evomerge.doctor.deltas import Deltas, ExpertDelta, Part
from evomerge.doctor.findings import Finding, some

# Weights with a cosine below this are not a fine-tune's: two models of the same size that were trained apart have one
# near 0 (relative norm near sqrt(2)); at 0.5 the difference is as large as the base itself.
UNRELATED_COSINE = 0.5
# Task vectors of this relative norm rarely add up: in trials with models like the zoo's, experts at 0.15 to 0.18
# did not merge at all, experts at 0.04 to 0.09 did.
FAR_NORM = 0.15
# The DARE paper (2311.03099): it takes task vectors of |delta| about 0.002, at most 0.005; an expert whose |delta| was
# often above 0.01 was destroyed by a drop rate of 0.1 (HumanEval 63.4 -> 0, MBPP 55.4 -> 0).
NARROW_DELTA, WIDE_DELTA = 0.005, 0.01
WIDE_SHARE = 0.1
# DARE at drop rate p adds noise of norm sqrt(p / (1 - p)) |delta|. With the zoo's models (relative norms 0.07 to 0.09)
# the gain of a merge falls by a tenth at p = 0.5, a third at 0.7, to nothing at 0.9: that is noise of 0.08, 0.12 and
# 0.23 of the base's norm.
DARE_NOISE = 0.1
COLLINEAR_COSINE = 0.9
# Independent task vectors of n elements have cosines of about 1 / sqrt(n), none of real models reached this by chance.
OPPOSITE_COSINE = -0.1
CHANCE_DEVIATIONS = 5.0
# Embeddings that moved this far, and this many times further than the layers.
EMBEDDINGS_NORM, EMBEDDINGS_RATIO = 0.1, 5.0
SPARSE_SHARE = 0.5


def verdicts(deltas: Deltas) -> list[Finding]:
    """Return what is to be said about measured task vectors."""
    findings = _not_finite("base", deltas.base_not_finite)
    related = []
    for label, delta in deltas.experts.items():
        findings += _not_finite(label, delta.not_finite)
        own = _identical(label, delta, deltas.sampled) or _unrelated(label, delta)
        findings += own
        if not own:
            related.append(label)
            findings += _far(label, delta) + _embeddings_only(label, delta) + _wide(label, delta, deltas)
            findings += _sparse(label, delta) + _untouched(label, delta)
    for (one, two), cosine in deltas.cosines.items():
        if one in related and two in related:
            findings += _angle((one, two), cosine, [deltas.experts[label].whole for label in (one, two)])
    return findings


def safe_drop_rate(part: Part) -> float:
    """Return the drop rate at which DARE's noise reaches `DARE_NOISE` of the base's norm."""
    if not part.relative_norm:
        return 1.0
    squared = (DARE_NOISE / part.relative_norm) ** 2
    return squared / (1 + squared)


def drop_rate_limit(whole: Part) -> float | None:
    """Return the safe drop rate of a task vector that is wide for DARE, None for one that is not."""
    return safe_drop_rate(whole) if whole.share_above(NARROW_DELTA) >= WIDE_SHARE else None


def _not_finite(label: str, tensors: Mapping[str, int]) -> list[Finding]:
    if not tensors:
        return []
    text = f"{sum(tensors.values())} weights are NaN or infinite, in {some(sorted(tensors))}"
    hint = "the file is damaged or its training failed; take another"
    return [Finding("stop", "not-finite", (label,), text, hint, details=dict(tensors))]


def _identical(label: str, delta: ExpertDelta, sampled: float) -> list[Finding]:
    if delta.whole.delta_norm or delta.not_finite:
        return []
    text = f"all of its weights{'' if sampled == 1 else ' that were read'} are the base's"
    return [Finding("warning", "identical-to-base", (label,), text, "leave it out, or look for the right checkpoint")]


def _unrelated(label: str, delta: ExpertDelta) -> list[Finding]:
    whole = delta.whole
    if whole.cosine >= UNRELATED_COSINE:
        return []
    text = (
        f"not a fine-tune of this base: the cosine of their weights is {whole.cosine:.2f}, |delta| / |base| is "
        f"{whole.relative_norm:.2f} (two models that were trained apart: 0 and {math.sqrt(2):.2f})"
    )
    return [Finding("stop", "unrelated", (label,), text, "find the base that it was made from")]


def _far(label: str, delta: ExpertDelta) -> list[Finding]:
    norm = delta.whole.relative_norm
    if norm < FAR_NORM:
        return []
    text = f"far from the base: |delta| / |base| is {norm:.2f}; above {FAR_NORM} task vectors rarely add up"
    hint = "is this its base? Else search small weights, and expect more of linear, slerp or widen than of task vectors"
    return [Finding("warning", "far", (label,), text, hint)]


def _embeddings_only(label: str, delta: ExpertDelta) -> list[Finding]:
    tokens = [delta.kinds[kind] for kind in ("embeddings", "head") if kind in delta.kinds]
    rest = [part for kind, part in delta.kinds.items() if kind not in ("embeddings", "head")]
    outer, inner = _relative(tokens), _relative(rest)
    if outer < EMBEDDINGS_NORM or outer < EMBEDDINGS_RATIO * inner:
        return []
    text = f"its embeddings moved by {outer:.2f} of their norm, its layers by {inner:.3f} only"
    hint = (
        "a new or resized vocabulary, or continued pre-training: give embeddings and head a group of their own, or "
        "take them from one model (option passthrough)"
    )
    return [Finding("warning", "embeddings", (label,), text, hint)]


def _relative(parts: Sequence[Part]) -> float:
    base = math.fsum(part.base_norm**2 for part in parts)
    return math.sqrt(math.fsum(part.delta_norm**2 for part in parts) / base) if base else 0.0


def _wide(label: str, delta: ExpertDelta, deltas: Deltas) -> list[Finding]:
    whole = delta.whole
    cap = drop_rate_limit(whole)
    if cap is None:
        return []
    often, typical = whole.share_above(WIDE_DELTA), whole.share_above(NARROW_DELTA)
    rms = whole.base_norm / math.sqrt(max(whole.parameters, 1))
    hint = (
        f"bound drop_rate of the DARE and DELLA methods by about {cap:.2f}, where its noise reaches a tenth of the "
        "base's weights; ties, breadcrumbs and task_arithmetic do not rescale"
    )
    if often >= WIDE_SHARE:
        text = (
            f"wide task vector: {100 * often:.0f} % of |delta| are above {WIDE_DELTA}, where DARE is known to fail "
            f"(2311.03099: drop rate 0.1 took HumanEval from 63 to 0); the base's weights are {rms:.2g} (rms)"
        )
        return [Finding("warning", "wide", (label,), text, hint)]
    text = (
        f"rather wide task vector: {100 * typical:.0f} % of |delta| are above {NARROW_DELTA}, the most that the DARE "
        f"paper asks for (2311.03099); the base's weights are {rms:.2g} (rms)"
    )
    return [Finding("note", "wide", (label,), text, hint)]


def _sparse(label: str, delta: ExpertDelta) -> list[Finding]:
    share = delta.whole.zero_share
    if share < SPARSE_SHARE:
        return []
    text = f"{100 * share:.0f} % of its weights are exactly the base's"
    hint = (
        "trained in part, or changes too small for its dtype; methods that keep a share of the largest keep zeros too"
    )
    return [Finding("note", "sparse", (label,), text, hint)]


def _untouched(label: str, delta: ExpertDelta) -> list[Finding]:
    kinds = [kind for kind, part in delta.kinds.items() if not part.delta_norm and part.parameters]
    if not kinds:
        return []
    text = f"did not change {some(kinds, len(kinds))}"
    return [Finding("note", "untouched", (label,), text, "parameters of this expert for these tensors have no effect")]


def _angle(labels: tuple[str, str], cosine: float, wholes: Sequence[Part]) -> list[Finding]:
    norms = [whole.delta_norm for whole in wholes]
    chance = CHANCE_DEVIATIONS / math.sqrt(max(min(whole.parameters for whole in wholes), 1))
    if cosine >= 1.0 - 1e-9 and math.isclose(*norms, rel_tol=1e-9):
        return [Finding("warning", "identical", labels, "the same task vector (cosine 1)", "leave one of them out")]
    if cosine > COLLINEAR_COSINE:
        text = (
            f"nearly the same task vector (cosine {cosine:.3f}): two checkpoints of one run, or one made from the other"
        )
        hint = "average them (linear, or metrics_weighted by their scores) and merge the average; DARE gains nothing"
        return [Finding("warning", "collinear", labels, text, hint)]
    if cosine < min(OPPOSITE_COSINE, -chance):
        text = f"task vectors point against each other (cosine {cosine:.2f}): each undoes part of the other"
        hint = "expect a trade-off, not a gain in both; let the search find unequal weights, or weights per layer"
        return [Finding("warning", "opposite", labels, text, hint)]
    return []
