"""Made-up page data of any size: what a report's page may be given, and texts that try to break it."""

import hashlib
import math
from typing import Any

import numpy as np

TASKS = ("word_problems", "functions", "translate", "riddles")
EXPERTS = ("math", "code", "german")
HOSTILE = '<b>bold</b>&amp;</script><script>window.broken=1</script><img src=x onerror="window.broken=1">'
PARTS = ("attention", "mlp", "rest")


def page_data(
    *,
    objectives: int = 2,
    runs: int = 1,
    candidates: int = 60,
    layers: int = 6,
    predicted: bool = True,
    hostile: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Return data of the page's schema: `runs` searches over the same tasks, each with its own candidates."""
    names = list(TASKS[:objectives])
    if hostile:
        names[0] = HOSTILE
    # One task whose scores are no shares, and whose metric is better when smaller: its sign is turned.
    tasks = [
        {
            "name": name,
            "metric": "exact_match" if index != 2 else "loss",
            "share": index != 2,
            "larger_is_better": index != 2,
            "weight": 1.0 if index == 0 else 0.5,
            "floor": 0.5 if index == 1 else None,
            "low": 0.4 if index != 2 else -4.0,
            "high": 0.8 if index != 2 else -2.5,
        }
        for index, name in enumerate(names)
    ]
    return {
        "version": 1,
        "evomerge": "0.1.0",
        "title": HOSTILE if hostile else "Merges of three experts",
        "tasks": tasks,
        "runs": [
            _run(tasks, index, np.random.default_rng([seed, index]), candidates, layers, predicted, hostile)
            for index in range(runs)
        ],
    }


def _run(
    tasks: list[dict[str, Any]],
    index: int,
    rng: np.random.Generator,
    candidates: int,
    layers: int,
    predicted: bool,
    hostile: bool,
) -> dict[str, Any]:
    experts = [HOSTILE if hostile and i == 0 else name for i, name in enumerate(EXPERTS)]
    groups = ["embeddings", *(f"layers.{i}" for i in range(0, layers, max(1, layers // 3))), "head"]
    dimensions = [
        {"name": f"{parameter}/{expert}/{group}", "group": group, "expert": expert, "parameter": parameter}
        | ({"low": -0.2, "high": 1.2} if parameter == "weight" else {"low": 0.0, "high": 0.9})
        for parameter in ("weight", "drop_rate")
        for expert in experts
        for group in groups
    ]
    kinds = [
        "base",
        *["expert"] * len(experts),
        *["uniform"] * 5,
        "untuned",
        *["random"] * 4,
        *["candidate"] * candidates,
    ]
    names = [
        "base",
        *experts,
        *[f"arithmetic {0.2 * (i + 1):.1f}" for i in range(5)],
        "ties",
        *[f"random {i}" for i in range(4)],
    ]
    n, fixed = len(kinds), len(names)
    names += [str(number) for number in range(fixed, n)]
    unit = rng.random((n, len(dimensions))).round(6)
    low = np.array([d["low"] for d in dimensions])
    span = np.array([d["high"] for d in dimensions]) - low
    # Later candidates are better ones, on a curved front between the tasks.
    skill = np.concatenate([np.full(fixed, 0.3), np.linspace(0.3, 1.0, n - fixed)])
    direction = np.abs(rng.normal(size=(n, len(tasks))))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normalised = direction * (skill * rng.beta(6, 1.5, size=n))[:, None] * 1.15
    normalised[0] = 0.0
    for e in range(len(experts)):
        normalised[1 + e] = [1.0 if t % len(experts) == e else -0.1 for t in range(len(tasks))]
    ends = np.array([[t["low"], t["high"]] for t in tasks])
    true = ends[:, 0] + normalised * (ends[:, 1] - ends[:, 0])
    half = 0.06 * (ends[:, 1] - ends[:, 0])
    failure: list[Any] = [None] * n
    for row in range(fixed + 3, n, 37):
        failure[row] = {"kind": "nan", "message": HOSTILE if hostile else "a tensor was not finite"}
    ok = np.array([f is None for f in failure])
    worth = true + rng.normal(size=true.shape) * half * 0.3
    front = _front(worth, ok & (np.arange(n) >= fixed))
    joined = normalised.mean(axis=1)
    best = int(np.argmax(np.where(front, joined, -np.inf)))
    finalists = ok & ((np.arange(n) < fixed) | (np.arange(n) == best) | (front & (rng.random(n) < 0.3)))
    reported = np.isin(np.arange(n), [0, 1, 2, 3, 6, best])

    def column(values: Any, shown: Any) -> list[float | None]:
        return [float(v) if s else None for v, s in zip(values, shown, strict=True)]

    def interval(values: Any, width: Any, shown: Any) -> dict[str, Any]:
        return {
            "mean": column(values, shown),
            "low": column(values - width, shown),
            "high": column(values + width, shown),
        }

    shown_on = {"search": ok, "selection": finalists, "report": reported}
    scores = {
        split: {
            task["name"]: interval(true[:, t] + rng.normal(size=n) * half[t] * 0.4, half[t], shown)
            | {"items": [100 if s else None for s in shown]}
            for t, task in enumerate(tasks)
        }
        for split, shown in shown_on.items()
    }
    recipes = {
        str(row): {
            "yaml": f"method: dare_linear\nbase: zoo:base\nparameters:\n  weight: {unit[row, 0]}\n",
            "heat": _heat(rng, experts, layers),
        }
        for row in [*range(4), *np.flatnonzero(front)[:90].tolist(), best]
    }
    order = [row for row in range(n) if ok[row]]
    so_far = np.maximum.accumulate(joined[order])
    text = HOSTILE if hostile else "A box holds 12 pens.\nHow many pens do 3 boxes hold?"
    return {
        "name": f"search {index}",
        "path": f"runs/search {index}",
        "optimizer": ("map", "cmaes", "tpe", "gp")[index % 4],
        "seed": index,
        "method": "dare_linear",
        "experts": experts,
        "state": ("finished", "running", "stopped")[index % 3],
        "openings": 1 + index,
        "notes": [] if index == 0 else ["Base and experts score otherwise than in the first run."],
        "items": {split: {t["name"]: 100 for t in tasks} for split in shown_on},
        "dimensions": dimensions,
        "trials": {
            "number": list(range(n)),
            "kind": kinds,
            "name": names,
            "stage": ["blocks"] * n,
            "hash": [
                hashlib.sha256(f"{0 if row < fixed else index}/{row}".encode()).hexdigest()[:16] for row in range(n)
            ],
            "fingerprint": [f"{row:016x}" for row in range(n)],
            "values": [None if row < 4 else (low + unit[row] * span).round(6).tolist() for row in range(n)],
            "beaten_by": [best if row > fixed and row % 29 == 0 and not front[row] else None for row in range(n)],
            "failure": failure,
            "seconds": column(rng.gamma(9, 0.4, size=n), ok),
            "front": front.tolist(),
            "best": [row == best for row in range(n)],
            "scores": scores,
            "joined": {split: interval(joined, 0.08, shown) for split, shown in shown_on.items()},
            "worth": {
                "tasks": {
                    task["name"]: {"mean": column(worth[:, t], ok), "error": column(np.full(n, half[t] / 2), ok)}
                    for t, task in enumerate(tasks)
                },
                "joined": {"mean": column(joined * 0.95, ok), "error": column(np.full(n, 0.04), ok)},
            },
            "health": {
                split: {
                    t["name"]: {
                        rate: column(rng.random(n) * 0.1, shown)
                        for rate in ("truncated", "empty", "looping", "malformed")
                    }
                    for t in tasks
                }
                for split, shown in shown_on.items()
            },
            "explained_by_health": {t["name"]: [row % 23 == 0 and row > fixed for row in range(n)] for t in tasks},
        },
        "curves": {
            "number": order,
            "items": (200 * np.arange(1, len(order) + 1)).tolist(),
            "seconds": np.cumsum(rng.gamma(9, 0.4, size=len(order))).tolist(),
            "best": so_far.tolist(),
            "hypervolume": (so_far * 0.8).clip(0).tolist(),
        },
        "baseline_lines": [
            {"name": "base", "joined": 0.0},
            {"name": "best expert", "joined": 0.33},
            {"name": "best uniform", "joined": 0.42},
        ],
        "hypervolume": {
            "selection": {"mean": 0.55, "low": 0.4, "high": 0.66},
            "report": {"mean": 0.51, "low": 0.4, "high": 0.6},
        },
        "recipes": recipes,
        "front_heat": {"mean": _heat(rng, experts, layers), "spread": _heat(rng, experts, layers, spread=True)},
        "importance": {
            key: [
                {"dimension": d["name"], "share": float(share), "error": 0.02}
                for d, share in zip(dimensions, rng.dirichlet(np.full(len(dimensions), 0.25)), strict=True)
            ]
            for key in ("joined", *(t["name"] for t in tasks))
        },
        "importance_note": "PED-ANOVA over 60 candidates; with so few, shares below 5 % are noise.",
        "versus": {
            "trial": best,
            "split": "report",
            "rivals": [
                {"title": "best expert", "trial": 1, "mean": 0.21, "low": 0.09, "high": 0.33, "p": 0.002},
                {"title": "best uniform", "trial": 6, "mean": 0.08, "low": -0.02, "high": 0.18, "p": 0.11},
            ],
        }
        if candidates
        else None,
        "wins": [
            {
                "trial": best,
                "task": t["name"],
                "split": split,
                "parent": experts[i % len(experts)],
                "won": 9 + i,
                "lost": 6,
                "both": 61 - i,
                "neither": 24,
                "examples": [
                    {
                        "item": str(11 * k),
                        "prompt": text,
                        "target": "36",
                        "mine": "12 * 3 = 36\n#### 36",
                        "parents": "12 + 3 = 15\n#### 15",
                    }
                    | (
                        {"mine_score": 1.0, "parents_score": 0.0}
                        if k % 2 == 0
                        else {"mine_score": 0.0, "parents_score": 1.0}
                    )
                    for k in range(4)
                ],
            }
            for i, t in enumerate(tasks)
            for split in ("selection", "report")
        ],
        "flags": [
            {
                "trial": best,
                "task": tasks[0]["name"],
                "split": "selection",
                "text": "8 of 11 points are answers no longer cut off",
            }
        ],
        "failures": [{"kind": "nan", "count": int((~ok).sum()), "example": "a tensor was not finite"}]
        if not ok.all()
        else [],
        "advice": ["The best lies at the end of the range of weight/math: widen it."],
        "cost": {
            "seconds": {"merge": 0.2 * n, "search": 3.6 * n, "selection": 80.0, "report": 60.0},
            "items": {"search": 200 * n, "selection": 1200, "report": 900},
            "tokens": 9100 * n,
            "candidates": candidates,
        },
        "predicted": _predicted(rng, tasks, dimensions, index) if predicted else None,
    }


def _front(points: Any, allowed: Any) -> Any:
    found = np.zeros(len(points), dtype=bool)
    for row in np.flatnonzero(allowed):
        others = points[allowed]
        found[row] = not ((others >= points[row]).all(axis=1) & (others > points[row]).any(axis=1)).any()
    return found


def _heat(rng: np.random.Generator, experts: list[str], layers: int, *, spread: bool = False) -> dict[str, Any]:
    rows = ["embeddings", *(f"layers.{i}" for i in range(layers)), "norms", "head"]

    def cells(low: float, high: float) -> list[list[float | None]]:
        found: list[list[float | None]] = []
        for row in rows:
            if row.startswith("layers."):
                found.append([None, *rng.uniform(low, high, 3).round(3).tolist()])
            else:
                found.append([float(rng.uniform(low, high)), None, None, None])
        return found

    size = 0.2 if spread else 1.0
    return {
        "rows": rows,
        "columns": ["all", *PARTS],
        "parameters": {
            "weight": {expert: cells(0.0, 1.1 * size) for expert in experts},
            "drop_rate": {expert: cells(0.0, 0.9 * size) for expert in experts},
        },
    }


def _predicted(
    rng: np.random.Generator, tasks: list[dict[str, Any]], dimensions: list[dict[str, Any]], run: int
) -> dict[str, Any]:
    low = np.array([t["low"] for t in tasks])
    span = np.array([t["high"] for t in tasks]) - low
    direction = np.abs(rng.normal(size=(400, len(tasks))))
    values = low + span * 1.1 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    vector = rng.random((400, len(dimensions))).round(6)
    ends = np.array([[d["low"], d["high"]] for d in dimensions])
    return {
        "tasks": [t["name"] for t in tasks],
        "low": low.tolist(),
        "high": (low + span).tolist(),
        "weights": [t["weight"] for t in tasks],
        "floors": [t["floor"] for t in tasks],
        "items": [100 for _ in tasks],
        "points": {
            "vector": vector.tolist(),
            "values": values.tolist(),
            "promise_low": (values - 0.15 * span).tolist(),
            "promise_high": (values + 0.12 * span).tolist(),
            "hash": [hashlib.sha256(f"{run}/predicted/{i}".encode()).hexdigest()[:16] for i in range(400)],
            "parameters": (ends[:, 0] + vector * (ends[:, 1] - ends[:, 0])).tolist(),
        },
        "trusted": run != 1,
        "diagnostics": {t["name"]: {"r2": 0.8 - 0.1 * i, "trusted": True} for i, t in enumerate(tasks)},
        "command": f"evomerge export 'runs/search {run}' OUT --predicted {{prefer}}",
    }


def preferred(predicted: dict[str, Any], weights: list[float]) -> int:
    """Return the point that the page should choose, written once more in Python."""
    best, key = -1, (math.inf, math.inf)
    for index, values in enumerate(predicted["points"]["values"]):
        lacking = mean = 0.0
        for t, value in enumerate(values):
            low, high, floor = (predicted[end][t] for end in ("low", "high", "floors"))
            scaled = (value - low) / (high - low)
            lacking += max((floor - low) / (high - low) - scaled, 0.0) if floor is not None else 0.0
            mean += weights[t] * scaled
        if (lacking, -mean) < key:
            best, key = index, (lacking, -mean)
    return best
