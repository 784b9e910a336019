"""What `evomerge evaluate` says about a model, on real tasks and the tiny models that ship with evomerge."""

import json

import pytest

from evomerge.evaluation import load_tasks
from evomerge.evaluation.types import Likelihood, Outcome, responses_to_text
from evomerge.search.columns import RATES
from evomerge.search.evaluate import summary, table
from tests.search.runs import here

PERPLEXITY = """
task: prose
dataset_path: json
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
"""


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> str:
    """The path of a task that is scored by the likelihood of whole texts."""
    folder = tmp_path_factory.mktemp("prose")
    texts = ["Anna buys 3 apples.", "How many apples does Felix have now? He has 7 of them.", "Paul sells stones."]
    (folder / "test.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    path = folder / "prose.yaml"
    path.write_text(PERPLEXITY + f"dataset_kwargs: {{data_files: {{test: {folder / 'test.jsonl'}}}}}\n")
    return str(path)


def outcomes(scores, **more):
    return [Outcome("zoo_math", f"report:{i}", score, 10, False, "7", "", **more) for i, score in enumerate(scores)]


def test_shares_are_in_per_cent_and_rates_and_pace_are_told():
    task = load_tasks({"zoo_math": {"task": "zoo_math"}})["zoo_math"]
    rows = [
        *outcomes([1.0, 0.0, 1.0], seconds=0.5, strict=1.0, flexible=1.0),
        Outcome("zoo_math", "report:9", 0.0, 30, True, "", "", strict=0.0, flexible=1.0, seconds=0.5),
    ]
    result = summary(task, rows)
    assert (result["tokens"], result["seconds"], result["tokens_per_second"]) == (60, 2.0, 30.0)
    assert result["health"] == {"items": 4, "truncated": 0.25, "empty": 0.25, "looping": 0.0, "misshapen": 0.25}
    assert result["aggregate"] == result["mean"] == 0.5
    header, cells = table({"zoo_math": result})
    assert header == ["task", "score (95 % interval)", "items", RATES, "seconds", "tokens/s"]
    assert cells == [["zoo_math", "50.0 [15.0, 85.0] %", "4", "25/25/0/25", "2.0", "30"]]


def test_log_likelihoods_are_plain_and_have_no_health(prose):
    task = load_tasks({"prose": {"task": prose}})["prose"]
    rows = [
        Outcome(
            "prose", f"test:{i}", -value, 5, False, responses_to_text([Likelihood(-value, False)]), "", weight=words
        )
        for i, (value, words) in enumerate([(20.0, 4.0), (50.0, 12.0), (12.0, 3.0)])
    ]
    result = summary(task, rows)
    header, ((_, score, metric, items, health, _, pace),) = table({"prose": result})
    assert header[2] == "metric"
    assert (score, metric) == ("-27.33 [-77.1, 22.43]", f"word_perplexity {result['aggregate']:.4g}")
    assert result["aggregate"] == pytest.approx(2.718281828 ** (82 / 19))
    assert (items, health, pace) == ("3", "0/0/0/0", "-")


def test_the_command_prints_and_writes_all_of_it(prose, tmp_path):
    out = tmp_path / "out.json"
    done = here("evaluate", "zoo:base", "--tasks", f"zoo_math,{prose}", "--limit", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["version"] == 2
    prose_result, zoo = result["tasks"]["prose"], result["tasks"]["zoo_math"]
    assert prose_result["metric"] == "word_perplexity"
    assert prose_result["aggregate"] > 1 > 0 > prose_result["mean"]
    assert set(prose_result["health"].values()) == {0, 3}
    assert zoo["tokens"] > 0
    assert zoo["seconds"] > 0
    assert zoo["tokens_per_second"] == pytest.approx(zoo["tokens"] / zoo["seconds"])
    assert "word_perplexity" in done.stdout
    assert RATES in done.stdout
