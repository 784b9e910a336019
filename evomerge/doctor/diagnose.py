"""The doctor: facts, comparisons, measured task vectors and verdicts of a base and its experts, in one report.

This file knows nothing about how the report is shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evomerge.checkpoints import resolve
from evomerge.doctor.compare import compare
from evomerge.doctor.deltas import QUANTILES, Deltas, Part, measure
from evomerge.doctor.facts import Facts
from evomerge.doctor.findings import SEVERITIES, Finding
from evomerge.doctor.fit import fit_findings, open_together, tensor_pairs, try_choices
from evomerge.doctor.layers import GroupRow, group_rows
from evomerge.doctor.verdicts import safe_drop_rate, verdicts
from evomerge.errors import UsageError

VERSION = 1
BASE = "base"


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        models: facts of the base and of the experts.
        groups: the groups that the base's tensors fall into.
        deltas: the measured task vectors; None where no weight could be compared.
        findings: worst first.
    """

    models: tuple[Facts, ...]
    groups: tuple[GroupRow, ...]
    deltas: Deltas | None
    findings: tuple[Finding, ...]

    @property
    def merges(self) -> bool:
        """True if nothing stops these models from being merged."""
        return not any(finding.severity == "stop" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "version": VERSION,
            "merges": self.merges,
            "models": [facts.to_dict() for facts in self.models],
            "groups": [asdict(row) for row in self.groups],
            "task_vectors": _deltas_dict(self.deltas) if self.deltas else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def diagnose(
    base: str,
    experts: Sequence[str],
    *,
    quick: bool = False,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Diagnosis:
    """Examine a base and its experts.

    Args:
        base: reference of the base.
        experts: references of the experts, at least one.
        quick: measure a sample of the weights only.
        threads: blocks of weights that are worked on at once.
        progress: is called now and then with the share of the weights that is done.

    Raises `UsageError` only if a reference leads to no directory; whatever is wrong inside is a finding.
    """
    if not experts:
        raise UsageError("no experts; name a base and at least one expert")
    root = Facts.read(BASE, base, resolve(base))
    others = [
        Facts.read(label, reference, resolve(reference), root)
        for label, reference in zip(labels(experts), experts, strict=True)
    ]
    findings = compare(root, others)
    fits = try_choices(root, others)
    stopped = {label for finding in findings if finding.severity == "stop" for label in finding.models}
    findings += fit_findings(fits, stopped | ({*fits} if BASE in stopped else set()))
    pool, refusal = open_together(root, others, fits)
    if refusal:
        findings.append(Finding("stop", "refused", tuple(facts.label for facts in others), refusal))
    pairs = [pair for pair in tensor_pairs(root, others, pool) if pair.experts]
    deltas = measure(pairs, threads=threads, quick=quick, progress=progress) if pairs else None
    if deltas:
        findings += verdicts(deltas)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis((root, *others), tuple(group_rows(root.shapes)), deltas, tuple(findings))


def labels(references: Sequence[str]) -> list[str]:
    """Return a short label for each reference: its last word, made unique.

    >>> labels(["org/model@main", "zoo:math", "/data/run1/model/"])
    ['model', 'math', 'model-2']
    """
    taken = {BASE}
    made = []
    for reference in references:
        word = reference.removeprefix("zoo:").partition("@")[0].rstrip("/").rpartition("/")[2] or "expert"
        label, number = word, 1
        while label in taken:
            number += 1
            label = f"{word}-{number}"
        taken.add(label)
        made.append(label)
    return made


def _deltas_dict(deltas: Deltas) -> dict[str, Any]:
    return {
        "sampled": deltas.sampled,
        "experts": {
            label: {
                **_part_dict(delta.whole),
                "cosine_to_base": delta.whole.cosine,
                "safe_drop_rate": safe_drop_rate(delta.whole),
                "not_finite": dict(delta.not_finite),
                "kinds": {kind: _part_dict(part) for kind, part in delta.kinds.items()},
                "groups": {group: _part_dict(part) for group, part in delta.groups.items()},
            }
            for label, delta in deltas.experts.items()
        },
        "cosines": [{"experts": list(pair), "cosine": cosine} for pair, cosine in deltas.cosines.items()],
    }


def _part_dict(part: Part) -> dict[str, Any]:
    data: dict[str, Any] = {
        "parameters": part.parameters,
        "base_norm": part.base_norm,
        "delta_norm": part.delta_norm,
        "relative_norm": part.relative_norm if part.base_norm or not part.delta_norm else None,
        "zero_share": part.zero_share,
        "largest": part.largest,
    }
    if len(part.counts):
        data["quantiles"] = {str(q): part.quantile(q) for q in QUANTILES}
    return data
