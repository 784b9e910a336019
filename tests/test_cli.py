"""The command line as a user meets it: real processes, real models, and at least twenty ways to get it wrong."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.search.directory import FRONT_VERSION
from evomerge.zoo import MODELS, model_path
from tests.search.runs import command, environment, evomerge, here, ledger, search, search_arguments

LINE = 400  # a clear line is not longer than this


def assert_refused(done, status, *words):
    """The process said no with this status, in one line that has these words, and without a traceback."""
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("evomerge: ")
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr) < LINE, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def copy_of(name, folder):
    return shutil.copytree(model_path(name), folder)


# ---- what works ------------------------------------------------------------------------------------------------------


def test_zoo_lists_models_and_prints_paths():
    listed = evomerge("zoo")
    assert listed.returncode == 0
    assert all(f"zoo:{name}" in listed.stdout for name in MODELS)
    assert evomerge("zoo", "base").stdout.strip() == str(model_path("base"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run."""
    path = tmp_path_factory.mktemp("runs") / "run"
    done = search(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no library noise"
    (path / "stdout.txt").write_text(done.stdout)
    return path


def test_a_run_directory_is_complete(run):
    for name in ("config.yaml", "ledger.jsonl", "outcomes", "front.json", "recipes", "best/recipe.yaml", "report.json"):
        assert (run / name).exists(), name
    front = json.loads((run / "front.json").read_text())
    assert front["version"] == FRONT_VERSION
    for member in front["members"]:
        assert (run / "recipes" / f"{member['number']}.yaml").exists()
    assert not list(run.rglob("*.new")), "no half-written files"


def test_the_table_shows_baselines_and_the_best_with_intervals(run):
    text = (run / "stdout.txt").read_text()
    table = text[text.index("report split") :]
    for name in ("base", "code", "math", "translate", "best uniform", "best found"):
        assert name in table
    assert "95 %" in table


def test_front_as_table_and_as_json(run):
    table = evomerge("front", str(run))
    assert table.returncode == 0
    assert "zoo_math" in table.stdout
    data = json.loads(evomerge("front", str(run), "--json", "--prefer", "zoo_math=1").stdout)
    scores = [member["scores"]["search"]["zoo_math"]["mean"] for member in data["members"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("pick", [["--pick", "best"], ["--pick", "knee"], ["--prefer", "zoo_translate=1"]])
def test_export_gives_the_weights_that_were_scored(run, tmp_path, pick):
    done = here("export", str(run), str(tmp_path / "model"), *pick)
    assert done.returncode == 0, done.stderr
    fingerprint = done.stdout.split("fingerprint ")[1].split(",")[0]
    assert fingerprint in {event.get("fingerprint") for event in ledger(run)}
    merged = here("merge", str(tmp_path / "model" / "recipe.yaml"), str(tmp_path / "again"))
    assert f"fingerprint {fingerprint}" in merged.stdout
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name].view(torch.int16), second[name].view(torch.int16)) for name in first)
    card = (tmp_path / "model" / "README.md").read_text()
    reported = {row["fingerprint"] for row in json.loads((run / "report.json").read_text())["rows"]}
    assert ("## Scores on the report split" in card) == (fingerprint in reported)
    assert "the run had opened its report split 1 time" in card


def test_evaluate_a_recipe_equals_evaluating_its_export(run, tmp_path):
    out = []
    assert here("export", str(run), str(tmp_path / "model")).returncode == 0
    for model in (str(run / "best" / "recipe.yaml"), str(tmp_path / "model")):
        file = tmp_path / f"{len(out)}.json"
        done = here("evaluate", model, "--tasks", "zoo_math,zoo_translate", "--limit", "12", "--out", str(file))
        assert done.returncode == 0, done.stderr
        out.append(without_times(json.loads(file.read_text())["tasks"]))
    assert out[0] == out[1]


