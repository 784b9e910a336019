"""How fast are tokens generated at the shapes of real models? Against lm-eval's HFLM and the memory's bandwidth.

    python scripts/bench_generate.py --device cuda --json FILE      # Qwen2.5-0.5B and 7B, random weights, bfloat16
    python scripts/bench_generate.py --quick                        # a tiny shape, also without a GPU

Every answer goes on to the token limit. The bound is what decoding at this batch size cannot beat: each step reads all
weights and the keys and values of all rows once, at the bandwidth that copying a large tensor shows in the same run.
Knows nothing about tasks or merging.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from evomerge.checkpoints import resolve
from evomerge.evaluation import TransformersBackend
from evomerge.evaluation.quiet import undisturbed
from evomerge.reporting.tables import print_table

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 4096, "tie_word_embeddings": True},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    | {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    | {"num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
}


def make_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    """Return a model of a shape with random weights."""
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=8192, eos_token_id=None, bos_token_id=None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name:
            tensor.data.fill_(1.0)
        elif "inv_freq" in name:
            steps = torch.arange(tensor.numel(), device=device) / tensor.numel()
            tensor.data.copy_(10000.0**-steps)
        else:
            tensor.data.normal_(0.0, 0.02, generator=generator)
    model.tie_weights()
    return model.eval()


def requests(tokenizer: Any, rows: int, tokens: int, more: int) -> list[Instance]:
    """Return prompts of about so many tokens."""
    rng = random.Random(0)
    words = tokenizer.batch_decode([[token] for token in range(200, 900)])
    prompts = ["".join(rng.choice(words) for _ in range(tokens)) for _ in range(rows)]
    options = {"until": ["\0never\0"], "do_sample": False, "max_gen_toks": more}
    return [Instance("generate_until", {}, (prompt, options), 0) for prompt in prompts]


def timed(work: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes, after one that does not count."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def bandwidth(device: str) -> float:
    """Return the bytes a second that copying a large tensor reads and writes."""
    source = torch.zeros(2**28 if device == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.itemsize / timed(lambda: target.copy_(source), device)


def bench(shape: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time one shape at one batch size."""
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = make_model(shape, options.device, dtype)
    tokenizer = AutoTokenizer.from_pretrained(str(resolve("zoo:base")))
    asked = requests(tokenizer, rows, options.prompt, options.new)
    config = model.config
    backend = TransformersBackend(model, tokenizer, batch_size=rows)
    rival = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=rows)
    with undisturbed():
        ours = timed(lambda: backend.generate_until(asked), options.device)
        theirs = timed(lambda: rival.generate_until(list(asked), disable_tqdm=True), options.device)
    head = config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * head * dtype.itemsize
    lengths = sum(len(tokenizer(request.args[0])["input_ids"]) for request in asked)
    weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    kept = each * (lengths + rows * options.new / 2)
    bound = options.new * (weights + kept) / bandwidth(options.device)
    tokens = rows * options.new
    return {
        "shape": shape,
        "rows": rows,
        "suitable": backend._decoder.suitable,
        "tokens_per_second": tokens / ours,
        "rival_tokens_per_second": tokens / theirs,
        "ratio": theirs / ours,
        "of_bound": bound / ours,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    header = ["shape", "rows", "tokens/s", "HFLM", "ratio", "of the bandwidth's bound"]
    print_table(
        header,
        [
            [
                row["shape"],
                str(row["rows"]),
                f"{row['tokens_per_second']:.0f}",
                f"{row['rival_tokens_per_second']:.0f}",
                f"{row['ratio']:.2f}",
                f"{100 * row['of_bound']:.0f} %",
            ]
            for row in rows
        ],
    )


def main() -> None:
    """Time the shapes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", default=None, help="default: 0.5B,7B, quick: tiny")
    parser.add_argument("--rows", default="64", help="batch sizes")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.prompt, options.new = 64, 32
    shapes = (options.shapes or ("tiny" if options.quick else "0.5B,7B")).split(",")
    rows = []
    for shape in shapes:
        for size in options.rows.split(","):
            rows.append(bench(shape, int(size), options))
            print(json.dumps(rows[-1]), flush=True)
    show(rows)
    if options.json:
        device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        found = {"date": date.today().isoformat(), "device": device, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
