"""`evomerge evaluate` with its defaults against lm-eval's own command line on an exported merge of the zoo: the same
prompts, answers and scores, item by item, in float32. An answer that differs is shown to be a tie of logits."""

import ast
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evomerge.evaluation import Generation, find_task_config, load_model, load_tasks
from evomerge.evaluation.data import MBPP_SPLITS, read_rows
from evomerge.evaluation.library import OWN_TASKS, STOCK_TASKS
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.ties import tie_gap
from tests.search.runs import evomerge

ITEMS = 100
BATCH = 32  # of lm-eval; ours finds its own
LENGTH = 256  # lm-eval's longest answer, where the task says none
TIE = 1e-3  # logits, or logarithms of probabilities, that are nearer than this are equal
RECIPE = """
method: dare_linear
base: zoo:base
experts: {code: zoo:code, math: zoo:math, translate: zoo:translate}
parameters: {weight: {code: 0.5, math: {layers.0-2: 0.8, all: 0.6}, translate: 0.4}, drop_rate: 0.2}
"""
# In the place of lm-eval's own file, which fetches a metric script when it is imported.
MBPP_UTILS = '''
import subprocess
import sys


def pass_at_1(references, predictions):
    """Run an answer and its asserts in a process of their own."""
    program = f"{only(predictions)}\\n{only(references)}\\nprint('all asserts held')"
    try:
        done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return 0.0
    return float(done.stdout.endswith("all asserts held\\n"))


def only(texts):
    return texts if isinstance(texts, str) else only(*texts)


'''

pytestmark = pytest.mark.slow

Rows = list[dict]


@dataclass(frozen=True)
class Exported:
    """A merge of the zoo on the disk, and loaded in float32."""

    path: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = evomerge("merge", str(folder / "recipe.yaml"), str(folder / "model"))
    assert done.returncode == 0, done.stderr
    return Exported(folder / "model", *load_model(folder / "model"))


def lm_eval(exported: Exported, tasks: str, folder: Path, include: Path, *options: str) -> dict[str, Rows]:
    """Run lm-eval in a process of its own and return its logged samples: task -> rows in document order."""
    folder.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf"),
        *("--model_args", f"pretrained={exported.path},dtype=float32", "--device", "cpu"),
        *("--tasks", tasks, "--include_path", str(include), "--batch_size", str(BATCH)),
        *("--log_samples", "--output_path", str(folder), *options),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {}
    for task in tasks.split(","):
        (path,) = folder.glob(f"**/samples_{task}_*.jsonl")
        rows[task] = [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def ours(exported: Exported, tasks: str, folder: Path, *options: str) -> dict[str, Rows]:
    """Run `evomerge evaluate` in a process of its own and return its outcomes by task."""
    arguments = ["--tasks", tasks, "--device", "cpu", "--out", str(folder / "ours.json")]
    done = evomerge("evaluate", str(exported.path), *arguments, *options, timeout=1800)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "ours.json").read_text())
    return {task: result["outcomes"] for task, result in report["tasks"].items()}


def paired(outcomes: Rows, rows: Rows, filter_name: str) -> list[tuple[dict, dict]]:
    """Return our outcome and lm-eval's row of each document."""
    mine = {int(outcome["item"].rpartition(":")[2]): outcome for outcome in outcomes}
    theirs = {row["doc_id"]: row for row in rows if row["filter"] == filter_name}
    assert theirs.keys() == mine.keys()
    assert len(mine) >= ITEMS
    return [(mine[index], row) for index, row in theirs.items()]


