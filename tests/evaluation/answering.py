"""Requests and answers, for the tests of what answers them."""

from collections.abc import Sequence

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evomerge.evaluation.quiet import undisturbed

PROMPTS = [f"Question: what is {i} plus {'1 ' * (i % 11)}?\nAnswer:" for i in range(40)]


def generating(prompts: Sequence[str] = PROMPTS, *, until=("\n",), limit=24) -> list[Instance]:
    options = {"until": list(until), "do_sample": False, "temperature": 0.0, "max_gen_toks": limit}
    return [Instance("generate_until", {}, (prompt, dict(options)), 0) for prompt in prompts]


def answers(backend, requests: Sequence[Instance], prefix: str = "") -> list:
    """Answer requests batch by batch, in order."""
    found = {}
    for batch in backend.batches(requests, prefix):
        for part in backend.respond([requests[index] for index in batch], prefix):
            found |= {batch[place]: response for place, response in part}
    return [found[index] for index in range(len(requests))]


def texts(backend, requests: Sequence[Instance], prefix: str = "") -> list[str]:
    return [answer.text for answer in answers(backend, requests, prefix)]


def harness(model_dir, batch_size=8) -> HFLM:
    """lm-eval's own language model."""
    with undisturbed():
        return HFLM(pretrained=str(model_dir), dtype="float32", device="cpu", batch_size=batch_size)
