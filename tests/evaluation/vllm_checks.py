"""What `test_vllm.py` has run by the Python that has vLLM: `python vllm_checks.py MODE FILE.json`.

Each mode starts vLLM once, does all that it is for, and writes what it saw; the tests say what that must be.
"""

import json
import os
import random
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError, UsageError
from evomerge.evaluation.backend import load_model
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.vllm import open_vllm
from evomerge.merging import MergeEngine
from evomerge.recipes import Recipe
from evomerge.zoo import items_path, model_path

CONTEXT = 1024
EXPERTS = {"math": "zoo:math", "code": "zoo:code"}


def main(mode, out):
    before = state()
    facts = {"here": here, "own": own, "parallel": parallel, "union": union}[mode]()
    after = state()
    names = ("environment", "random", "numpy", "torch")
    same = (
        one.equal(other) if torch.is_tensor(one) else one == other for one, other in zip(before, after, strict=True)
    )
    facts["disturbed"] = [name for name, kept in zip(names, same, strict=True) if not kept]
    Path(out).write_text(json.dumps(facts))


def state():
    """The environment (torch's compiler keeps a counter there) and the global random states."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("_TORCHINDUCTOR")}
    return environment, random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()


def zoo_recipe(method="dare_linear", **weights):
    drops = {"drop_rate": 0.2} if method in ("dare_linear", "ties") else {}
    return Recipe(method, "zoo:base", EXPERTS, {"weight": {"math": 0.7, "code": 0.6} | weights, **drops}, seed=3)


A, B = zoo_recipe(), zoo_recipe(math=0.2, code=1.0)
INFINITE = zoo_recipe("task_arithmetic", math=1e8).with_(dtype="float16")
BASE = zoo_recipe("task_arithmetic", math=0.0, code=0.0)


def zoo_requests(split, count, *, shots=0, **options):
    """Word problems, after as many solved ones (the same for all), which makes a long shared prefix."""
    rows = [json.loads(line) for line in items_path("math", split).read_text().splitlines()[:count]]
    solved = [json.loads(line) for line in items_path("math", "fewshot").read_text().splitlines()[:shots]]
    prefix = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in solved)
    options = {"until": ["\n\n", "Question:"], "do_sample": False, "max_gen_toks": 64} | options
    prompts = [f"{prefix}Question: {row['question']}\nAnswer:" for row in rows]
    return [Instance("generate_until", {}, (prompt, dict(options)), 0) for prompt in prompts]


def scoring_requests():
    """Pairs as multiple-choice tasks ask for them, and one without a context."""
    rows = [json.loads(line) for line in items_path("math", "search").read_text().splitlines()[:8]]
    pairs = [(f"Question: {r['question']}\nAnswer:", f" {other['answer']}") for r in rows for other in rows[:3]]
    pairs.append(("", rows[0]["question"]))
    return [Instance("loglikelihood", {}, pair, 0) for pair in pairs]


def documents():
    rows = [json.loads(line) for line in items_path("math", "search").read_text().splitlines()[:6]]
    return [Instance("loglikelihood_rolling", {}, (row["question"] + "\n" + row["answer"],), 0) for row in rows]


class Reference:
    """lm-eval's own model on the merge that `MergeEngine` builds."""

    def __init__(self, pool, path):
        self.model, tokenizer = load_model(path, dtype="float32")
        self.engine = MergeEngine(pool, self.model)
        with undisturbed():
            self.lm = HFLM(pretrained=self.model, tokenizer=tokenizer, batch_size=16, max_length=CONTEXT)

    def generate(self, requests):
        with undisturbed():
            return self.lm.generate_until(requests, disable_tqdm=True)

    def differences(self, requests, ours):
        """Return, of each answer that differs, the gap between the two likeliest tokens where it begins to."""
        gaps = []
        for request, mine, theirs in zip(requests, ours, self.generate(requests), strict=True):
            if mine != theirs:
                same = theirs[
                    : next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine))
                ]
                tokens = self.lm.tok_encode(request.args[0] + same)[-CONTEXT:]
                # the token that differs may begin before the first letter that does
                with torch.inference_mode():
                    logits = self.model(torch.tensor([tokens])).logits[0, -3:]
                top = logits.topk(2).values
                gaps.append(float((top[:, 0] - top[:, 1]).min()))
        return gaps


