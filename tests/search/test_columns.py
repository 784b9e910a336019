from evomerge.evaluation.health import Health
from evomerge.evaluation.types import Outcome
from evomerge.search.columns import (
    FLAG_LINE,
    RATES,
    RATES_LINE,
    Cell,
    legend,
    rates,
    score_columns,
    trial_columns,
    with_error,
    with_interval,
)
from evomerge.search.record import TaskScore
from tests.search.records import answers, record

SOUND, SICK = Health(10), Health(10, truncated=0.1)


def test_rates():
    assert rates(Health(1000, truncated=0.12, looping=0.001, misshapen=1.0)) == "12/0/<1/100"


def test_a_task_has_a_column_of_rates_only_where_an_answer_is_not_sound():
    rows = [{"a": Cell("1", SOUND), "b": Cell("2", SOUND)}, {"a": Cell("3", SOUND), "b": Cell("4", SICK)}]
    header, columns = score_columns({"a": True, "b": False}, rows)
    assert header == ["a %", "b", RATES]
    assert columns == [["1", "2", "0/0/0/0"], ["3", "4", "10/0/0/0"]]
    assert legend(header, columns) == [RATES_LINE]


def test_only_what_occurs_is_explained():
    for cells, lines in (
        ([Cell("1", SOUND)], []),
        ([Cell("1", SICK)], [RATES_LINE]),
        ([Cell("1", SOUND, explained=True)], [FLAG_LINE]),
        ([Cell("1", SICK, explained=True)], [RATES_LINE, FLAG_LINE]),
    ):
        header, columns = score_columns({"a": True}, [{"a": cell} for cell in cells])
        assert legend(header, columns) == lines


def test_merges_are_marked_and_their_parents_are_not():
    parent, healed, taught = answers(5, wrong=2, cut=3), answers(5, wrong=2) + answers(3), answers(7, cut=3)
    models = [{"search": {"t": rows}} for rows in (answers(1, wrong=9), answers(0, wrong=10), parent, healed, taught)]
    trials = list(record(*models).trials.values())
    assert [trial.kind for trial in trials] == ["base", "expert", "expert", "uniform", "uniform"]
    _, columns = trial_columns(record(*models), trials, "search", with_error)
    assert [column[0].endswith("†") for column in columns] == [False, False, False, True, False]
    assert columns[2] == ["50.0 ± 16.7", "30/0/0/0"]


def test_scores_that_are_no_shares_are_not_in_per_cent():
    def rows(*values):
        return [Outcome("t", "", value, 1, False, "x", "") for value in values]

    shares, lengths = TaskScore.of(rows(0.25, 0.75)), TaskScore.of(rows(-1234.5, -1230.25))
    assert with_error(shares, True) == "50.0 ± 25.0"
    assert with_error(lengths, False) == "-1232 ± 2.1"
    assert with_interval(lengths, False) == "-1232 [-1259, -1205]", "Student's t, not cut"
    models = [{"search": {"a": rows(0.0, 1.0), "b": rows(*values)}} for values in ((0.0, 1.0), (0.5, 1.5))]
    run = record(*models)
    header, columns = trial_columns(run, list(run.trials.values()), "search", with_error)
    assert header == ["a %", "b"], "one model's score decides for all, so that a column has one unit"
    assert columns == [["50.0 ± 50.0", "0.5 ± 0.5"], ["50.0 ± 50.0", "1 ± 0.5"]]
