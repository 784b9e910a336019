"""Models of hand-made runs over real tiny checkpoints, exported, with cards that say what the files say."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.checkpoints import file_sha256
from evomerge.errors import UsageError, WorkError
from evomerge.merging import MergeEngine
from evomerge.recipes import Recipe
from evomerge.search.export import export_recipe, export_trial, rebuild_command
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.predicted import Predictions
from evomerge.search.record import TaskScore, Trial
from tests.checkpoints.conftest import family
from tests.checkpoints.models import copy_of
from tests.fake_hub import fake_hub, metadata_errors, see
from tests.merging.recipes import pool_of, recipe_of
from tests.search.records import answers
from tests.search.runs import here
from tests.search.test_preferred import run as predicting

__all__ = ["family", "predicting"]
Family = dict[str, Path]
BY_SPLIT = {"search": 12, "selection": 20, "report": 30}


def write_run(path: Path, family: Family, recipe: Recipe, *, splits: tuple[str, ...] = tuple(BY_SPLIT)) -> str:
    """Write a run that has scored base, experts and one candidate; return the candidate's fingerprint."""
    live = AutoModelForCausalLM.from_pretrained(family["base"], dtype=torch.float32)
    engine = MergeEngine(pool_of(family), live)
    fingerprint = engine.apply(recipe).fingerprint
    labels = list(recipe.experts)
    models = [("base", "base", recipe.with_(parameters={"weight": 0.0, "drop_rate": 0.0}))]
    models += [(label, "expert", recipe) for label in labels]
    models += [("candidate 4", "candidate", recipe)]
    begin = {"event": "begin", "version": LEDGER_VERSION, "evomerge": "0.1.0", "versions": {"torch": "2.13.0"}}
    begin |= {"objectives": {}, "prompts": {f"{split}/a": f"{i:016x}" for i, split in enumerate(BY_SPLIT)}}
    lines = [begin]
    for number, (name, kind, its) in enumerate(models):
        lines.append(Trial(number, kind, name, its, None).ask_event())
        for split in splits:
            right = BY_SPLIT[split] // 2 + number
            score = TaskScore.of(answers(right, wrong=BY_SPLIT[split] - right)).to_dict()
            told = {"event": "tell", "number": number, "split": split, "scores": {"a": score}, "seconds": 1.0}
            lines.append({**told, "fingerprint": fingerprint if kind == "candidate" else f"{number:016x}"})
    if "report" in splits:
        lines.append({"event": "report", "opening": 1, "numbers": [4]})
    path.mkdir()
    (path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"optimizer": {"name": "map"}, "seed": 3, "space": {"methods": [recipe.method]}}
    config["tasks"] = {"a": {"task": "a", "metric": "exact_match"}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return fingerprint


@pytest.fixture
def run(family: Family, tmp_path: Path) -> Path:
    write_run(tmp_path / "run", family, recipe_of(family))
    return tmp_path / "run"


def test_what_was_scored_is_what_ships_with_a_card_that_says_so(family: Family, tmp_path: Path) -> None:
    recipe, said = recipe_of(family), list[str]()
    fingerprint = write_run(tmp_path / "run", family, recipe)
    report = export_trial(tmp_path / "run", tmp_path / "out", prefer={}, say=said.append)
    assert report.fingerprint == fingerprint
    text = (tmp_path / "out" / "README.md").read_text()
    card = ModelCard(text)
    assert metadata_errors(text) == []
    assert card.data.license == "unknown", "the models name none"
    assert said == ["licence: base, expert code, expert math and expert prose name no licence: ask or look it up"]
    assert card.data.model_name == "out"
    [result] = card.data.eval_results
    assert result.metric_value == round(19 / 30, 4)
    assert Recipe.load(tmp_path / "out" / "recipe.yaml").hash == recipe.hash
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert Recipe.from_dict(json.loads(file.metadata()["evomerge_recipe"])) == recipe
    for label in ("base", "code", "math", "prose"):
        role = label if label == "base" else f"expert {label}"
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            assert f"| {role} | {name} | `{file_sha256(family[label] / name)}` |" in text
    assert f"| this model | model.safetensors | `{file_sha256(tmp_path / 'out' / 'model.safetensors')}` |" in text
    for index, (split, items) in enumerate(BY_SPLIT.items()):
        assert f"| a | {split} | {items} | `{index:016x}` |" in text
    rows = [
        line for line in text.splitlines() if line.startswith(("| base |", "| **this", "| code", "| math", "| prose"))
    ]
    assert any(
        re.fullmatch(r"\| \*\*this model\*\* \(candidate 4\) \| 63.3 \[\d+.\d, \d+.\d\] \| .*", row) for row in rows
    )
    assert any(row.startswith("| code | 53.3 [") for row in rows), "a parent beside it"
    assert "opened its report split 1 time." in text
    assert "| torch | " in text
    assert fingerprint in text


def test_the_command_in_the_card_builds_the_same_files(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = {"shard_bytes": 20_000, "tokenizer_from": "math"}
    first = export_trial(run, tmp_path / "out", prefer={}, **shards)  # type: ignore[arg-type]
    command = (tmp_path / "out" / "README.md").read_text().split("```bash\n")[1].split("\n```")[0]
    monkeypatch.chdir(tmp_path / "out")
    done = here(*command.replace("OUT_DIR", "../again").split()[1:])
    assert done.returncode == 0, done.stderr
    assert f"fingerprint {first.fingerprint}, as expected" in done.stdout
    again = {path.name: file_sha256(path) for path in (tmp_path / "again").iterdir()}
    assert {name: digest for name, digest in again.items() if name != "README.md"} == {
        name: digest for name, digest in first.files.items() if name != "README.md"
    }
    assert len([name for name in again if name.endswith(".safetensors")]) > 2
    assert "outside a run that scored it" in (tmp_path / "again" / "README.md").read_text()


def test_other_weights_than_were_scored_are_not_published(family: Family, tmp_path: Path) -> None:
    spoilt = {**family, "math": copy_of(family["math"], tmp_path / "math")}
    write_run(tmp_path / "run", spoilt, recipe_of(spoilt))
    path = tmp_path / "math" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WorkError, match="was expected"):
        export_trial(tmp_path / "run", tmp_path / "out", prefer={})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("splits", "on"), [(("search",), "search"), (("search", "selection"), "selection")])
