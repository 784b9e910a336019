"""The methods written down once more, in float64, element by element, from their published definitions."""

import numpy as np
import torch

from evomerge.merging.mask import threshold, uniforms


def trim(delta: np.ndarray, drop_rate: float) -> np.ndarray:
    """TIES: the k largest magnitudes and all that equal the smallest of them."""
    density = round(1 - drop_rate, 12)
    if density <= 0:
        return np.zeros_like(delta)
    k = max(1, int(density * delta.size))
    smallest = np.sort(np.abs(delta))[::-1][min(k, delta.size) - 1]
    return np.where(np.abs(delta) >= smallest, delta, 0.0)


def dare(delta: np.ndarray, drop_rate: float, rescale: str, seed: int, label: str, tensor: str) -> np.ndarray:
    numbers = uniforms(seed, label, tensor, 0, delta.size).numpy().astype(int)
    t = threshold(drop_rate)
    kept = np.where(numbers >= t, delta, 0.0)
    if rescale == "inv_keep":
        return kept * (65536 / (65536 - t)) if t < 65536 else kept
    before, after = np.abs(delta).sum(), np.abs(kept).sum()
    return kept if t == 0 or min(before, after) < 1e-7 else kept * (before / after)


def merge(
    method: str,
    base: torch.Tensor,
    experts: dict[str, torch.Tensor],
    weights: dict[str, float],
    drop_rates: dict[str, float],
    options: dict[str, object],
    *,
    seed: int = 0,
    tensor: str = "t",
) -> np.ndarray:
    """The merged tensor, flat, in float64; `options` complete."""
    origin = base.double().numpy().ravel()
    models = {label: expert.double().numpy().ravel() for label, expert in sorted(experts.items())}
    if method == "linear":
        total = sum(weights[label] * model for label, model in models.items())
        return total / sum(weights.values()) if options["normalize"] else total
    # float32: which elements tie, and whose sign wins, is decided there
    deltas = {label: np.float64(np.float32(model) - np.float32(origin)) for label, model in models.items()}
    if method == "ties":
        deltas = {label: trim(delta, drop_rates[label]) for label, delta in deltas.items()}
    if method in ("dare_linear", "dare_ties"):
        deltas = {
            label: dare(delta, drop_rates[label], str(options["rescale"]), seed, label, tensor)
            for label, delta in deltas.items()
        }
    terms = {label: weights[label] * delta for label, delta in deltas.items()}
    if method in ("ties", "dare_ties"):
        elected = np.where(sum(terms.values()) >= 0, 1.0, -1.0)
        agrees = {label: np.sign(term) == elected for label, term in terms.items()}
        total = sum(np.where(agrees[label], term, 0.0) for label, term in terms.items())
        divisor = sum(np.where(agrees[label], weights[label], 0.0) for label in terms)
        divisor = np.where(divisor == 0, 1.0, divisor)
    else:
        total, divisor = sum(terms.values()), sum(weights.values())
        divisor = 1.0 if abs(divisor) < 1e-8 else divisor
    if options["normalize"]:
        total = total / divisor
    return origin + float(options["lambda"]) * total
