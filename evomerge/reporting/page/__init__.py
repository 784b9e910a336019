"""The report page: plain data in, one HTML file out that needs no server and no network.

`render` puts data, style, scripts and the chart library into one text. The views are small JavaScript files in
`scripts/`, put together in the order of `SCRIPTS`; they draw what the data hold and choose among it, but compute no
statistics. This package knows nothing about runs, recipes or models.
"""

import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

#: The version of the data that the page's scripts read.
PAGE_VERSION = 1

#: Scripts in the order in which the browser reads them: tools first, then one file a view, and the start last.
SCRIPTS = (
    "dom",
    "format",
    "data",
    "state",
    "theme",
    "charts",
    "glance",
    "optimizers",
    "front",
    "parallel",
    "table",
    "detail",
    "preference",
    "progress",
    "layers",
    "importance",
    "items",
    "health",
    "cost",
    "start",
)

_HERE = files(__package__)


def render(data: Mapping[str, Any]) -> str:
    """Return the page that shows `data` as the text of one HTML file (UTF-8, some 5 MB, most of it the chart library).

    Args:
        data: JSON data of version `PAGE_VERSION`. All texts in it are untrusted: the page never reads them as HTML.

    Raises `ValueError` for data of another version and for numbers that JSON has not (NaN and infinities: give null).
    """
    from plotly.offline import get_plotlyjs  # here: it takes a while to load

    if data.get("version") != PAGE_VERSION:
        raise ValueError(f"page data of version {data.get('version')!r}, expected {PAGE_VERSION}")
    parts = {
        "title": html.escape(str(data["title"])),
        "style": _read("page.css"),
        "library": _in_script(get_plotlyjs()),
        "data": _as_json(data),
        "script": "\n".join(_read(f"scripts/{name}.js") for name in SCRIPTS),
    }
    page, *rest = _read("page.html").split("{{")
    for piece in rest:
        name, text = piece.split("}}", 1)
        page += parts[name] + text
    return page


def _read(name: str) -> str:
    return _HERE.joinpath(name).read_text(encoding="utf-8")


def _as_json(data: Mapping[str, Any]) -> str:
    """Return JSON in which nothing can end the script element that holds it, nor open a comment in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _in_script(source: str) -> str:
    """Return JavaScript that does not end the element it stands in; inside strings and patterns `<\\/` means `</`."""
    return source.replace("</script", "<\\/script")