def here():
    """The engine in this process, on the zoo."""
    pool = ModelPool.open("zoo:base", EXPERTS)
    reference = Reference(pool, model_path("base"))
    engine, backend = open_vllm(pool, dtype="float32", max_length=CONTEXT, batch_size=96)
    facts = {"settings": backend.settings, "residence": engine.residence.reason}

    short = zoo_requests("search", 96)
    original = backend.generate_until(short)
    facts["fingerprints"] = {}
    for recipe in (A, zoo_recipe("ties"), zoo_recipe("linear"), B):
        facts["fingerprints"][recipe.method + recipe.hash] = (
            engine.apply(recipe).fingerprint,
            reference.engine.apply(recipe).fingerprint,
        )
    facts["again"] = engine.apply(B).rebuilt
    facts["loaded"] = equal_weights(backend, reference.model)

    # the last recipe was B, and B's keys and values are in the cache
    long = zoo_requests("search", 12, shots=12)
    facts["prefix_tokens"] = len(backend.tok_encode(long[0].args[0]))
    rows = list(backend.respond(long))
    facts["pieces"] = [len(piece) for piece in rows]
    facts["long_b"] = [response.text for _, response in sorted(row for piece in rows for row in piece)]
    facts["long_b_gaps"] = reference.differences(long, facts["long_b"])
    engine.apply(A)
    reference.engine.apply(A)
    facts["long_a"] = backend.generate_until(long)
    facts["long_a_gaps"] = reference.differences(long, facts["long_a"])
    facts["stale"] = without_forgetting(engine, backend, long)
    engine.forget()

    engine.apply(A)
    answers = backend.generate_until(short)
    facts["short_a"] = answers
    facts["short_a_gaps"] = reference.differences(short, answers)
    facts["tokens"] = health(reference, backend, short)

    cut = zoo_requests("search", 4, shots=16, max_gen_toks=200)
    facts["cut_tokens"] = [len(backend.tok_encode(request.args[0])) for request in cut]
    facts["cut_gaps"] = reference.differences(cut, backend.generate_until(cut))

    pairs = scoring_requests()
    with undisturbed():
        facts["pairs"] = [backend.loglikelihood(pairs), reference.lm.loglikelihood(pairs, disable_tqdm=True)]
        facts["documents"] = [
            backend.loglikelihood_rolling(documents()),
            reference.lm.loglikelihood_rolling(documents(), disable_tqdm=True),
        ]
    facts["windows"] = backend.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("one two " * 700,), 0)])

    batch = backend.respond(short)
    first = next(batch)
    batch.close()
    facts["closed_after"] = len(first)
    facts["unfinished"] = backend.model.llm_engine.get_num_unfinished_requests()
    facts["after_closing"] = backend.generate_until(short) == answers

    try:
        engine.apply(INFINITE)
    except CandidateError as error:
        facts["infinite"] = str(error)
    facts["after_failure"] = [engine.apply(A).rebuilt > 0, backend.generate_until(short) == answers]

    engine.apply(BASE)
    facts["restored"] = backend.generate_until(short) == original
    facts["changed"] = sum(one != other for one, other in zip(original, answers, strict=True))
    facts["refused"] = [
        refusal(lambda: open_vllm(pool, tensor_paralel=2)),
        refusal(lambda: backend.generate_until(zoo_requests("search", 1, max_gen_toks=CONTEXT))),
        refusal(lambda: backend.generate_until(zoo_requests("search", 1, num_beams=4))),
        refusal(lambda: engine.apply(Recipe("linear", "zoo:math", EXPERTS, {"weight": 0.5}))),
    ]
    facts["batches"] = [
        [len(batch) for batch in backend.batches(long + zoo_requests("search", 96))],
        backend.batches(long) == backend.batches(list(long)),
    ]
    backend.close()
    return facts


def own():
    """The engine in a process of its own: what it answers to long prompts is fresh."""
    pool = ModelPool.open("zoo:base", EXPERTS)
    engine, backend = open_vllm(pool, dtype="float32", max_length=CONTEXT, batch_size=96, own_process=True)
    facts = {"fingerprint": engine.apply(A).fingerprint, "long_a": None}
    long, short = zoo_requests("search", 12, shots=12), zoo_requests("search", 96)
    facts["long_a"] = backend.generate_until(long)
    batch = backend.respond(short)
    next(batch)
    batch.close()
    facts["short_a"] = backend.generate_until(short)
    try:
        engine.apply(INFINITE)
    except CandidateError as error:
        facts["infinite"] = str(error)
    engine.apply(B)
    facts["long_b"] = backend.generate_until(long)
    backend.close()
    return facts