def without_times(data):
    """Plain data without the seconds that things took."""
    if isinstance(data, list):
        return [without_times(value) for value in data]
    if isinstance(data, dict):
        return {key: without_times(value) for key, value in data.items() if "second" not in key}
    return data


def test_a_sweep_writes_one_run_a_job_and_opens_the_report_once(tmp_path):
    few = ("budget.candidates=1", "items={search: 3, selection: 3, report: 3}", "baselines.untuned=[]")
    words = search_arguments(tmp_path / "unused", "-m", "optimizer=random,sobol", "seed=2", *few)
    done = here(*words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in (tmp_path / "sweep").rglob("ledger.jsonl"))
    assert [path.name for path in runs] == ["optimizer=random,seed=2", "optimizer=sobol,seed=2"]
    assert all((path / "best" / "recipe.yaml").exists() and (path / "front.json").exists() for path in runs)
    assert sum((path / "report.json").exists() for path in runs) == 1
    assert "winner of the sweep" in done.stdout


# ---- twenty-odd ways to get it wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimzer=tpe"], ["'optimzer'", "did you mean 'optimizer'"]),
        (["optimizer=cmase"], ["optimizer=cmase", "did you mean 'cmaes'"]),
        (["objectives.zoo_math.floor=0.4"], ["write '+objectives.zoo_math.floor=...', with a plus"]),
        (["budget.candidats=3"], ["budget.candidats", "did you mean 'budget.candidates'"]),
        (["+budgett=3"], ["unknown key 'budgett'"]),
        (["budget.candidates=0"], ["budget.candidates: 0 must be above zero"]),
        (["items.search=-1"], ["items.search"]),
        (["seed=x"], ["seed"]),
        (["=="], ["=="]),
        (["~tasks.zoo_math", "~tasks.zoo_translate"], ["nothing to score"]),
        (["+tasks.nope.task=no_such_task"], ["no_such_task"]),
        (["+tasks.zoo_math.metrik=x"], ["metrik", "did you mean 'metric'"]),
        (["models.base=zoo:bas"], ["bas", "did you mean 'base'"]),
        (["models.experts.math=/nowhere/at/all"], ["/nowhere/at/all"]),
        (["models.experts.math=some/model"], ["some/model"]),
        (["models.dtype=int4"], ["int4"]),
        (["space.methods=[dare_liner]"], ["did you mean 'dare_linear'"]),
        (["space.parameters.weight.low=3"], ["must be below"]),
        (["+space.parameters.wait.low=0"], ["wait"]),
        (["optimizer.scalarization=sum"], ["sum", "weighted_sum"]),
        (["+optimizer.options.popsze=4"], ["popsze"]),
        (["evaluation.device=cuda:99"], ["cuda:99"]),
        (["fork_from=/nowhere"], ["/nowhere"]),
        (["evaluation.batch_size=0"], ["batch_size"]),
    ],
)
def test_bad_overrides(tmp_path, overrides, words):
    assert_refused(here(*search_arguments(tmp_path / "run", *overrides)), 2, *words)


def test_a_bad_override_in_a_process_of_its_own(tmp_path):
    assert_refused(search(tmp_path / "run", "optimizer=cmase"), 2, "did you mean 'cmaes'")


def test_code_is_not_run_unless_told_to():
    done = here("evaluate", "zoo:base", "--tasks", "zoo_code", "--limit", "2")
    assert_refused(done, 2, "zoo_code", "allow")


def damage_truncate(model):
    file = model / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1000)


def damage_header(model):
    data = bytearray((model / "model.safetensors").read_bytes())
    data[8:40] = b"\xff" * 32
    (model / "model.safetensors").write_bytes(data)


def damage_pickle(model):
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def damage_nan(model):
    tensors = load_file(model / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name].view(-1)[5] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def damage_shape(model):
    tensors = load_file(model / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name] = torch.cat([tensors[name], tensors[name]]).contiguous()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def damage_name(model):
    tensors = load_file(model / "model.safetensors")
    tensors["model.extra.weight"] = tensors.pop(sorted(tensors)[3])
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def damage_architecture(model):
    config = json.loads((model / "config.json").read_text())
    config.update(architectures=["MistralForCausalLM"], model_type="mistral")
    (model / "config.json").write_text(json.dumps(config))


