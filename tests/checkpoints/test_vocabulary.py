import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.checkpoints.vocabulary import CHOICES, NONE, match_rows
from evomerge.errors import UsageError

CORE = {f"w{i}": i for i in range(5)}
ADDED = [f"<{letter}>" for letter in "abcdefg"]


@st.composite
def _model(draw: st.DrawFn) -> tuple[dict[str, int], int]:
    added = draw(st.lists(st.sampled_from(ADDED), unique=True))
    numbers = {**CORE, **{token: 5 + i for i, token in enumerate(added)}}
    return numbers, max(5, len(numbers) + draw(st.integers(-1, 4)))


def _named(numbers: dict[str, int], rows: int) -> dict[int, str]:
    return {number: token for token, number in numbers.items() if number < rows}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CHOICES),
    _model().filter(lambda m: len(m[0]) <= m[1]),
    st.dictionaries(st.sampled_from("xyz"), _model(), min_size=1),
    st.frozensets(st.sampled_from(ADDED)),
)
def test_every_row_is_accounted_for(
    choice: str,
    base: tuple[dict[str, int], int],
    experts: dict[str, tuple[dict[str, int], int]],
    removable: frozenset[str],
) -> None:
    result = match_rows(choice, *base, experts, removable)
    report = result.report
    merged = _named({**result.tokens, **report.removed}, report.rows)
    # the merged model's tokens
    assert len(set(result.tokens.values())) == len(result.tokens)
    assert max(result.tokens.values()) < report.rows
    assert report.rows >= base[1]
    wanted = {token: number for token, number in base[0].items() if token not in report.removed}
    assert {token: n for token, n in result.tokens.items() if token in base[0]} == wanted
    everywhere = [set(_named(*model).values()) for model in experts.values()]
    if choice == "base":
        assert set(result.tokens) == set(base[0])
        assert report.rows == base[1]
    elif choice == "union":
        assert set(result.tokens) == set(base[0]).union(*everywhere)
        assert list(report.appended.values()) == list(range(len(base[0]), len(result.tokens)))
    else:
        assert set(report.removed) == {t for t in base[0] if t in removable and not all(t in e for e in everywhere)}
        assert report.rows == base[1]
    # every expert's rows
    for label, (numbers, rows) in experts.items():
        theirs, account = _named(numbers, rows), report.experts[label]
        assert account.matched + len(account.moved) + len(account.filled) + account.padding == report.rows
        assert account.matched + len(account.moved) + len(account.dropped) == len(theirs)
        for row, origin in enumerate(result.maps[label]):
            token = merged.get(row)
            if token is None:
                assert origin == (row if row < rows and row not in theirs else NONE)
            elif token in account.filled:
                assert origin == NONE
                assert token in report.removed or token not in theirs.values()
            else:
                assert theirs[int(origin)] == token
                assert (token in account.moved) == (origin != row)
    # where the base's row of an appended token comes from
    assert set(result.means) == set(report.appended)
    for token, holders in result.means.items():
        assert holders == sorted(holders)
        assert {label for label, _ in holders} == {l for l, e in zip(experts, everywhere, strict=True) if token in e}
        assert all(experts[label][0][token] == row for label, row in holders)


@pytest.mark.parametrize("choice", CHOICES)
def test_models_that_agree_keep_every_row(choice: str) -> None:
    numbers = {**CORE, "<a>": 5}
    result = match_rows(choice, numbers, 8, {"x": (numbers, 8)}, frozenset({"<a>"}))
    assert result.maps["x"].tolist() == list(range(8))
    assert result.report.experts["x"].matched == 6
    assert not result.report.appended
    assert not result.report.removed


def test_an_example_of_each_choice() -> None:
    base = ({**CORE, "<pad>": 5, "<im>": 6}, 8)
    experts = {
        "chat": ({**CORE, "<im>": 5, "<tool>": 6}, 7),
        "code": ({**CORE, "<pad>": 5, "<fim>": 6, "<tool>": 7}, 8),
    }
    by_base = match_rows("base", *base, experts, frozenset())
    assert by_base.maps["chat"].tolist() == [0, 1, 2, 3, 4, NONE, 5, NONE]
    assert by_base.report.experts["chat"].moved == ("<im>",)
    assert by_base.report.experts["code"].dropped == ("<fim>", "<tool>")
    union = match_rows("union", *base, experts, frozenset())
    assert union.report.appended == {"<tool>": 7, "<fim>": 8}
    assert union.report.rows == 9
    assert union.maps["code"].tolist() == [0, 1, 2, 3, 4, 5, NONE, 7, 6]
    assert union.means == {"<tool>": [("chat", 6), ("code", 7)], "<fim>": [("code", 6)]}
    both = match_rows("intersection", *base, experts, frozenset({"<pad>", "<im>"}))
    assert both.report.removed == {"<im>": 6, "<pad>": 5}
    assert both.tokens == CORE
    assert match_rows("intersection", *base, experts, frozenset({"<im>"})).report.removed == {"<im>": 6}


def test_a_union_with_tokens_beyond_the_embeddings_is_refused() -> None:
    with pytest.raises(UsageError, match="take vocabulary base"):
        match_rows("union", {**CORE, "<a>": 5}, 5, {"x": (CORE, 5)}, frozenset())
