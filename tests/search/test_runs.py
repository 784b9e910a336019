"""Tables, data and cards of a real run: health of every model, and how often the report split was opened."""

import json
import shutil

import pytest

from evomerge.search.columns import FLAG_LINE, RATES_LINE
from evomerge.search.directory import RunDirectory
from tests.search.runs import here, search_arguments


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A search with weights far too large, so that some models ramble on to the token limit."""
    path = tmp_path_factory.mktemp("runs") / "run"
    done = here(*search_arguments(path, "space.parameters.weight.high=6", "budget.candidates=3"))
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_the_report_has_the_same_health_as_the_ledger(run):
    path, _ = run
    record, report = RunDirectory(path).read(), json.loads((path / "report.json").read_text())
    assert (record.openings, report["opening"]) == (1, 1)
    assert len(report["rows"]) >= 5
    for row in report["rows"]:
        for task, score in row["scores"].items():
            in_ledger = record.trials[row["number"]].scores["report"][task]
            assert vars(in_ledger.health) == score["health"]
            assert in_ledger.scores == score["by_item"]
            assert (score["gain"] is None) == (row["title"] in ("base", "code", "math", "translate"))


def test_the_front_needs_the_ledger_alone(run, tmp_path):
    path, _ = run
    alone = tmp_path / "run"
    alone.mkdir()
    shutil.copy(path / "ledger.jsonl", alone)
    tables = [here("front", str(folder)).stdout.rpartition("next:")[0] for folder in (path, alone)]
    assert tables[0] == tables[1] != ""
    data = json.loads(here("front", str(alone), "--json").stdout)
    written = json.loads((path / "front.json").read_text())
    assert {row["number"]: row for row in data["members"]} == {row["number"]: row for row in written["members"]}
    for member in data["members"]:
        for scores in member["scores"].values():
            known = {"mean", "error", "low", "high", "items", "health", "gain"}
            assert all(set(score) == known for score in scores.values())


def test_rambling_models_are_seen(run):
    record = RunDirectory(run[0]).read()
    sick = {
        trial.number
        for trial in record.trials.values()
        for score in trial.scores["search"].values()
        if score.health.truncated > 0.3
    }
    assert sick
    assert not sick & {trial.number for trial in record.of_kind("base", "expert")}


def test_what_is_marked_is_explained(run):
    shown = run[1] + here("front", str(run[0])).stdout
    assert ("t/e/l/m %  " in shown) == (RATES_LINE in shown)
    assert (" †" in shown.replace(FLAG_LINE, "")) == (FLAG_LINE in shown)


@pytest.mark.parametrize("opened", [True, False])
def test_a_card_says_how_often_the_report_was_opened(run, tmp_path, opened):
    path = tmp_path / "run"
    shutil.copytree(run[0], path)
    if not opened:  # as if the search had been killed, or were one of a sweep
        lines = (path / "ledger.jsonl").read_text().splitlines(keepends=True)
        before = [i for i, line in enumerate(lines) if json.loads(line)["event"] == "report"]
        (path / "ledger.jsonl").write_text("".join(lines[: before[0]]))
        (path / "report.json").unlink()
    done = here("export", str(path), str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "model" / "README.md").read_text()
    if opened:
        assert "## Scores on the report split" in card
        assert "opened its report split 1 time." in card
    else:
        assert "## Scores on the selection split" in card
        assert "opened its report split 0 times" in card
    assert "**this model** (candidate" in card