def damage_tokenizer(model):
    text = json.loads((model / "tokenizer.json").read_text())
    vocab = text["model"]["vocab"]
    first, second = list(vocab)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (model / "tokenizer.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_truncate, "truncated"),
        (damage_header, "safetensors"),
        (damage_pickle, "pickle"),
        (damage_nan, "NaN"),
        (damage_shape, "shape"),
        (damage_name, "tensor"),
        (damage_architecture, "model_type"),
        (damage_tokenizer, "tokenizer"),
    ],
)
def test_bad_experts(tmp_path, damage, word):
    model = copy_of("math", tmp_path / "expert")
    damage(model)
    assert_refused(here(*search_arguments(tmp_path / "run", f"models.experts.math={model}")), 2, word)
    assert not (tmp_path / "run" / "ledger.jsonl").exists(), "refused before anything began"


def test_a_recipe_with_a_wrong_key(tmp_path):
    (tmp_path / "r.yaml").write_text("{method: ties, base: zoo:base, experts: {a: zoo:math}, paramters: {weight: 1}}")
    assert_refused(here("merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")), 2, "did you mean 'parameters'")
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_a_wrong_parameter(tmp_path):
    (tmp_path / "r.yaml").write_text("{method: ties, base: zoo:base, experts: {a: zoo:math}, parameters: {wait: 1}}")
    assert_refused(here("merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")), 2, "wait")


def test_an_output_folder_that_is_not_empty(run, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    assert_refused(here("export", str(run), str(tmp_path)), 2, "empty")
    assert (tmp_path / "keep.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["front", "{tmp}"], "no run here"),
        (["export", "{run}", "{tmp}/out", "--pick", "999"], "999"),
        (["export", "{run}", "{tmp}/out", "--prefer", "zoo_mat=1"], "did you mean 'zoo_math'"),
        (["export", "{run}", "{tmp}/out", "--prefer", "zoo_math=x"], "not a number"),
        (["evaluate", "zoo:base", "--tasks", "zoo_mth"], "zoo_math"),
        (["evaluate", "zoo:base", "--tasks", "zoo_math", "--limit", "0"], "--limit"),
        (["evaluate", "/nowhere", "--tasks", "zoo_math"], "/nowhere"),
        (["merge", "{tmp}/none.yaml", "{tmp}/out"], "none.yaml"),
        (["zoo", "mth"], "did you mean 'math'"),
        (["serch"], "serch"),
    ],
)
def test_bad_commands(run, tmp_path, arguments, word):
    filled = [a.format(run=run, tmp=tmp_path) for a in arguments]
    assert_refused(here(*filled), 2, word)


def test_a_run_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_refused(here(*search_arguments(tmp_path / "file" / "run")), 1, "file")


def limited(shell, tmp_path, *arguments):
    """Run the search below a shell line that takes something away; skip where the kernel does not let us."""
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    line = f"mkdir -p {tmp_path}/disk && {shell} && exec " + " ".join(command(*arguments))
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", line], capture_output=True, text=True, env=environment(), check=False
    )


def test_a_full_disk(tmp_path):
    arguments = [f"'{a}'" for a in search_arguments(tmp_path / "disk" / "run")]
    shell = f"mount -t tmpfs -o size=16k none {tmp_path}/disk"
    done = limited(shell, tmp_path, *arguments)
    assert_refused(done, 1, "space")


def test_a_read_only_run_directory(tmp_path):
    arguments = [f"'{a}'" for a in search_arguments(tmp_path / "disk" / "run")]
    done = limited(f"mount -t tmpfs -o ro none {tmp_path}/disk", tmp_path, *arguments)
    assert_refused(done, 1, "Read-only")