def prompt_hash(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def assert_same(
    exported: Exported, outcomes: Rows, rows: Rows, metric: str, filters: Mapping[str, str] | None = None
) -> None:
    """Compare item by item.

    Args:
        exported: whose answers they are.
        outcomes: ours.
        rows: lm-eval's.
        metric: lm-eval's name of the metric.
        filters: lm-eval's filter -> the key of an outcome that has the score under it; by default the only one's score.
    """
    filters = filters or {rows[0]["filter"]: "score"}
    ties: dict[str, float] = {}
    for filter_name, key in filters.items():
        pairs = paired(outcomes, rows, filter_name)
        assert len({outcome["answer"] for outcome, _ in pairs}) > ITEMS / 2, "else there is little to agree on"
        for outcome, row in pairs:
            item, answer = outcome["item"], row["resps"][0][0]
            prompt, options = row["arguments"]["gen_args_0"]["arg_0"], row["arguments"]["gen_args_0"]["arg_1"]
            assert prompt_hash(prompt) == outcome["prompt_hash"]
            if outcome["answer"] == answer:
                assert outcome[key] == row[metric], item
            elif item not in ties:
                tokens, answers = exported.tokenizer.encode(prompt), (outcome["answer"], answer)
                gap = tie_gap(exported.model, exported.tokenizer, tokens, *answers, stops=options["until"])
                assert gap is not None, f"{item} is no tie: {answers}"
                assert gap < TIE, f"{item} is no tie: {answers}"
                ties[item] = gap
    assert len(ties) <= len(outcomes) / 20, "ties are rare"
    print(f"{outcomes[0]['task']}: {len(outcomes)} items, {len(ties)} differ by ties: {ties}")


def test_zoo_tasks(exported, tmp_path):
    names = "zoo_math,zoo_translate,zoo_code"
    limit = ("--limit", str(2 * ITEMS))
    rows = lm_eval(exported, names, tmp_path / "theirs", OWN_TASKS, "--confirm_run_unsafe_code", *limit)
    outcomes = ours(exported, names, tmp_path, "--allow-code-execution", *limit)
    for name, metric, filters in (
        ("zoo_math", "exact_match", {"strict-match": "strict", "flexible-extract": "flexible"}),
        ("zoo_translate", "exact_match", None),
        ("zoo_code", "pass_at_1", None),
    ):
        assert_same(exported, outcomes[name], rows[name], metric, filters)
        assert 0.05 < sum(outcome["score"] for outcome in outcomes[name]) / len(outcomes[name]) < 0.95


def local_copy(stock: Path, folder: Path, name: str, files: Mapping[str, Path]) -> Path:
    """Copy one of lm-eval's task files, under another name and with its data in local files."""
    text = re.sub(r"^dataset_(path|name):.*\n", "", stock.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^task:.*$", f"task: {name}", text, flags=re.MULTILINE)
    text = re.sub(r"^tag:\n( *- .*\n)+", "", text, flags=re.MULTILINE)
    found = {split: str(path) for split, path in files.items()}
    keys = {"dataset_path": "json", "dataset_kwargs": {"data_files": found, "cache_dir": str(folder / "cache")}}
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text + yaml.safe_dump(keys))
    return path


def write_rows(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gsm8k(exported, tmp_path, real_data):
    """Then once more, from both sides' stored answers, where what the model said is the right answer of every second
    item: of the real ones it hardly solves any, and scores that are all zero agree easily."""
    filters = {"strict-match": "strict", "flexible-extract": "flexible"}
    files = {split: real_data / "gsm8k" / f"{split}.jsonl" for split in ("train", "test")}
    rows: Rows = []
    for round_, name in enumerate(("gsm8k_real", "gsm8k_solved")):
        if round_:
            said = {row["doc_id"]: row["filtered_resps"][0] for row in rows if row["filter"] == "flexible-extract"}
            solved = read_rows(files["test"])
            for index in range(0, ITEMS, 2):
                solved[index]["answer"] = f"#### {said[index]}"
            files["test"] = write_rows(tmp_path / "solved.jsonl", solved)
        local_copy(STOCK_TASKS / "gsm8k" / "gsm8k.yaml", tmp_path / name, name, files)
        cache = ("--use_cache", str(tmp_path / "answers"))
        rows = lm_eval(exported, name, tmp_path / f"theirs_{name}", tmp_path / name, "--limit", str(ITEMS), *cache)[
            name
        ]
        data = [option for split, path in files.items() for option in ("--data", f"gsm8k.{split}={path}")]
        options = ("--limit", str(ITEMS), "--max-gen-toks", str(LENGTH), "--outcomes", str(tmp_path / "outcomes"))
        outcomes = ours(exported, "gsm8k", tmp_path, *options, *data)["gsm8k"]
        assert_same(exported, outcomes, rows, "exact_match", filters)
    strict, flexible = (sum(outcome[key] for outcome in outcomes) for key in ("strict", "flexible"))
    assert 0.4 * ITEMS < flexible < 0.6 * ITEMS
    assert 0 < strict < flexible


def local_mbpp(folder: Path, file: Path) -> Path:
    """lm-eval's own task file, but for where its data and its metric are, in a folder of its own."""
    by_id = {row["task_id"]: row for row in read_rows(file)}
    test = write_rows(folder / "test.jsonl", [by_id[index] for index in MBPP_SPLITS["test"]])
    stock = STOCK_TASKS / "mbpp" / "mbpp.yaml"
    path = local_copy(stock, folder / "tasks", "mbpp_local", {"test": test})
    source = stock.with_name("utils.py").read_text()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    (shots,) = (ast.get_source_segment(source, node) for node in functions if node.name == "list_fewshot_samples")
    path.with_name("utils.py").write_text(f"{MBPP_UTILS}{shots}\n")
    return path.parent


def test_mbpp(exported, tmp_path, real_data):
    file = real_data / "mbpp" / "mbpp.jsonl"
    include, limit = local_mbpp(tmp_path, file), ("--limit", str(ITEMS))
    theirs = lm_eval(exported, "mbpp_local", tmp_path / "theirs", include, "--confirm_run_unsafe_code", *limit)
    options = ("--allow-code-execution", "--max-gen-toks", str(LENGTH), "--data", f"mbpp={file}")
    outcomes = ours(exported, "mbpp", tmp_path, *options, *limit)["mbpp"]
    assert_same(exported, outcomes, theirs["mbpp_local"], "pass_at_1")


def test_mbpp_scores_of_right_and_wrong_answers(tmp_path, real_data):
    """The zoo solves none of them, and scores that are all zero agree easily."""
    file = real_data / "mbpp" / "mbpp.jsonl"
    with undisturbed():
        loaded = TaskManager(include_path=str(local_mbpp(tmp_path, file)), include_defaults=False).load(["mbpp_local"])
    theirs = loaded["tasks"]["mbpp_local"]
    task = load_tasks(find_task_config("mbpp"), data={"mbpp": str(file)})["mbpp"]
    answers = []
    for index, doc in enumerate(list(theirs.eval_docs)[:ITEMS]):
        wrong = (doc["code"].replace("return", "return not"), f"{doc['code']}\nraise ValueError", "def f(:", "")
        answers.append(doc["code"] if index % 2 else wrong[index // 2 % 4])
    items = task.items("report", in_file_order=True)[:ITEMS]
    outcomes = task.outcomes([(i, [Generation(a, 1, False)]) for i, a in zip(items, answers, strict=True)])
    scores = [theirs.process_results(doc, [a])["pass_at_1"] for doc, a in zip(theirs.eval_docs, answers, strict=False)]
    assert [outcome.score for outcome in outcomes] == scores
    assert 0.4 * ITEMS < sum(scores) < 0.7 * ITEMS


def arc_rows(count: int) -> Rows:
    """Sums to choose from, in the format of ARC: three to five answers, some longer than others."""
    wordings = ("{}", "{} in all", "{}, if none is lost", "the number {}")
    rows = []
    for i in range(count):
        left, right = 3 + i % 17, 2 + i // 17
        size, labels = 3 + i % 3, "ABCDE" if i % 2 else "12345"
        numbers = [left + right, left + right + 1, left, left * right, right][:size]
        texts = [wordings[(i // 3 + place) % 4].format(number) for place, number in enumerate(numbers)]
        answer = i // 5 % size
        texts[0], texts[answer] = texts[answer], texts[0]
        rows.append(
            {
                "id": f"sum_{i}",
                "question": f"There are {left} stamps in Ida's basket. Ruth gives her {right}. How many has she now?",
                "choices": {"text": texts, "label": list(labels[:size])},
                "answerKey": labels[answer],
            }
        )
    return rows


def test_multiple_choice(exported, tmp_path):
    files = {split: write_rows(tmp_path / f"{split}.jsonl", arc_rows(2 * ITEMS)) for split in ("train", "test")}
    files["validation"] = files["train"]
    path = local_copy(STOCK_TASKS / "arc" / "arc_easy.yaml", tmp_path / "tasks", "arc_local", files)
    rows = lm_eval(exported, "arc_local", tmp_path / "theirs", tmp_path / "tasks")["arc_local"]
    data = [option for split, file in files.items() for option in ("--data", f"arc_easy.{split}={file}")]
    # Ours by its name is scored by acc_norm, and lm-eval's file by its first metric, which is acc.
    outcomes = ours(exported, f"arc_easy,{path}", tmp_path, *data)
    for name, metric in (("arc_easy", "acc_norm"), ("arc_local", "acc")):
        ties, largest = [], 0.0
        for outcome, row in paired(outcomes[name], rows, "none"):
            requests = [list(request.values()) for _, request in sorted(row["arguments"].items())]
            assert outcome["prompt_hash"] == prompt_hash(json.dumps(requests))
            mine, theirs = json.loads(outcome["answer"]), [response[0] for response in row["resps"]]
            assert [greedy for _, greedy in mine] == [greedy == "True" for _, greedy in theirs]
            logprobs = [[float(logprob) for logprob, _ in choices] for choices in (mine, theirs)]
            assert logprobs[0] == pytest.approx(logprobs[1], abs=TIE, rel=0)
            largest = max(largest, *(abs(a - b) for a, b in zip(*logprobs, strict=True)))
            lengths = [len(text) if metric == "acc_norm" else 1 for text in row["doc"]["choices"]["text"]]
            likely = [[value / length for value, length in zip(values, lengths, strict=True)] for values in logprobs]
            choices = [values.index(max(values)) for values in likely]
            if choices[0] == choices[1]:
                assert outcome["score"] == row[metric]
            else:
                best, second, *_ = sorted(likely[1], reverse=True)
                assert best - second < TIE
                ties.append(outcome["item"])
        assert 0.05 < sum(outcome["score"] for outcome in outcomes[name]) / len(outcomes[name]) < 0.95
        print(
            f"{metric}: {len(outcomes[name])} items, logprobs differ by {largest:.1e} at most, choices by ties: {ties}"
        )
    assert [o["score"] for o in outcomes["arc_easy"]] != [o["score"] for o in outcomes["arc_local"]]
