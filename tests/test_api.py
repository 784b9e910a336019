"""evomerge as a library: real searches on the models that ship with it, small ones."""

import contextlib
import inspect
import io
import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import evomerge
from evomerge.config import compose
from evomerge.errors import UsageError, WorkError
from evomerge.optimizers import OPTIMIZERS, SobolSearch
from evomerge.recipes import Recipe
from tests.search.runs import here, ledger

SMALL = [
    *("space=global", "items={search: 4, selection: 4, report: 4}", "evaluation.batch_size=16"),
    *("baselines.grid=[0.5]", "baselines.untuned=[]", "selection.finalists=1", "selection.front=1"),
]
MODELS = {"base": "zoo:base", "experts": {"math": "zoo:math", "translate": "zoo:translate"}}


def search(path, *overrides, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        given = {"tasks": ["zoo_math", "zoo_translate"], "optimizer": "sobol", "candidates": 3, "seed": 1, **options}
        return evomerge.search(*SMALL, *overrides, **MODELS, **given, run_dir=path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return search(tmp_path_factory.mktemp("runs") / "run")


# ---- importing -------------------------------------------------------------------------------------------------------


def in_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_evomerge_loads_no_library():
    found = in_python("import evomerge, sys; print(sorted({'torch', 'numpy', 'pandas', 'hydra'} & sys.modules.keys()))")
    assert found.strip() == "[]"


@pytest.mark.parametrize("first", ["import evomerge.search.ledger", "from evomerge import search", "evomerge.search"])
def test_search_is_a_package_and_a_function(first):
    code = f"import evomerge; {first}\nimport evomerge.search.ledger, sys\n"
    code += "assert callable(evomerge.search) and evomerge.search.ledger.Ledger\n"
    code += "assert evomerge.search is sys.modules['evomerge.search'] and 'Run' in dir(evomerge)"
    in_python(code)


def test_the_package_has_the_signature_of_the_function():
    assert inspect.signature(evomerge.search) == inspect.signature(evomerge.api.search)


def test_unknown_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = evomerge.serch


# ---- searching -------------------------------------------------------------------------------------------------------


def test_keywords_say_what_overrides_say(run, capsys):
    overrides = ["optimizer=sobol", "seed=1", "budget.candidates=3", "~models.experts.code", "~tasks.zoo_code", *SMALL]
    assert dict(run.config) == compose(overrides)[0]
    before = ledger(run.path)
    assert here("search", *overrides, f"hydra.run.dir={run.path}").returncode == 0, "the same run, resumed"
    again = ledger(run.path)
    assert again == before


def test_without_a_directory_the_run_is_where_the_command_line_puts_it(run, tmp_path, monkeypatch):
    assert str(compose(["optimizer=tpe", "seed=4"])[1]) == "runs/search-tpe-seed4"
    monkeypatch.chdir(tmp_path)
    made = search(None, f"fork_from={run.path}", candidates=1, open_report=False)
    assert str(made.path) == "runs/search-sobol-seed1"
    assert made.record.openings == 0
    assert made.outcomes[made.outcomes.number == 0].answer.notna().all(), "taken over from the run before"
    assert made.report_path == made.path / "report.html"


def test_an_optimizer_of_ones_own_needs_no_file(run, tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "mine", SobolSearch)
    made = search(tmp_path / "run", f"fork_from={run.path}", optimizer="mine", candidates=1, open_report=False)
    assert made.config["optimizer"] == {"name": "mine", "scalarization": "weighted_sum", "options": {}}
    assert made.parameters.loc[5].equals(run.parameters.loc[5])


@pytest.mark.parametrize(
    ("overrides", "options", "words"),
    [
        ([], {"base": "zoo:base"}, "base and experts go together"),
        ([], {"tasks": "zoo_math"}, r"write a list, \['zoo_math'\]"),
        ([], {"tasks": ["zoo_mth"]}, "zoo_m"),
        ([], {"optimizer": "cmase"}, "did you mean 'cmaes'"),
        ([], {"candidates": 0}, "must be above zero"),
        (["optimzer=tpe"], {}, "did you mean 'optimizer'"),
        (["name=[", "seed"], {}, "is a bracket or a quote missing"),
    ],
)
def test_bad_requests(tmp_path, overrides, options, words):
    with pytest.raises(UsageError, match=words):
        evomerge.search(*overrides, **options, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_run_here(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        evomerge.Run.open(tmp_path)


# ---- what was found --------------------------------------------------------------------------------------------------


def test_frames_of_a_real_run(run):
    assert run.trials.kind.value_counts().to_dict() == {"base": 1, "expert": 2, "uniform": 2, "candidate": 3}
    assert run.best in run.front.index or len(run.front)
    assert run.front.worth.is_monotonic_decreasing
    assert str(run.best) in repr(run)
    front = json.loads((run.path / "front.json").read_text())
    assert front["best"] == run.best
    assert sorted(run.front.index) == [member["number"] for member in front["members"]]
    assert set(run.parameters.index) == {5, 6, 7}


def test_outcomes_are_the_items_behind_the_scores(run):
    outcomes, scores = run.outcomes, run.scores
    means = outcomes.groupby(["number", "split", "task"]).score.mean()
    for row in scores.itertuples():
        assert means[row.number, row.split, row.task] == pytest.approx(row.mean)
    assert outcomes.answer.notna().all()
    assert outcomes.tokens.sum() == scores.tokens.sum()
    items = outcomes[outcomes.split == "report"].groupby("task").item.unique()
    report = json.loads((run.path / "report.json").read_text())["items"]
    assert {task: list(ids) for task, ids in items.items()} == report


# ---- one candidate ---------------------------------------------------------------------------------------------------


def test_recipes(run):
    assert run.recipe() == Recipe.load(run.path / "best" / "recipe.yaml")
    assert run.recipe(0).hash == run.trials.recipe[0]
    assert run.recipe(prefer={"zoo_math": 1}).hash in set(run.front.recipe)
    with pytest.raises(UsageError, match="did you mean 'zoo_math'"):
        run.recipe(prefer={"zoo_mat": 1})
    with pytest.raises(UsageError, match="no such candidate"):
        run.recipe(99)


def test_a_live_model_is_the_exported_one(run, tmp_path):
    model = run.merge(device="cpu")
    assert isinstance(model, PreTrainedModel)
    report = run.export(tmp_path / "model")
    assert report.fingerprint == run.trials.fingerprint[run.best]
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto").state_dict()
    live = model.state_dict()
    assert live.keys() == exported.keys()
    assert all(torch.equal(live[name], exported[name]) for name in live)
    wide = run.merge(device="cpu", dtype="float32").state_dict()
    assert all(torch.equal(wide[name], live[name].float()) for name in live)


def test_a_live_model_speaks(run):
    tokenizer, model = run.tokenizer(), run.merge(0, device="cpu")
    asked = tokenizer("Q: 2+3", return_tensors="pt", return_token_type_ids=False)
    assert model.generate(**asked, max_new_tokens=3, do_sample=False).shape[1] > asked["input_ids"].shape[1]


def test_other_weights_than_those_that_were_scored_are_refused(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    text = (copy / "ledger.jsonl").read_text()
    (copy / "ledger.jsonl").write_text(text.replace(run.trials.fingerprint[run.best], "0" * 16))
    with pytest.raises(WorkError, match="builds other weights"):
        evomerge.Run.open(copy).merge(device="cpu")


def test_evaluating_what_was_scored_gives_its_scores_and_no_new_answers(run):
    sizes = {path: path.stat().st_size for path in (run.path / "outcomes").iterdir()}
    found = run.evaluate()
    scores = run.scores.set_index(["number", "split", "task"])
    for task, row in found.iterrows():
        assert row["mean"] == scores["mean"][run.best, "selection", task]
        assert row["items"] == 4
    assert {path: path.stat().st_size for path in (run.path / "outcomes").iterdir()} == sizes


def test_a_run_without_predictions_says_so(run):
    with pytest.raises(UsageError, match=str(run.path)):
        run.predicted({"zoo_math": 1})


def test_a_recipe_from_elsewhere_is_built_and_exported(run, tmp_path):
    recipe = run.recipe(0)
    assert run.export(tmp_path / "model", recipe).fingerprint == run.trials.fingerprint[0]


def test_evaluating_on_other_tasks_and_fewer_items(run):
    keys = {"task": "zoo_math", "filter": "flexible-extract", "splits": {"selection": "selection"}}
    found = run.evaluate(run.recipe(0), tasks={"other": keys}, limit=2)
    assert found.index.tolist() == ["other"]
    assert found["items"].tolist() == [2]
    with pytest.raises(UsageError, match="'test' is none of"):
        run.evaluate(split="test")
    with pytest.raises(UsageError, match="limit 0"):
        run.evaluate(limit=0)
