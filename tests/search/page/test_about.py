import json

import pytest

from evomerge.errors import UsageError
from evomerge.search.page.about import LONGEST, About, cut
from tests.search.page.ledgers import known


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "about.json"
    path.write_text(json.dumps(known(3).to_dict()))
    assert About.read(path) == known(3)
    assert About.read(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "tensors": [], "metrics": 3}'])
def test_damaged_files_are_refused(tmp_path, text):
    path = tmp_path / "about.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="damaged"):
        About.read(path)
    path.write_text('{"version": 99}')
    with pytest.raises(UsageError, match="version 99"):
        About.read(path)


def test_long_texts_lose_their_middle():
    text = "".join(chr(ord("a") + i % 26) for i in range(3 * LONGEST))
    short = cut(text)
    assert len(short) <= LONGEST + 7
    assert (short[:100], short[-100:]) == (text[:100], text[-100:])
    assert cut("short") == "short"
    assert cut("half \ud800 a pair") == "half ? a pair"
