import pytest

from evomerge.errors import UsageError
from evomerge.mergekit.references import Named, from_reference, to_reference
from evomerge.zoo import model_path


@pytest.mark.parametrize(
    ("reference", "written"),
    [
        ("org/name", "org/name"),
        ("org/name@main", "org/name@main"),
        ("/models/a", "/models/a"),
        ("zoo:math", str(model_path("math"))),
        ("/models/a+b", {"model": {"path": "/models/a+b"}}),
        ("/models/a@b", {"model": {"path": "/models/a@b"}}),
    ],
)
def test_references_are_written_so_that_mergekit_reads_the_same_model(reference, written):
    assert to_reference(reference) == written
    assert from_reference(written, "x").model == (written if reference.startswith("zoo:") else reference)


def test_an_adapter_is_written_on_top_of_the_base(tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    adapter = str(tmp_path / "lora")
    assert to_reference(adapter, "org/base") == f"org/base+{adapter}"
    assert from_reference(f"org/base+{adapter}", "x") == Named("org/base", adapter)
    odd = to_reference(adapter, "/a+b")
    assert odd == {"model": {"path": "/a+b"}, "lora": {"path": adapter}}
    assert from_reference(odd, "x") == Named("/a+b", adapter)


@pytest.mark.parametrize(
    "value",
    ["", None, 3, "a+b+c", "+b", "a+", {"model": {}}, {"modle": "a"}, {"model": "a", "override_architecture": "b"}],
)
def test_what_names_no_model_is_refused(value):
    with pytest.raises(UsageError, match="x: "):
        from_reference(value, "x")
