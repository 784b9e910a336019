"""The doctor's report for a terminal: tables of facts and numbers, then the findings, worst first, then the verdict.

This file knows nothing about how anything was found.
"""

from itertools import zip_longest

from evomerge.doctor.deltas import KINDS, QUANTILES, Deltas
from evomerge.doctor.diagnose import Diagnosis
from evomerge.doctor.facts import Facts
from evomerge.doctor.findings import Finding, some
from evomerge.doctor.verdicts import safe_drop_rate
from evomerge.reporting.tables import print_table

_MARKS = {"stop": "STOP   ", "warning": "WARNING", "note": "note   "}
_INDENT = " " * 10


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a whole report."""
    print_table(_MODEL_HEADER, [_model_row(facts) for facts in diagnosis.models], title="models")
    if diagnosis.groups:
        rows = [
            [
                g.group,
                str(g.tensors),
                count(g.parameters),
                printable(some([name.removesuffix(".weight") for name in g.names], 4)),
            ]
            for g in diagnosis.groups
        ]
        header = ["group", "tensors", "parameters", "names"]
        print_table(header, rows, title="groups, as recipes and spaces name them", left=["names"])
    if diagnosis.deltas:
        _print_deltas(diagnosis.deltas)
    for finding, following in zip_longest(diagnosis.findings, diagnosis.findings[1:]):
        print(finding_text(finding))
        if finding.hint and (following is None or following.hint != finding.hint):  # once for a run of them
            print(f"{_INDENT}-> {finding.hint}")
    print(summary(diagnosis))


_MODEL_HEADER = ["model", "kind", "architecture", "layers", "hidden", "parameters", "GB", "dtype", "tokens", "licence"]


def _model_row(facts: Facts) -> list[str]:
    values = (
        facts.kind,
        facts.architecture,
        facts.setting("num_hidden_layers") or facts.setting("n_layer"),
        facts.setting("hidden_size") or facts.setting("n_embd"),
        count(facts.parameters) if facts.shapes else None,
        f"{facts.bytes / 1e9:.3g}" if facts.bytes else None,
        "+".join(facts.dtypes),
        facts.config.get("vocab_size"),
        facts.licence,
    )
    return [facts.label, *("-" if value in (None, "") else printable(str(value)) for value in values)]


def _print_deltas(deltas: Deltas) -> None:
    sampled = "" if deltas.sampled == 1 else f", from a sample of {100 * deltas.sampled:.2g} % of the weights"
    kinds = [kind for kind in KINDS if any(kind in delta.kinds for delta in deltas.experts.values())]
    rows = [
        [
            label,
            f"{delta.whole.relative_norm:.4f}",
            *(f"{delta.kinds[kind].relative_norm:.4f}" if kind in delta.kinds else "-" for kind in kinds),
        ]
        for label, delta in deltas.experts.items()
    ]
    print_table(["expert", "all", *kinds], rows, title=f"task vectors: |delta| / |base|{sampled}")
    rows = [
        [
            label,
            *(f"{delta.whole.quantile(q):.2g}" for q in QUANTILES),
            f"{delta.whole.largest:.2g}",
            f"{100 * delta.whole.zero_share:.1f}",
            f"{safe_drop_rate(delta.whole):.2f}",
        ]
        for label, delta in deltas.experts.items()
    ]
    header = ["expert", "median", *(f"{100 * q:g} %" for q in QUANTILES[1:]), "largest", "zeros %", "DARE rate below"]
    print_table(header, rows, title="size of |delta| in one weight")
    if deltas.cosines:
        labels = list(deltas.experts)
        rows = [[one, *(_cosine(deltas, one, two) for two in labels)] for one in labels]
        print_table(["expert", *labels], rows, title="cosines")


def _cosine(deltas: Deltas, one: str, two: str) -> str:
    if one == two:
        return "1"
    value = deltas.cosines.get((one, two), deltas.cosines.get((two, one)))
    return "-" if value is None else f"{value:z.3f}"


def finding_text(finding: Finding) -> str:
    """Return a finding in one line, without its hint."""
    return printable(f"{_MARKS[finding.severity]} {', '.join(finding.models)}: {finding.text}")


def summary(diagnosis: Diagnosis) -> str:
    """Return the verdict in one line."""
    numbers = {
        severity: sum(finding.severity == severity for finding in diagnosis.findings)
        for severity in ("stop", "warning", "note")
    }
    if not diagnosis.merges:
        blamed = dict.fromkeys(
            label for finding in diagnosis.findings if finding.severity == "stop" for label in finding.models
        )
        return f"They do not merge: {_number(numbers['stop'], 'finding')} about {', '.join(blamed)} to settle first."
    if numbers["warning"]:
        return f"They merge, with {_number(numbers['warning'], 'warning')}."
    return "They merge."


def _number(n: int, word: str) -> str:
    return f"{n} {word}" + ("" if n == 1 else "s")


def printable(text: str) -> str:
    """Return a text without what a hostile file may hold to confuse a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def count(n: int) -> str:
    """Write a number of weights as people say it.

    >>> count(494_032_768)
    '494 M'
    """
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {letter}"
    return str(n)