def test_without_a_report_nothing_is_claimed_on_the_hub(
    family: Family, tmp_path: Path, splits: tuple[str, ...], on: str
) -> None:
    write_run(tmp_path / "run", family, recipe_of(family), splits=splits)
    export_trial(tmp_path / "run", tmp_path / "out", pick="4", prefer={})
    text = (tmp_path / "out" / "README.md").read_text()
    assert ModelCard(text).data.eval_results is None
    assert f"## Scores on the {on} split" in text
    assert "opened its report split 0 times" in text


def test_licences_of_the_parents(family: Family, tmp_path: Path) -> None:
    named = {name: copy_of(path, tmp_path / name) for name, path in family.items()}
    for name, path in named.items():
        (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        assert name
    said: list[str] = []
    export_recipe(recipe_of(named), tmp_path / "one", say=said.append)
    assert ModelCard((tmp_path / "one" / "README.md").read_text()).data.license == "apache-2.0"
    assert said == []
    (named["code"] / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    export_recipe(recipe_of(named), tmp_path / "two", say=said.append)
    text = (tmp_path / "two" / "README.md").read_text()
    assert ModelCard(text).data.license == "other"
    assert len(said) == 2
    for line in said:
        assert f"> **Warning:** {line.removeprefix('licence: ')}." in text


@pytest.mark.parametrize(("method", "there"), [("task_arithmetic", True), ("pcb", False)])
def test_a_mergekit_yaml_or_why_there_is_none(family: Family, tmp_path: Path, method: str, there: bool) -> None:
    export_recipe(recipe_of(family, method), tmp_path / "out")
    file, text = tmp_path / "out" / "mergekit.yaml", (tmp_path / "out" / "README.md").read_text()
    assert file.exists() == there
    assert ("There is no `mergekit.yaml`: mergekit has no method 'pcb'" in text) == (not there)
    if there:
        assert yaml.safe_load(file.read_text())["merge_method"] == method
        assert "`mergekit.yaml` tells mergekit the same" in text


def test_the_card_of_a_zoo_merge_passes_the_client_s_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`validate` asks the hub; here that is `tests/fake_hub.py`, which knows the documented rules and no others."""
    experts = {"math": "zoo:math", "code": "zoo:code"}
    parameters = {"weight": {"math": 0.5, "code": 0.5}}
    recipe = Recipe(method="task_arithmetic", base="zoo:base", experts=experts, parameters=parameters)
    said: list[str] = []
    export_recipe(recipe, tmp_path / "out", say=said.append)
    assert said == []
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    with fake_hub() as hub:
        see(hub, monkeypatch, tmp_path)
        card.validate()
        card.data.license = "my own"
        with pytest.raises(ValueError, match="license"):
            card.validate()


def test_it_loads_and_speaks(run: Path, tmp_path: Path) -> None:
    export_trial(run, tmp_path / "out", prefer={}, shard_bytes=30_000)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "w1 w2"}], return_tensors="pt")
    tokens = prompt if isinstance(prompt, torch.Tensor) else prompt["input_ids"]
    assert model.generate(tokens, max_new_tokens=3).shape[1] > tokens.shape[1]


def test_the_command_that_rebuilds_names_only_what_is_not_usual():
    assert rebuild_command("ab", 5 * 10**9, None) == "evomerge merge recipe.yaml OUT_DIR --expect ab"
    assert rebuild_command("ab", 1, "a b").endswith("--expect ab --shard-size 1 --tokenizer-from 'a b'")


def test_a_tokenizer_of_nobody(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'law': no such expert"):
        export_trial(run, tmp_path / "out", prefer={}, tokenizer_from="law")


def test_a_predicted_recipe_is_the_one_that_is_shown_and_claims_no_score(
    predicting: tuple[Path, Predictions], tmp_path: Path
) -> None:
    path, found = predicting
    point = found.best({"zoo_math": 2.0, "zoo_code": 1.0})
    words = ["--predicted", "--prefer", "zoo_math=2", "--prefer", "zoo_code=1"]
    done = here("export", str(path), str(tmp_path / "out"), *words)
    assert done.returncode == 0, done.stderr
    assert f"recipe {point.hash}, fingerprint " in done.stdout
    assert "not scored" in done.stdout
    assert f"next: evomerge evaluate {tmp_path / 'out'} --tasks zoo_math," in done.stdout
    assert " --split selection " in done.stdout
    assert Recipe.load(tmp_path / "out" / "recipe.yaml").hash == point.hash
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"Recipe `{point.hash}`" in text
    assert "None: this model was not scored." in text
    for task, (mean, low, high) in point.scores.items():
        assert f"- {task}: {mean:.3f} [{low:.3f}, {high:.3f}] on 100 items" in text
    assert "| chosen | by the weights zoo_math 2, zoo_code 1 |" in text
    assert ModelCard(text).data.eval_results is None
