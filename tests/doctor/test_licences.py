from pathlib import Path

import pytest

from evomerge.doctor.licences import read_card, read_licence, terms


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("apache-2.0", "permissive"),
        ("mit", "permissive"),
        ("cc-by-4.0", "permissive"),
        ("cc-by-nc-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("other (qwen-research-noncommercial)", "non-commercial"),
        ("cc-by-sa-4.0", "share-alike"),
        ("gpl-3.0", "share-alike"),
        ("agpl-3.0", "share-alike"),
        ("llama3.1", "own terms"),
        ("gemma", "own terms"),
        ("other", "own terms"),
        ("ncsa", "permissive"),
        (None, "unknown"),
    ],
)
def test_terms(licence: str | None, kind: str) -> None:
    assert terms(licence) == kind


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: mit\n---\nText"}, "mit"),
        ({"README.md": "---\nlicense: other\nlicense_name: house-rules\n---\n"}, "other (house-rules)"),
        ({"README.md": "---\nlicense: [mit, apache-2.0]\n---\n"}, "mit, apache-2.0"),
        ({"README.md": "license: mit, but no head", "LICENSE": "MIT License\n\nCopyright"}, "mit"),
        ({"README.md": "---\n[: no yaml\n---\n", "LICENSE.txt": "Apache License\nVersion 2.0"}, "apache-2.0"),
        ({"LICENSE": "Attribution-NonCommercial 4.0 International"}, "cc-by-nc"),
        ({"LICENSE": "Our very own terms"}, "own text (Our very own terms)"),
        ({"LICENSE": ""}, None),
        ({}, None),
    ],
)
def test_a_card_comes_before_a_licence_file(tmp_path: Path, files: dict[str, str], licence: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_licence(tmp_path, read_card(tmp_path)) == licence
