"""Pages of a real search: while it lies on disk as it ended, as it was killed, and without its `about.json`."""

import json
import shutil

import pytest

from evomerge.evaluation import OutcomeStore
from evomerge.search.directory import RunDirectory
from evomerge.search.page import page_data
from evomerge.search.page.about import About
from tests.search.runs import here, search_arguments


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    done = here(*search_arguments(path, "space.granularity=3", "budget.candidates=3"))
    assert done.returncode == 0, done.stderr
    return path


def embedded(page):
    """The data in a page, read as a browser would find it."""
    text = page.read_text(encoding="utf-8")
    start = text.index('<script type="application/json"')
    return json.loads(text[text.index(">", start) + 1 : text.index("</script>", start)])


def test_a_search_ends_with_a_page(run):
    data = embedded(run / "report.html")
    assert data == page_data([run])
    (shown,) = data["runs"]
    assert (shown["state"], shown["openings"]) == ("finished", 1)
    assert list(shown["cost"]["items"]) == ["search", "selection", "report"]
    assert shown["items"]["report"] == {"zoo_math": 8, "zoo_translate": 8}
    assert shown["trials"]["best"].count(True) == 1
    assert all("not clearly better than the base" in note for note in shown["notes"]), "six items are few"
    assert [row for row in shown["front_heat"]["mean"]["rows"] if row.startswith("layers")] == [
        f"layers.{layer}" for layer in range(6)
    ]


def test_the_texts_are_those_of_the_answers_that_were_scored(run):
    record, about = RunDirectory(run).read(), About.read(RunDirectory(run).about)
    store = OutcomeStore(RunDirectory(run).outcomes)
    (shown,) = page_data([run])["runs"]
    examples = [(row, example) for row in shown["wins"] for example in row["examples"]]
    assert examples
    assert {row["split"] for row, _ in examples} <= {"selection", "report"}
    for row, example in examples:
        trial = record.trials[row["trial"]]
        place = [item.id for item in about.items[row["split"]][row["task"]]].index(example["item"])
        assert trial.scores[row["split"]][row["task"]].by_place[place] == example["mine_score"]
        answers = [o.answer for o in store.of_model(trial.fingerprint) if o.item == example["item"]]
        assert example["mine"] in answers
        assert example["prompt"]
        assert example["target"]


def test_a_killed_run_has_a_page(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    lines = (path / "ledger.jsonl").read_text().splitlines(keepends=True)
    told = [i for i, line in enumerate(lines) if json.loads(line)["event"] == "ask"]
    (path / "ledger.jsonl").write_text("".join(lines[: told[-1] + 1]) + lines[-1][:20])
    for name in ("front.json", "report.json", "report.html", "surrogates.json"):
        (path / name).unlink(missing_ok=True)
    done = here("report", str(path))
    assert done.returncode == 0, done.stderr
    assert str(path / "report.html") in done.stdout
    (shown,) = embedded(path / "report.html")["runs"]
    assert shown["state"] == "stopped"
    assert shown["trials"]["scores"]["search"]["zoo_math"]["mean"][-1] is None


def test_about_is_written_anew_where_it_is_missing(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    (path / "about.json").unlink()
    done = here("report", str(path), "--out", str(tmp_path / "page.html"))
    assert (done.returncode, done.stderr) == (0, "")
    mine, theirs = (About.read(folder / "about.json") for folder in (path, run))
    assert (mine.items, mine.tensors, mine.metrics) == (theirs.items, theirs.tensors, theirs.metrics)

    (path / "about.json").unlink()
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("search: 6", "search: 5"))
    done = here("report", str(path), "--out", str(tmp_path / "page.html"))
    assert done.returncode == 0
    assert "its tasks are not what they were" in done.stderr
    assert not (path / "about.json").exists()

    (path / "config.yaml").write_text(text.replace("base: zoo:base", "base: someone/model"))
    assert "not on this machine" in here("report", str(path), "--out", str(tmp_path / "page.html")).stderr


def test_several_runs_share_a_page(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "other")
    done = here("report", str(run), "other")
    assert done.returncode == 0, done.stderr
    assert [shown["name"] for shown in embedded(tmp_path / "report.html")["runs"]] == ["run", "other"]


@pytest.mark.parametrize(("words", "said"), [(["nowhere"], "no run here"), ([], "RUN_DIR")])
def test_wrong_requests_are_refused_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here("report", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_page_that_cannot_be_written_is_said_to_be(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = here("report", str(run), "--out", str(tmp_path / "file" / "page.html"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
