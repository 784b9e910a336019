import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.evaluation import overlap as module
from evomerge.evaluation.overlap import NgramIndex, overlap, print_overlap, read_text, words


class Told:
    """A task of given texts."""

    splits = ("search", "report")

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def items(self, split):
        return [f"{split}:{i}" for i in range(len(self.texts)) if (i % 2 == 0) == (split == "report")]

    def text(self, item):
        return self.texts[int(item.split(":")[1])]


def told(count: int, first: int = 0) -> str:
    """A text of so many different words."""
    return " ".join(f"w{i}" for i in range(first, first + count))


def shares(texts, other, n=3):
    index = NgramIndex(texts, n)
    index.scan([(other, True)])
    return index.shares()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's  3,000 EUR — well-known_names!\n", ["its", "3000", "eur", "wellknownnames"]),
        ("x + 1 = 2", ["x", "1", "2"]),
        ("Straße \uff21\uff22\uff23 \ufb01n", ["straße", "abc", "fin"]),
        ("答案是 42。", ["答", "案", "是", "42"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902?",
            ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u092e\u0947\u0902"],
        ),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_shares_by_hand():
    texts = ["a b c d e", "a b", "x y z", "A, b. C!"]
    # "a b c" and "b c d" occur, "c d e" does not; "y z" goes on in another word; the last text is whole.
    assert shares(texts, "he said: a b c d f; x y q z") == [2 / 3, None, 0.0, 1.0]


def test_an_ngram_that_an_item_says_twice_counts_twice():
    assert shares(["a b c x a b c"], "a b c") == [2 / 5]


def test_a_text_ends_where_it_ends():
    index = NgramIndex(["a b c d"], 3)
    index.scan([("a b", True), ("c d", True)])
    assert index.shares() == [0.0]
    index.scan([("a b", False), (" c", True)])
    assert index.shares() == [0.5]
    index.scan([("d", True)])
    assert index.shares() == [0.5]


def naive(texts, others, n):
    def grams(text):
        found = words(text)
        return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]

    known = {gram for text in others for gram in grams(text)}
    return [sum(g in known for g in grams(t)) / len(grams(t)) if grams(t) else None for t in texts]


TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=5)


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_equals_the_plain_count(texts, others, n):
    index = NgramIndex(texts, n)
    index.scan((text, True) for text in others)
    assert index.shares() == pytest.approx(naive(texts, others, n))


def test_many_words_in_small_portions(monkeypatch):
    monkeypatch.setattr(module, "_WORDS", 50)
    rng = random.Random(1)
    vocabulary = [rng.choice(string.ascii_lowercase) + str(rng.randint(0, 9)) for _ in range(20)]
    text = " ".join(rng.choices(vocabulary, k=5000))
    items = [" ".join(rng.choices(vocabulary, k=12)) for _ in range(50)] + [" ".join(text.split()[777:799])]
    found = NgramIndex(items, 3)
    found.scan([(part, False) for part in text.split(" ")])
    expected = naive(items, [text], 3)
    assert found.shares() == pytest.approx(expected)
    assert expected[-1] == 1.0
    assert 0.05 < sum(expected[:-1]) / 50 < 0.95
    assert found.words_read == 5000


def test_equal_hashes_are_told_apart():
    """With factors of 1 the hash of an n-gram is the sum of its words' numbers, so that many are equal."""
    index = NgramIndex(["a b c", "c b a", "d d d"], 3)
    index._factors[:] = 1
    starts = module._starts(index._stream, 3)
    hashes = index._hash(index._stream, starts)
    index._hashes, index._first = hashes[[0, 2]], starts[[0, 2]]
    index._ngram = module.np.array([0, 0, 1])
    index._table[:] = True
    index.scan([("b a c", True)])  # the same sum as "a b c"
    assert index.shares() == [0.0, 0.0, 0.0]


def test_pieces_of_plain_text(tmp_path, monkeypatch):
    text = told(2000) + "\n" + "x" * 300 + " " + told(50, first=5000)
    (tmp_path / "a.txt").write_text(text)
    for size in (16, 100, 1 << 20):
        monkeypatch.setattr(module, "_PIECE", size)
        pieces = list(read_text(tmp_path / "a.txt"))
        assert "".join(piece for piece, _ in pieces) == text
        assert [ends for _, ends in pieces] == [False] * (len(pieces) - 1) + [True]
        assert max(len(piece) for piece, _ in pieces) <= max(2 * size, 16)
        found = [word for piece, _ in pieces for word in piece.split()]
        assert found[:2000] + found[-50:] == [word for word in text.split() if "x" not in word]  # only x is torn


def test_strings_of_json_lines(tmp_path):
    rows = [{"q": "a b", "turns": [{"t": "c"}, {"n": 3}]}, ["d"], "e"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps([row for row in rows if isinstance(row, dict)]))
    assert list(read_text(tmp_path / "a.jsonl")) == [(text, True) for text in ("a b", "c", "d", "e")]
    assert list(read_text(tmp_path / "a.json")) == [("a b", True), ("c", True)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "none.txt cannot be read: No such file"),
        ("a.jsonl", '{"a": 1}\n{"a": ', "a.jsonl, line 2, is not JSON"),
    ],
)
def test_bad_files(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as caught:
        list(read_text(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe " + told(13).encode() + b" \x00")
    assert overlap({"t": Told(told(13))}, [tmp_path / "a.txt"])["tasks"]["t"]["shares"] == {"report:0": 1.0}


def test_overlap(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "So: " + told(20).upper()}) + "\n")
    (tmp_path / "b.txt").write_text(f"{told(15, first=100)}, and then")
    tasks = {
        "one": Told(told(20), told(10) + " " + told(16, first=10 + 40), told(16, first=100), "too short"),
        "two": Told(told(30, first=300)),
    }
    result = overlap(tasks, [tmp_path / "a.jsonl", tmp_path / "b.txt"])
    assert result["tasks"]["one"] == {
        "shares": {"search:1": 0.0, "search:3": None, "report:0": 1.0, "report:2": 3 / 4},
        "found": ["report:0", "report:2"],
        "above": ["report:0", "report:2"],
    }
    assert result["tasks"]["two"] == {"shares": {"report:0": 0.0}, "found": [], "above": []}
    assert (result["n"], result["words"]) == (13, 21 + 17)
    assert json.loads(json.dumps(result)) == result
    print_overlap(result, most=1)
    assert capsys.readouterr().out.splitlines() == [
        "n-grams of 13 words, in 38 words of text",
        "one: 4 items, of 2 some n-gram occurs, of 2 at least 50 % (too short to be looked for: 1)",
        "  report:0  100 %",
        "  and 1 more",
        "two: 1 items, of 0 some n-gram occurs, of 0 at least 50 %",
    ]
    part = overlap(tasks, [tmp_path / "b.txt"], n=15, threshold=1.0, splits=["report"])["tasks"]["one"]
    assert part == {"shares": {"report:0": 0.0, "report:2": 0.5}, "found": ["report:2"], "above": []}


@pytest.mark.parametrize("options", [{"n": 0}, {"threshold": 0}, {"threshold": 1.5}])
def test_refused(options):
    with pytest.raises(UsageError, match="overlap: n must be"):
        overlap({}, [], **options)
