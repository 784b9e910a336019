"""The example of docs/methods.md is a method that works."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from evomerge.merging.methods import METHODS
from tests.merging.methods.support import run

_DOCS = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_example_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", _DOCS.read_text(), re.DOTALL)[0]
    (tmp_path / "magmax.py").write_text(code)
    spec = importlib.util.spec_from_file_location("magmax", tmp_path / "magmax.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS, "magmax", module.MagMax())
    base = torch.tensor([1.0, 1.0, 1.0])
    experts = {"a": torch.tensor([3.0, 0.0, 1.0]), "b": torch.tensor([0.0, 3.0, 1.0])}
    assert run("magmax", base, experts, {}, {"lambda": 0.5}).tolist() == [2.0, 2.0, 1.0]


def test_the_table_names_every_method_and_all_that_it_has() -> None:
    rows = {}
    for line in _DOCS.read_text().splitlines():
        match = re.match(r"\| `(\w+)` \|(.*)", line)
        if match:
            rows[match[1]] = match[2]
    assert set(rows) == set(METHODS)
    inherits = {"dare_ties": "dare_linear", "breadcrumbs_ties": "breadcrumbs", "della": "della_linear"}
    for name, row in rows.items():
        text = row + rows.get(inherits.get(name, ""), "")
        for parameter in (*METHODS[name].parameters, *METHODS[name].options):
            assert parameter.name in text, f"{name}: {parameter.name}"
            written = re.search(rf"\b{parameter.name} \(([^);]+)", row)
            if written and parameter.default is not None:
                default = parameter.default
                expected = str(default).lower() if isinstance(default, bool) else default
                assert type(expected)(written[1]) == expected, f"{name}: {parameter.name}"
