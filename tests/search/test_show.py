"""`evomerge front` on run directories that are written by hand; on real runs in test_runs.py."""

import json

from evomerge.evaluation.types import Outcome
from evomerge.search.columns import FLAG_LINE, RATES_LINE
from evomerge.search.config import Selection
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.show import front_json, front_table
from tests.search.records import answers, write_run
from tests.search.test_finalists import run, select
from tests.search.test_results import BETTER, PARENT, WEAK


def lines(capsys, *models, path):
    front_table(write_run(path, *models), {})
    return capsys.readouterr().out.splitlines()


def model(rows, selection=None):
    return {"search": {"a": rows}, **({"selection": {"a": selection}} if selection else {})}


def test_flags_on_search_and_on_selection_are_told_apart(tmp_path, capsys):
    shown = lines(
        capsys,
        *(model(WEAK), model(PARENT, PARENT), model(WEAK, WEAK), model(WEAK), model(WEAK)),
        *(model(BETTER, BETTER), model(answers(8, cut=2), BETTER), model(answers(8, cut=2), answers(8, cut=2))),
        path=tmp_path,
    )
    rows = {" ".join(line.split()[:2]): line for line in shown}
    assert rows["candidate 5"].count("†") == 2
    assert rows["candidate 6"].count("†") == 1
    assert rows["candidate 6"].rstrip().endswith("†"), "on selection only"
    assert rows["candidate 7"].count("†") == 0, "a true gain"
    assert "20/0/0/0" in rows["candidate 7"]
    assert shown[-2:] == [RATES_LINE, FLAG_LINE]


def test_a_sound_run_needs_no_explanation(tmp_path, capsys):
    shown = lines(capsys, *(model(answers(n, wrong=10 - n)) for n in (1, 5, 1, 2, 2, 7)), path=tmp_path)
    assert shown[-1].startswith("search said")
    assert not any("†" in line or "/" in line for line in shown)


def test_log_likelihoods_are_plain_numbers(tmp_path, capsys):
    def lengths(n):
        return [Outcome("t", "", -123.25 * n, 1, False, "x", ""), Outcome("t", "", -100.0 * n, 1, False, "x", "")]

    shown = lines(capsys, *(model(lengths(n)) for n in (9, 2, 9, 9, 9, 1)), path=tmp_path)
    assert any("-111.6 ± 12" in line for line in shown)
    assert not any("%" in line for line in shown)


def test_the_front_as_data(tmp_path):
    run = write_run(tmp_path, *(model(rows) for rows in (WEAK, PARENT, WEAK, WEAK, WEAK, BETTER)))
    data = front_json(run, {})
    (member,) = data["members"]
    score = member["scores"]["search"]["a"]
    assert (data["version"], member["number"]) == (3, 5)
    assert score["gain"]["parent"] == "x"
    assert score["gain"]["explained_by_health"] is True
    assert score["health"]["truncated"] == 0.0


def write(path, found):
    """Write a record as a ledger."""
    lines = [{"event": "begin", "version": LEDGER_VERSION}]
    for trial in found.trials.values():
        lines.append(trial.ask_event())
        for split, scores in trial.scores.items():
            plain = {task: score.to_dict() for task, score in scores.items()}
            tell = {"event": "tell", "number": trial.number, "split": split, "scores": plain}
            lines.append({**tell, "fingerprint": "0", "seconds": 1.0})
    (path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_kind_stands_in_the_table(tmp_path, capsys):
    found = run((28, 26), (22, 22), (20, 20), (21, 21), random=[(15, 15), (12, 12)], untuned=[(9, 9)])
    write(tmp_path, found)
    front_table(tmp_path, {})
    before = capsys.readouterr().out
    select(found, Selection(2, 1, 2), random_7=(14, 14), candidate_8=(30, 30), average=(14, 14))
    write(tmp_path, found)
    front_table(tmp_path, {})
    after = capsys.readouterr().out
    for shown in (before, after):
        firsts = [line.split("  ")[0].strip() for line in shown.splitlines()]
        assert firsts[3:10] == ["base", "x", "y", "average", "arithmetic 0.5", "untuned 5", "best random of 2"]
        assert not any("random 6" in line or "random 7" in line for line in firsts)
    assert "Front on the" not in before
    assert "Front on the selection split (1 of its 1 members): hypervolume" in after
    (best,) = [line for line in after.splitlines() if "*" in line]
    raw, said = 100 * 28 / 40, float(best.split()[3])
    assert said < raw, "shrunk"
    assert "[" in best, "an interval on selection"
