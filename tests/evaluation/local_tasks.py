"""Small tasks of every kind as YAML and JSON files: multiple choice, perplexities, BLEU, a group, a chat."""

import json
from pathlib import Path

COMMON = """
dataset_path: json
training_split: train
test_split: test
"""

CHOICE = """
output_type: multiple_choice
num_fewshot: 2
fewshot_split: train
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
"""

BLANK = """
output_type: multiple_choice
doc_to_text: "{{answer}}"
doc_to_choice: "{{[question + ' 1', question + ' 2 and more']}}"
doc_to_target: "plus"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""

ROLLING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} {{choices[answer]}}"
metric_list:
  - {metric: word_perplexity}
  - {metric: byte_perplexity}
  - {metric: bits_per_byte}
"""

CLOZE = """
output_type: loglikelihood
num_fewshot: 1
fewshot_split: train
doc_to_text: "{{question}}"
doc_to_target: " {{choices[answer]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""

BLEU = """
output_type: generate_until
num_fewshot: 1
fewshot_split: train
description: "Say it again.\\n"
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{question}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list:
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
  - {metric: chrf, aggregation: chrf, higher_is_better: true}
  - {metric: ter, aggregation: ter, higher_is_better: false}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""

PREFIXED = BLEU + 'gen_prefix: "Well,"\n'

KINDS = {"prefixed": PREFIXED, "choice": CHOICE, "blank": BLANK, "rolling": ROLLING, "cloze": CLOZE, "bleu": BLEU}
GROUP = """
group: exam
task: [exam_a, exam_tasks]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false}
"""


def rows(first: int, count: int) -> list[dict]:
    """Return sums to choose from; the right answer is at any place."""
    result = []
    for i in range(first, first + count):
        right = i + i % 7
        choices = [str(right - 3), f"{right + 10} or so", str(right * 2)]
        choices[i % 3] = str(right)
        result.append({"question": f"what is {i} plus {i % 7}?", "choices": choices, "answer": i % 3})
    return result


def write_tasks(folder: Path) -> dict[str, dict]:
    """Write all tasks and their data into a folder; returns the keys of a task by its kind.

    `--include_path FOLDER` makes lm-eval find the same tasks, on the same data, under the same names.
    """
    found = {}
    sizes = {"exam_a": (500, 9), "exam_b": (600, 21)}
    for name in [*KINDS, *sizes]:
        start, count = sizes.get(name, (1000, 24))
        files = {}
        for split, part in (("train", rows(0, 120)), ("test", rows(start, count))):
            path = folder / f"{name}_{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
            files[split] = str(path)
        options = {"data_files": files, "cache_dir": str(folder / "cache")}
        tag = "tag: exam_tasks\n" if name == "exam_b" else ""
        text = f"task: {name}\n{tag}{COMMON}{KINDS.get(name, CHOICE)}dataset_kwargs: {json.dumps(options)}\n"
        (folder / f"{name}.yaml").write_text(text)
        found[name] = {"task": str(folder / f"{name}.yaml")}
    (folder / "exam.yaml").write_text(GROUP)
    return {**found, "exam": {"task": str(folder / "exam.yaml")}}
