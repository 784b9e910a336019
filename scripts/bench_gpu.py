"""How long a merge takes on a GPU, against one pass over the same bytes at the bandwidth that a copy reaches.

    python scripts/bench_gpu.py                the shapes of Qwen2.5-7B: a base and two experts, bfloat16 (61 GB; DELLA
                                               takes 30 GB more, or fewer tensors)
    python scripts/bench_gpu.py --quick        the shapes of Qwen2.5-0.5B
    python scripts/bench_gpu.py --interpret    tiny shapes in Triton's interpreter: that it runs, no speed

Random weights; nothing is downloaded. For each method: milliseconds a candidate (numbers to the device, kernel, and
fingerprints back), milliseconds of the kernel alone, and their ratios to the pass; for some, milliseconds of the engine
from recipe to fingerprint. The bits of some tensors are compared with the CPU's. Status 1 if any differ, 3 if there is
no GPU.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if "--interpret" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

if not torch.cuda.is_available() and "--interpret" not in sys.argv:
    print("bench_gpu: torch sees no GPU; --interpret tries the code without one", file=sys.stderr)
    sys.exit(3)

import triton

from evomerge.checkpoints.rows import MemorySource
from evomerge.merging import METHODS, MergeEngine, mask
from evomerge.merging.kernels.gpu import Job, Shape, Target, weighted_sums
from evomerge.merging.methods.base import Operands, RankMask, Term, WeightedSum
from evomerge.merging.tensors import PlannedTensor, merge_span
from evomerge.recipes import Recipe
from evomerge.recipes.groups import Layout

DEVICE = torch.device("cpu" if "--interpret" in sys.argv else "cuda")
DTYPE = torch.bfloat16
LABELS = ("code", "math")

#: layers, hidden, intermediate, width of keys and values, vocabulary, tied
MODELS = {
    "Qwen2.5-7B": (28, 3584, 18944, 512, 152064, False),
    "Qwen2.5-0.5B": (24, 896, 4864, 128, 151936, True),
    "tiny": (1, 32, 40, 8, 60, False),
}
#: What else to try on dare_linear: the division of the work does not change a bit.
SHAPES = [
    Shape(tile=512, warps=2),
    Shape(tile=1024, warps=4, tiles=8),
    Shape(tile=1024, warps=4, tiles=128),
    Shape(tile=2048, warps=8),
    Shape(tile=2048, warps=4),
    Shape(tile=4096, warps=8),
]

Plans = dict[str, WeightedSum]


def tensor_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a model's tensors."""
    layers, hidden, intermediate, narrow, vocabulary, tied = MODELS[model]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name, rows in (("q", hidden), ("k", narrow), ("v", narrow)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = (rows, hidden)
            shapes[f"{layer}self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{layer}self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[f"{layer}mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}mlp.down_proj.weight"] = (hidden, intermediate)
        shapes[f"{layer}input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return shapes


class Pool:
    """Random models on the device, and what a candidate is written into."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        generator = torch.Generator(DEVICE).manual_seed(0)
        self.base, self.out = {}, {}
        self.experts: dict[str, list[torch.Tensor]] = {}
        self.ranks: dict[str, list[torch.Tensor]] = {}
        self.columns = {name: shape[-1] for name, shape in shapes.items()}
        self.keys = {name: [mask.key_of(0, label, name) for label in LABELS] for name in shapes}
        for name, shape in shapes.items():
            size = int(np.prod(shape))

            def drawn(spread: float, size: int = size) -> torch.Tensor:
                return torch.empty(size, dtype=DTYPE, device=DEVICE).normal_(0.0, spread, generator=generator)

            self.base[name], self.out[name] = drawn(0.02), torch.empty(size, dtype=DTYPE, device=DEVICE)
            self.experts[name] = [drawn(0.002).add_(self.base[name]) for _ in LABELS]
        self.targets = {
            name: Target(
                name=name,
                dtype=DTYPE,
                out=self.out[name],
                experts=self.experts[name],
                base=self.base[name],
                mask_keys=self.keys[name],
            )
            for name in shapes
        }

    def draw_ranks(self) -> None:
        """Draw ranks for as many tensors as the device has room for: any ranks take the same time."""
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
        for name, base in self.base.items():
            if DEVICE.type == "cuda" and torch.cuda.mem_get_info()[0] < 2 * base.numel() * len(LABELS) + (2 << 30):
                continue
            self.ranks[name] = []
            for _ in LABELS:
                ranks = torch.empty(base.numel(), dtype=torch.int16, device=DEVICE)
                ranks.random_(0, min(self.columns[name], 1 << 15))
                self.ranks[name].append(ranks.view(torch.uint16))

    def jobs(self, plans: Plans) -> list[Job]:
        """Return the jobs of a candidate."""
        return [Job(self.targets[name], plan, self.ranks.get(name, ())) for name, plan in plans.items()]

    def bytes_moved(self, plans: Plans) -> int:
        """Return what one pass reads and writes: what is needed of base, experts and ranks, and the result."""
        total = 0
        for name, plan in plans.items():
            tensors = [*self.experts[name], self.out[name]]
            if plan.task_vectors:
                tensors.append(self.base[name])
            if any(term.by_rank is not None for term in plan.terms):
                tensors += self.ranks[name]
            total += sum(tensor.nbytes for tensor in tensors)
        return total

    def differs(self, name: str, plan: WeightedSum, value: int) -> bool:
        """Return whether a merged tensor differs from what the CPU makes of it."""
        models = [MemorySource(tensor.cpu()) for tensor in (self.base[name], *self.experts[name])]
        ranks = [ranks.cpu() for ranks in self.ranks.get(name, ())]
        operands: Any = Operands(
            name=name,
            shape=(self.base[name].numel(),),
            labels=LABELS,
            base=models[0],
            experts=tuple(models[1:]),
            statistics=None,  # type: ignore[arg-type]
            uniforms=lambda expert, first, last: mask.uniforms(self.keys[name][expert], first, last),
            ranks=lambda expert, first, last: ranks[expert][first:last],
        )
        planned = PlannedTensor(operands, plan, DTYPE, tuple(self.keys[name]), numbers=(None,) * len(LABELS))
        out = torch.empty(self.base[name].numel(), dtype=DTYPE)
        expected = merge_span(planned, 0, out.numel(), out)
        return expected != value or not torch.equal(out.view(torch.int16), self.out[name].cpu().view(torch.int16))


class Opened:
    """What the engine asks of a `ModelPool`, for models that are nowhere but on the device."""

    vocabulary = "same"

    def __init__(self, pool: Pool, shapes: dict[str, tuple[int, ...]]) -> None:
        self.layout = Layout.of(shapes)
        self.experts = {label: SimpleNamespace(path=Path()) for label in LABELS}
        self.references = {label: label for label in ("", *LABELS)}
        self.base = SimpleNamespace(path=Path())
        self._held = {
            (label, name): MemorySource(tensor.view(shapes[name]))
            for name in shapes
            for label, tensor in zip(("", *LABELS), (pool.base[name], *pool.experts[name]), strict=True)
        }

    def source(self, label: str, name: str) -> MemorySource:
        """Return a tensor of the base ("") or an expert."""
        return self._held[label, name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._held["", name].shape


class Live(torch.nn.Module):
    """A model that is nothing but its weights."""

    def __init__(self, pool: Pool, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.weights = {name: tensor.view(shapes[name]) for name, tensor in pool.out.items()}

    def state_dict(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Return name -> weight."""
        return self.weights


def plans(method: str, pool: Pool) -> Plans:
    """Return a candidate whose parameters differ from tensor to tensor."""
    random = np.random.default_rng(1)
    found: Plans = {}
    rank_masks: dict[int, RankMask] = {}
    for name in pool.ranks if method == "della" else pool.base:
        weights = random.uniform(0.3, 0.9, len(LABELS)).tolist()
        drops = [mask.threshold(rate) for rate in random.uniform(0.1, 0.9, len(LABELS))]
        thinned = tuple(Term(w, threshold=t, factor=mask.rescale(t)) for w, t in zip(weights, drops, strict=True))
        if method == "linear":
            terms = tuple(Term(w / sum(weights)) for w in weights)
            found[name] = WeightedSum(terms, task_vectors=False, base_weight=0.0)
        elif method == "task_arithmetic":
            found[name] = WeightedSum(tuple(Term(w) for w in weights))
        elif method == "dare_linear":
            found[name] = WeightedSum(thinned)
        elif method == "dare_ties":
            found[name] = WeightedSum(thinned, elect="weighted")
        elif method == "ties":
            terms = tuple(Term(w, at_least=0.001) for w in weights)
            found[name] = WeightedSum(terms, elect="weighted", divide_by_agreeing=True)
        else:
            columns = pool.columns[name]
            rates = np.linspace(0.9, 0.5, columns)
            thresholds = np.ceil(65536 * rates - 0.5).astype(np.int32)
            by_rank = rank_masks.setdefault(
                columns, RankMask(thresholds, (65536 / (65536 - thresholds)).astype(np.float32))
            )
            terms = tuple(Term(w, factor=0.9, by_rank=by_rank) for w in weights)
            found[name] = WeightedSum(terms, elect="weighted", divide_by_agreeing=True)
    return found


def milliseconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the medians of the time that passed and of the time on the device."""
    passed, on_device = [], []
    for _ in range(repeats):
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start = time.perf_counter()
            begin.record()
            work()
            end.record()
            end.synchronize()
            on_device.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            work()
            on_device.append(1e3 * (time.perf_counter() - start))
        passed.append(1e3 * (time.perf_counter() - start))
    return statistics.median(passed), statistics.median(on_device)


def copy_bandwidth(gigabytes: float, repeats: int) -> float:
    """Return bytes read and written a second by a copy on the device."""
    source = torch.ones(int(gigabytes * 1e9) // 4, dtype=torch.float32, device=DEVICE)
    target = torch.empty_like(source)
    target.copy_(source)
    _, on_device = milliseconds(lambda: target.copy_(source), repeats)
    return 2 * source.nbytes / on_device * 1e3


def measure(pool: Pool, method: str, bandwidth: float, repeats: int, shape: Shape | None = None) -> dict[str, Any]:
    """Time one method."""
    candidate = plans(method, pool)
    jobs = pool.jobs(candidate)
    start = time.perf_counter()
    values = weighted_sums(jobs, shape=shape).results()
    first = time.perf_counter() - start
    whole, _ = milliseconds(lambda: weighted_sums(pool.jobs(candidate), shape=shape).results(), repeats)
    # of two launches, the second one's numbers are on the device before the first has ended
    _, one = milliseconds(lambda: weighted_sums(jobs, shape=shape), repeats)
    _, two = milliseconds(lambda: [weighted_sums(jobs, shape=shape) for _ in range(2)], repeats)
    kernel = two - one
    least = 1e3 * pool.bytes_moved(candidate) / bandwidth
    largest = sorted(candidate, key=lambda name: pool.base[name].numel())
    compared = [name for name in largest if pool.base[name].numel() <= 20_000_000]
    compared = compared[:: max(1, len(compared) // 6)][-6:]
    found = dict(zip(candidate, values, strict=True))
    different = [name for name in compared if pool.differs(name, candidate[name], found[name][0])]
    return {
        "method": method,
        "tensors": len(candidate),
        "gigabytes": pool.bytes_moved(candidate) / 1e9,
        "pass_ms": least,
        "candidate_ms": whole,
        "kernel_ms": kernel,
        "candidate_ratio": whole / least,
        "kernel_ratio": kernel / least,
        "first_call_s": first,
        "finite": all(finite for _, finite in values),
        "compared": len(compared),
        "different": different,
    }


def measure_engine(
    pool: Pool, shapes: dict[str, tuple[int, ...]], method: str, bandwidth: float, repeats: int
) -> dict[str, Any]:
    """Time the engine from recipe to fingerprint, each candidate with other values in every layer."""
    random = np.random.default_rng(2)
    opened: Any = Opened(pool, shapes)
    engine = MergeEngine(opened, Live(pool, shapes), memory="resident")
    groups = [*(f"layers.{i}" for i in range(opened.layout.layers)), "all"]
    passed = []
    for _ in range(repeats + 2):
        parameters = {
            p.name: {label: {group: float(random.uniform(0.3, 0.8)) for group in groups} for label in LABELS}
            for p in METHODS[method].parameters
        }
        recipe = Recipe(method, "", {label: label for label in LABELS}, parameters)
        passed.append(1e3 * engine.apply(recipe).seconds)
    least = 1e3 * pool.bytes_moved(plans(method, pool)) / bandwidth
    median = statistics.median(passed[2:])
    return {"method": method, "pass_ms": least, "engine_ms": median, "engine_ratio": median / least, "all_ms": passed}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shapes of Qwen2.5-0.5B")
    parser.add_argument("--interpret", action="store_true", help="tiny shapes in Triton's interpreter, no GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    model = "tiny" if arguments.interpret else "Qwen2.5-0.5B" if arguments.quick else "Qwen2.5-7B"
    repeats = 1 if arguments.interpret else arguments.repeats

    bandwidth = copy_bandwidth(0.01 if arguments.interpret else 4.0, repeats)
    shapes = tensor_shapes(model)
    pool = Pool(shapes)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "Triton's interpreter",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "model": model,
        "parameters": sum(tensor.numel() for tensor in pool.base.values()),
        "copy_gigabytes_a_second": bandwidth / 1e9,
        "methods": [],
        "engine": [],
        "shapes": [],
    }
    print(f"{result['device']}, torch {result['torch']}, triton {result['triton']}; copy: {bandwidth / 1e9:.0f} GB/s")
    print(f"{model}: {result['parameters'] / 1e9:.3f}e9 parameters, {len(LABELS)} experts, bfloat16")
    heads = ("GB", "pass ms", "kernel ms", "ratio", "candidate ms", "ratio", "first call s")
    print(f"{'method':15s} " + " ".join(f"{head:>12s}" for head in heads) + "  bits (tensors)")

    def save() -> None:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")

    different = False
    for method in ("linear", "task_arithmetic", "dare_linear", "dare_ties", "ties", "della"):
        if method == "della":
            pool.draw_ranks()
        row = measure(pool, method, bandwidth, repeats)
        result["methods"].append(row)
        different = different or bool(row["different"]) or not row["finite"]
        bits = f"differ in {', '.join(row['different'])}" if row["different"] else f"equal in {row['compared']}"
        figures = [row[name] for name in ("gigabytes", "pass_ms", "kernel_ms", "kernel_ratio")]
        figures += [row[name] for name in ("candidate_ms", "candidate_ratio", "first_call_s")]
        print(f"{method:15s} " + " ".join(f"{figure:12.2f}" for figure in figures) + f"  {bits}", flush=True)
        save()
    for method in ("linear", "task_arithmetic", "dare_linear"):
        row = measure_engine(pool, shapes, method, bandwidth, repeats)
        result["engine"].append(row)
        print(
            f"the engine, {method}: {row['engine_ms']:.2f} ms a candidate, ratio {row['engine_ratio']:.2f}", flush=True
        )
        save()
    for shape in SHAPES[: 1 if arguments.interpret else None]:
        row = measure(pool, "dare_linear", bandwidth, repeats, shape)
        result["shapes"].append({"shape": str(shape), **row})
        print(f"dare_linear as {shape}: kernel {row['kernel_ms']:.2f} ms, ratio {row['kernel_ratio']:.2f}", flush=True)
        save()
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
