import pytest

from evomerge.evaluation import OutcomeStore
from evomerge.evaluation.types import Outcome
from evomerge.search.page.view import View
from evomerge.search.page.wins import EXAMPLES, MERGES, wins
from tests.search.page.ledgers import GLOBAL, TASKS, Ledger


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search whose finalists were scored on the selection split, with the answers of the first of them."""
    ledger = Ledger(config=GLOBAL).start().search(12)
    for number in (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13):
        ledger.tell(number, [0.4, 0.5, 0.6], "selection")
    return View.open(ledger.write(tmp_path_factory.mktemp("wins") / "run"))


def by_item(trial, split, task):
    return trial.scores[split][task].scores


def test_items_are_counted_against_the_best_parent(run):
    rows = wins(run)
    assert {row["split"] for row in rows} == {"search", "selection"}
    for row in rows:
        mine = by_item(run.record.trials[row["trial"]], row["split"], row["task"])
        parent = next(t for t in run.trials if t.name == row["parent"])
        theirs = by_item(parent, row["split"], row["task"])
        assert row["won"] == sum(a > b for a, b in zip(mine, theirs, strict=True))
        assert row["lost"] == sum(a < b for a, b in zip(mine, theirs, strict=True))
        assert row["both"] == sum(a == b == 1 for a, b in zip(mine, theirs, strict=True))
        assert row["won"] + row["lost"] + row["both"] + row["neither"] == 48
        assert sum(theirs) == max(sum(by_item(run.record.trials[n], row["split"], row["task"])) for n in (1, 2, 3))


def test_examples_are_of_the_best_and_the_finalists_on_the_split_farthest_from_the_search(run):
    rows = [row for row in wins(run) if row["examples"]]
    assert {row["split"] for row in rows} == {"selection"}
    assert {row["trial"] for row in rows} == {trial.number for trial in run.selected[:MERGES]}
    for row in rows:
        assert len(row["examples"]) == min(row["won"], EXAMPLES) + min(row["lost"], EXAMPLES)
        for example in row["examples"]:
            place = int(example["item"].partition(":")[2])
            mine = by_item(run.record.trials[row["trial"]], "selection", row["task"])
            assert example["mine_score"] == mine[place] != example["parents_score"]
            assert (example["prompt"], example["target"]) == (f"What is {place}?", f"{place}")
            assert example["mine"] is None, "no answers were kept"
        assert [e["mine_score"] for e in row["examples"]] == sorted(e["mine_score"] for e in row["examples"])[::-1]


def test_answers_come_from_the_store_also_of_the_run_that_was_forked(run, tmp_path):
    best = run.best
    row = next(row for row in wins(run) if row["trial"] == best.number and row["examples"])
    example = row["examples"][0]
    other = 1.0 - example["mine_score"]

    def outcome(score, answer):
        return Outcome(row["task"], example["item"], score, 1, False, answer, "p")

    ledger = Ledger(config=GLOBAL)
    ledger.events = list(run.events)
    parent = ledger.write(tmp_path / "parent")
    store = OutcomeStore(parent / "outcomes")
    store.add(best.fingerprint, "other settings", "s", [outcome(other, "no")])
    store.add(best.fingerprint, "settings", "s", [outcome(example["mine_score"], "x" * 5000)])
    store.close()
    child = ledger.write(tmp_path / "child", fork_from=str(parent))
    for path in (parent, child):
        found = next(r for r in wins(View.open(path)) if r["trial"] == best.number and r["task"] == row["task"])
        found = next(
            r
            for r in wins(View.open(path))
            if (r["trial"], r["task"], r["split"]) == (best.number, row["task"], "selection")
        )
        assert found["examples"][0]["mine"].startswith("xxx")
        assert len(found["examples"][0]["mine"]) < 1100


def test_items_that_are_not_known_are_counted_all_the_same(run, tmp_path):
    ledger = Ledger(config=GLOBAL)
    ledger.events = list(run.events)
    rows = wins(View.open(ledger.write(tmp_path / "run", about=False)))
    assert rows
    assert not any(row["examples"] for row in rows)
    assert {row["task"] for row in rows} == set(TASKS)
