"""Invented rows in the formats of the data sets that the tasks in conf/tasks are on, a handful each."""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
MMLU_ROWS = {"dev": 5, "validation": 2, "test": 2}


def write(folder: Path, rows: dict[str, list[Row]]) -> dict[str, str]:
    """Write a file a split; returns split -> path."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return {split: str(folder / f"{split}.jsonl") for split in rows}


def gsm8k_rows(first: int, count: int) -> list[Row]:
    return [
        {"question": f"Ada has {i} pens and buys 3. How many are there?", "answer": f"{i} + 3 = {i + 3}\n#### {i + 3}"}
        for i in range(first, first + count)
    ]


def mbpp_rows() -> list[Row]:
    return [
        {
            "task_id": i,
            "text": f"Write a function to add {i} to a number.",
            "code": f"def add_{i}(x):\r\n  return x + {i}",
            "test_list": [f"assert add_{i}({x}) == {x + i}" for x in (0, 1, -5)],
        }
        for i in (2, 3, 4, 11, 12, 13, *range(511, 515), *range(601, 611))
    ]


def humaneval_rows() -> list[Row]:
    return [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f'def times_{i}(x: int) -> int:\n    """x * {i}\n    >>> times_{i}(1)\n    {i}\n    """\n',
            "canonical_solution": f"    return x * {i}\n",
            "test": f"\nMETADATA = {{}}\n\ndef check(candidate):\n    assert candidate(2) == {2 * i}\n",
            "entry_point": f"times_{i}",
        }
        for i in range(3, 9)
    ]


def math_rows(first: int, count: int) -> list[Row]:
    return [
        {"problem": f"What is $\\frac{{{i}}}{{2}}$?", "solution": f"It is $\\boxed{{\\frac{{{i}}}{{2}}}}$."}
        for i in range(first, first + count)
    ]


def mgsm_rows(count: int) -> list[Row]:
    return [
        {"question": f"{i} + 4 = ?", "answer": None, "answer_number": i + 4, "equation_solution": None}
        for i in range(count)
    ]


def arc_rows(first: int, count: int) -> list[Row]:
    return [
        {
            "id": f"x{i}",
            "question": f"Which of these is the number {i}?",
            "choices": {"text": [str(i + k) for k in range(4)], "label": list("ABCD" if i % 2 else "1234")},
            "answerKey": "A" if i % 2 else "1",
        }
        for i in range(first, first + count)
    ]


def hellaswag_rows(first: int, count: int) -> list[Row]:
    return [
        {
            "ind": i,
            "activity_label": "Counting [title] sheep",
            "ctx_a": f"A shepherd counts {i} sheep.",
            "ctx_b": "then she",
            "ctx": f"A shepherd counts {i} sheep. then she",
            "endings": ["goes home.", f"sees {i} wolves. [step] Runs.", "sleeps.", "counts  on."],
            "label": str(i % 4),
        }
        for i in range(first, first + count)
    ]


def mmlu_rows(subject: str, split: str) -> list[Row]:
    return [
        {"question": f" {split} {i} of {subject}?", "subject": subject, "choices": list("wxyz"), "answer": i % 4}
        for i in range(MMLU_ROWS[split])
    ]


def wikitext_rows(count: int) -> list[Row]:
    return [{"page": f" = Page {i} = \n It has {i} @,@ 000 readers , at most . \n"} for i in range(count)]


def write_all(folder: Path, subjects: list[str]) -> dict[str, dict[str, str] | str]:
    """Write the data of every suite; returns its name -> `data_files`."""
    for subject in subjects:
        write(folder / "mmlu" / subject, {split: mmlu_rows(subject, split) for split in MMLU_ROWS})
    gsm8k = write(folder / "gsm8k", {"train": gsm8k_rows(0, 200), "test": gsm8k_rows(1000, 4)})
    arc = write(folder / "arc", {"train": arc_rows(0, 20), "validation": arc_rows(20, 10), "test": arc_rows(30, 4)})
    code = write(folder, {"mbpp": mbpp_rows(), "humaneval": humaneval_rows(), "mgsm": mgsm_rows(4)})
    mgsm = {"test": code["mgsm"]}
    for language in LANGUAGES:
        write(folder / "mgsm" / language, {"test": mgsm_rows(4)})
    return {
        "gsm8k": gsm8k,
        "gsm8k_cot": gsm8k,
        "mbpp": code["mbpp"],
        "mbpp_instruct": code["mbpp"],
        "humaneval": code["humaneval"],
        "humaneval_instruct": code["humaneval"],
        "math500": write(folder / "math", {"train": math_rows(1, 12), "test": math_rows(101, 4)}),
        "arc_easy": arc,
        "arc_challenge": arc,
        "hellaswag": write(folder / "hellaswag", {"train": hellaswag_rows(0, 12), "validation": hellaswag_rows(20, 4)}),
        "mmlu": {split: str(folder / "mmlu" / "{subset}" / f"{split}.jsonl") for split in MMLU_ROWS},
        "wikitext": write(
            folder / "wikitext", {s: wikitext_rows(n) for s, n in (("train", 6), ("validation", 4), ("test", 3))}
        ),
        "mgsm": {"test": str(folder / "mgsm" / "{subset}" / "test.jsonl")},
        **{f"mgsm_{language}": mgsm for language in LANGUAGES},
    }
