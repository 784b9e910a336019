from pathlib import Path

import pytest

from evomerge.reporting.licences import Licence, head, warnings


def model(path: Path, **files: str) -> Licence:
    path.mkdir()
    for name, text in files.items():
        (path / {"card": "README.md", "licence": "LICENSE"}[name]).write_text(text)
    return Licence.read(path)


def carded(*names: str) -> list[Licence]:
    return [Licence(name, "README.md", {"license": name}) for name in names]


def test_what_a_model_says(tmp_path: Path) -> None:
    card = model(tmp_path / "a", card="---\nlicense: mit\n---\n", licence="Apache License 2.0")
    assert card == Licence("mit", "README.md", {"license": "mit"})
    text = "---\nlicense: other\nlicense_name: house\nlicense_link: https://x.y/z\n---\n"
    named = model(tmp_path / "b", card=text)
    assert named.name == "other (house)"
    assert named.declared == {"license": "other", "license_name": "house", "license_link": "https://x.y/z"}
    assert model(tmp_path / "c", licence="MIT License\n") == Licence("mit", "LICENSE", {})
    assert model(tmp_path / "d") == Licence(None, None, {})
    assert model(tmp_path / "e", card="---\nlicense: unknown\n---\n") == Licence(None, None, {})
    several = model(tmp_path / "f", card="---\nlicense: [mit, apache-2.0]\n---\n")
    assert several == Licence("mit, apache-2.0", "README.md", {})
    assert model(tmp_path / "g", card="---\nlicense: {a: b}\n---\n").name is None


def test_one_licence_in_all_cards_is_the_head_s():
    assert head(carded("llama3.1", "llama3.1")) == {"license": "llama3.1"}
    own = Licence("other (house)", "README.md", {"license": "other", "license_name": "house"})
    assert head([own, own]) == {"license": "other", "license_name": "house"}


@pytest.mark.parametrize(
    ("licences", "named"),
    [
        ([], "unknown"),
        ([*carded("mit"), Licence(None, None, {})], "unknown"),
        (carded("mit", "apache-2.0"), "other"),
        (carded("other", "other"), "other"),
        # a licence file's beginning is no declaration
        ([Licence("mit", "LICENSE", {})] * 2, "other"),
        ([*carded("mit"), Licence("mit", "LICENSE", {})], "other"),
    ],
)
def test_anything_else_names_none(licences: list[Licence], named: str) -> None:
    assert head(licences) == {"license": named}


def test_warnings_name_what_differs_restricts_or_is_not_known():
    assert warnings(dict(zip("ab", carded("mit", "mit"), strict=True))) == []
    found = warnings(
        dict(zip("abcd", carded("apache-2.0", "cc-by-nc-4.0", "gpl-3.0", "llama3.1"), strict=True))
        | {"e": Licence(None, None, {})}
    )
    assert found[0] == "e names no licence: ask or look it up"
    assert "differ" in found[1]
    assert "a apache-2.0, b cc-by-nc-4.0, c gpl-3.0, d llama3.1" in found[1]
    assert [line.split(" (")[0] for line in found[2:]] == ["cc-by-nc-4.0", "gpl-3.0", "llama3.1"]
    assert "commercial" in found[2]
    assert "own terms" in found[3]
    assert "terms of its own" in found[4]
