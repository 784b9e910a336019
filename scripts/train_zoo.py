"""Trains the zoo: task files, tokenizer, base, experts. Every stage is kept, so a second call goes on where it stopped.

    python scripts/train_zoo.py                    # everything, into evomerge/zoo
    python scripts/train_zoo.py --quick --out DIR  # a smoke run of a minute

Stages are kept in `--work`; delete the folder of a stage to train it again. Knows nothing about merging; what the
models can do is measured by scripts/zoo_report.py.
"""

import argparse
import copy
import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from evomerge.zoo import MODELS
from evomerge.zoo.problems import MAKERS, stream
from evomerge.zoo.problems.files import SIZES, write_items
from evomerge.zoo.prompts import FORMATS

PAD, END = "<|pad|>", "<|end|>"
VOCABULARY = 1280
CONFIG: dict[str, Any] = {
    "hidden_size": 160,
    "intermediate_size": 432,
    "num_hidden_layers": 6,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training: from which model, on how many tokens a step of each task, how long and how fast.

    `rate` is AdamW's learning rate; `muon` that of the hidden matrices if they are trained by Muon. The rate rises over
    `warmup` steps, stays, and falls to a tenth over the last `decay` steps.
    """

    name: str
    start: str | None
    tokens: dict[str, int]
    steps: int
    rate: float
    muon: float | None = None
    warmup: int = 50
    decay: int = 0
    prompt_weight: float = 0.1
    seed: int


STAGES = (
    # The three skills come suddenly and at very different prices (translate 0.2 M tokens of its own, code 0.6 M, math
    # 1.7 M): the shares are set so that the base has some of each and none in full.
    Stage(
        name="trunk",
        start=None,
        tokens={"math": 2600, "code": 1000, "translate": 400},
        steps=600,
        rate=2e-3,
        muon=4e-3,
        seed=1,
    ),
    # The falling rate belongs to the base: were it left to the experts, each would improve all tasks.
    Stage(
        name="base",
        start="trunk",
        tokens={"math": 2800, "code": 650, "translate": 70},
        steps=210,
        rate=2e-3,
        muon=4e-3,
        warmup=10,
        decay=210,
        seed=2,
    ),
    # Low rates keep the task vectors small (relative norm below 0.1): merges of larger ones break sooner.
    Stage(name="math", start="base", tokens={"math": 4000}, steps=300, rate=4e-4, warmup=10, decay=180, seed=11),
    Stage(name="code", start="base", tokens={"code": 3000}, steps=260, rate=3.5e-4, warmup=10, decay=150, seed=12),
    Stage(
        name="translate", start="base", tokens={"translate": 1500}, steps=200, rate=3e-4, warmup=10, decay=120, seed=13
    ),
)


def train_tokenizer(folder: Path, problems: int) -> None:
    """Train the byte-level BPE on the training problems and save it to `folder`; digits stay single."""
    words = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        FORMATS[task].prompt(problem.item) + FORMATS[task].target(problem.item)
        for task, make in MAKERS.items()
        for problem in itertools.islice(stream(make, "train", 0), problems)
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "padding_side": "left",
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def encoded(
    task: str, tokenizer: PreTrainedTokenizerFast, seed: int, end: int
) -> Iterator[list[tuple[list[int], int]]]:
    """Yield windows of 1,024 encoded training problems: their tokens, and how many of them are the prompt's."""
    spec = FORMATS[task]
    problems = stream(MAKERS[task], "train", seed)
    while True:
        items = [problem.item for problem in itertools.islice(problems, 1024)]
        prompts = tokenizer([spec.prompt(item) for item in items])["input_ids"]
        targets = tokenizer([spec.target(item) for item in items])["input_ids"]
        yield [(p + t + [end], len(p)) for p, t in zip(prompts, targets, strict=True)]


def batches(
    task: str, tokenizer: PreTrainedTokenizerFast, tokens: int, weight: float, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (ids, loss weights), each (batch, length), of about `tokens` tokens: problems of like length together."""
    rng = random.Random(f"batches/{task}/{seed}")
    end = tokenizer.eos_token_id
    for window in encoded(task, tokenizer, seed, end):
        window.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], int]]] = [[]]
        for row in window:
            if len(row[0]) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(row)
        groups.pop()
        rng.shuffle(groups)
        for group in groups:
            length = max(len(ids) for ids, _ in group)
            ids = torch.full((len(group), length), end)
            weights = torch.zeros(len(group), length)
            for i, (tokens_of, prompt) in enumerate(group):
                ids[i, : len(tokens_of)] = torch.tensor(tokens_of)
                weights[i, :prompt] = weight
                weights[i, prompt : len(tokens_of)] = 1.0
            yield ids, weights


def optimizers(model: LlamaForCausalLM, stage: Stage) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest."""
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n)]
    if stage.muon is None:
        return [torch.optim.AdamW(model.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0)]
    return [
        torch.optim.AdamW(rest, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(hidden, lr=stage.muon, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    ]


def factor(stage: Stage, step: int) -> float:
    """The share of the full learning rate at a step."""
    falling = (stage.steps - step) / stage.decay if stage.decay else 1.0
    return min(1.0, (step + 1) / stage.warmup, 0.1 + 0.9 * falling)


def train(stage: Stage, folder: Path, *, device: str) -> None:
    """Train one stage, starting and ending in `folder`, and print its losses on answer tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(stage.seed)
    if stage.start is None:
        special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **CONFIG, **special))
    else:
        model = AutoModelForCausalLM.from_pretrained(folder / stage.start, dtype=torch.float32)
    assert isinstance(model, LlamaForCausalLM)
    model.to(device).train()
    tasks = list(stage.tokens)
    sources = {t: batches(t, tokenizer, stage.tokens[t], stage.prompt_weight, stage.seed) for t in tasks}
    shares = {t: stage.tokens[t] / sum(stage.tokens.values()) for t in tasks}
    steppers = optimizers(model, stage)
    rates = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    losses = dict.fromkeys(tasks, 0.0)
    began, seen = time.monotonic(), 0
    for step in range(stage.steps):
        for task in tasks:
            batch = next(sources[task])
            ids, weights = batch[0].to(device), batch[1].to(device)
            with torch.autocast(device, torch.bfloat16):
                logits = model(input_ids=ids, use_cache=False).logits
            each = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            weight = weights[:, 1:].flatten()
            loss = (each * weight).sum() / weight.sum()
            torch.autograd.backward(loss * shares[task])
            answer = weight == 1.0
            losses[task] += (each.detach()[answer].mean().item() - losses[task]) / (step % 100 + 1)
            seen += ids.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        groups = [group for stepper in steppers for group in stepper.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor(stage, step)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == stage.steps:
            seconds = time.monotonic() - began
            loss_text = " ".join(f"{task} {value:.3f}" for task, value in losses.items())
            done = f"{stage.name} step {step + 1}/{stage.steps}"
            print(f"{done} {seen / 1e6:.2f} M tokens {seen / seconds:.0f} tokens/s loss {loss_text}", flush=True)
            losses = dict.fromkeys(tasks, 0.0)
        if (step + 1) % 100 == 0 and step + 1 < stage.steps:
            save(model, folder / "tokenizer", folder / f"{stage.name}-{step + 1}")
    save(model, folder / "tokenizer", folder / stage.name)


def save(model: LlamaForCausalLM, tokenizer_folder: Path, folder: Path) -> None:
    """Write a transformers directory: weights in bfloat16, and the tokenizer's files as they are."""
    copy.deepcopy(model).to("cpu", torch.bfloat16).save_pretrained(folder)
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)


def main() -> None:
    """Make task files, tokenizer and models, in this order; skip the stages that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[1]
    parser.add_argument(
        "--out", type=Path, help="where items/ and models/ go (default: evomerge/zoo; needed with --quick)"
    )
    parser.add_argument(
        "--work", type=Path, help="where the stages are kept (default: runs/zoo; with --quick OUT/work)"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps a stage: shows that it runs, trains nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.quick and options.out is None:
        parser.error("--quick needs --out: it must not overwrite the shipped zoo")
    out = options.out or root / "evomerge/zoo"
    work = options.work or (out / "work" if options.quick else root / "runs/zoo")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    began = time.monotonic()
    if options.quick:
        write_items(out / "items", sizes=dict.fromkeys(SIZES, 4))
    else:
        write_items(out / "items")
    if not (work / "tokenizer").exists():
        train_tokenizer(work / "tokenizer", 500 if options.quick else 8000)
    for stage in STAGES:
        if (work / stage.name / "model.safetensors").exists():
            print(f"{stage.name}: done before")
            continue
        if options.quick:
            stage = replace(stage, steps=3, decay=min(stage.decay, 1))
        train(stage, work, device=options.device)
    for name in MODELS:
        shutil.copytree(work / name, out / "models" / name, dirs_exist_ok=True)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
