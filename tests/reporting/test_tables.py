import math

import pytest

from evomerge.reporting.statistics import Interval
from evomerge.reporting.tables import are_shares, digits, markdown, percent, plain, print_table


def test_intervals_as_text():
    assert percent(Interval(0.615, 0.02, 0.572, 0.656)) == "61.5 [57.2, 65.6]"
    assert plain(Interval(0.615, 0.02, 0.572, 0.656)) == "0.61 [0.57, 0.66]"
    assert digits(Interval(-213.4221, 3.0, -220.02, -206.75)) == "-213.4 [-220, -206.8]"
    assert digits(Interval(2.0, math.inf, -math.inf, math.inf)) == "2 [-inf, inf]"


@pytest.mark.parametrize(
    ("scores", "shares"),
    [([], True), ([0.0, 1.0, 0.5], True), ([1.0000001], False), ([0.5, -1e-9], False), ([math.nan], False)],
)
def test_shares_are_what_lies_in_the_unit_interval(scores, shares):
    assert are_shares(scores) is shares


def test_markdown_escapes_what_would_end_a_cell():
    assert markdown(["a", "b"], [["1|2", "3"]]) == ["| a | b |", "| --- | --- |", "| 1\\|2 | 3 |"]


def test_a_table_never_wraps_in_a_log(capsys):
    print_table(["model", "score"], [["m" * 60, "1 †"], ["n", "22"]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.strip()][2:] == [["m" * 60, "1", "†"], ["n", "22"]]
