"""The report page as a text: what is in it, and what cannot break out of its data."""

import html.parser
import json
import re
from pathlib import Path

import pytest

import evomerge.reporting.page as page
from evomerge.reporting.page import PAGE_VERSION, SCRIPTS, render
from tests.reporting.page.synthetic import HOSTILE, page_data


class _Elements(html.parser.HTMLParser):
    """All elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or tag

    def handle_data(self, data):
        self.texts[self._inside] = self.texts.get(self._inside, "") + data


@pytest.fixture(scope="module")
def hostile():
    data = page_data(hostile=True, candidates=3)
    return data, render(data)


def test_data_come_back_from_the_page_as_they_went_in(hostile):
    data, text = hostile
    assert json.loads(_Elements(text).texts["data"]) == data


def test_texts_of_the_data_make_no_elements(hostile):
    _, text = hostile
    elements = _Elements(text).elements
    assert sum(tag == "script" for tag, _ in elements) == 3, "the data, the library, the views"
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in elements)
    assert _Elements(text).texts["title"].strip() == HOSTILE


def test_a_page_needs_nothing_from_outside(hostile):
    _, text = hostile
    loading = {"src", "srcset", "poster", "action", "data", "manifest"}
    for tag, attributes in _Elements(text).elements:
        assert not loading & set(attributes), tag
        assert (attributes.get("href") or "#")[0] in "#d", "anchors and data: only"
    assert "default-src 'none'" in text
    style = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_every_script_is_in_the_page_once():
    found = {path.stem for path in (Path(page.__file__).parent / "scripts").glob("*.js")}
    assert found == set(SCRIPTS)
    assert len(SCRIPTS) == len(found)


def test_scripts_never_read_texts_as_html():
    for path in (Path(page.__file__).parent / "scripts").glob("*.js"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source), (
            path
        )
        assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|https?://", source), path


def test_scripts_define_each_name_once():
    """All scripts share one scope, so that a second function of a name would silently replace the first."""
    sources = [(Path(page.__file__).parent / "scripts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    names = [n for s in sources for n in re.findall(r"^(?:function|const|let|class) (\w+)", s, flags=re.MULTILINE)]
    assert sorted(names) == sorted(set(names))


def test_numbers_that_json_has_not_are_refused():
    data = page_data(candidates=0)
    data["runs"][0]["trials"]["seconds"][0] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        render(data)


def test_another_version_is_refused():
    with pytest.raises(ValueError, match="version 7"):
        render(page_data(candidates=0) | {"version": 7})
    assert PAGE_VERSION == 1