def family(folder, *, added=False):
    """A base and an expert with random weights, a head that is the embeddings, and four heads of attention."""
    tokenizer = AutoTokenizer.from_pretrained(model_path("base"))
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=1280,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        **shape,
    )
    with torch.random.fork_rng():
        torch.manual_seed(8)
        for name in ("base", "expert"):
            model = LlamaForCausalLM(config)
            if added and name == "expert":
                tokenizer.add_tokens(["<wonder>"])
                model.resize_token_embeddings(max(1280, len(tokenizer)) + 8)
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
    return str(folder / "base"), {"expert": str(folder / "expert")}


def family_facts(folder, vocabulary, **options):
    base, experts = family(folder, added=vocabulary != "same")
    pool = ModelPool.open(base, experts, vocabulary=vocabulary)
    recipe = Recipe("dare_linear", base, experts, {"weight": 0.5, "drop_rate": 0.1}, dtype="float32")
    recipe = recipe.with_(vocabulary=vocabulary)
    requests = zoo_requests("search", 24, until=["\0"], max_gen_toks=24)
    engine, backend = open_vllm(pool, dtype="float32", max_length=CONTEXT, **options)
    facts = {"fingerprint": engine.apply(recipe).fingerprint, "tokens": pool.config["vocab_size"]}
    answers = backend.generate_until(requests)
    backend.close()
    with tempfile.TemporaryDirectory() as shape:
        Path(shape, "config.json").write_text(json.dumps(pool.config))
        pool.save_tokenizer(shape)
        model, tokenizer = load_model(shape, dtype="float32", weights=False)
    facts["expected"] = MergeEngine(pool, model).apply(recipe).fingerprint
    reference = Reference.__new__(Reference)
    reference.model = model
    with undisturbed():
        reference.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=CONTEXT)
    facts["gaps"] = reference.differences(requests, answers)
    facts["distinct"] = len(set(answers))
    return facts


def parallel():
    """A model in two pieces."""
    with tempfile.TemporaryDirectory() as folder:
        return family_facts(Path(folder), "same", tensor_parallel=2, cache_gib=0.5)


def union():
    """A merged vocabulary that is not the base's."""
    with tempfile.TemporaryDirectory() as folder:
        return family_facts(Path(folder), "union")


def equal_weights(backend, model):
    """Return how many tensors vLLM's model holds as the reference does, or the name of the first that differs.

    Norms, embeddings and head; the projections are packed in a form of vLLM's own.
    """
    theirs = model.state_dict()
    worker = backend.model.llm_engine.model_executor.driver_worker
    mine = {name: tensor for name, tensor in worker.get_model().state_dict().items() if name in theirs}
    whole = [name for name, tensor in mine.items() if tensor.shape == theirs[name].shape]
    return next((name for name in whole if not torch.equal(mine[name], theirs[name])), len(whole))


def without_forgetting(engine, backend, requests):
    """Return the answers where keys and values of the recipe before (B) are kept: what the contract is about."""
    engine.apply(B)
    backend.generate_until(requests)
    forget, backend.weights_changed, engine._on_change = backend.weights_changed, lambda: None, lambda: None
    engine.apply(A)
    stale = backend.generate_until(requests)
    backend.weights_changed = engine._on_change = forget
    return stale


def health(reference, backend, requests):
    """Return, of each answer, (tokens, truncated) and what they should be by the reference's own tokens."""
    found = []
    rows = dict(row for piece in backend.respond(requests) for row in piece)
    for index, request in enumerate(requests[:24]):
        tokens = reference.lm.tok_encode(request.args[0])
        with torch.inference_mode():
            output = reference.model.generate(torch.tensor([tokens]), max_new_tokens=64, do_sample=False)
        said = output[0, len(tokens) :].tolist()
        ends = [
            place
            for place in range(1, len(said) + 1)
            if said[place - 1] == reference.lm.eot_token_id
            or any(stop in reference.lm.tok_decode(said[:place]) for stop in ("\n\n", "Question:"))
        ]
        expected = [ends[0], False] if ends else [len(said), True]
        found.append(([rows[index].tokens, rows[index].truncated], expected))
    return found


def refusal(call):
    with suppress(AssertionError):
        try:
            call()
        except UsageError as error:
            return str(error)
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
