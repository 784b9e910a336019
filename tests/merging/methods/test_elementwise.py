"""SCE, RAM, PCB, consensus, WIDEN, metrics-weighted: on numbers that can be followed by hand."""

import math

import pytest
import torch

from tests.merging.methods.support import run


def _merge(
    method: str, deltas: dict[str, list[float]], parameters: dict | None = None, **options: object
) -> list[float]:
    experts = {label: torch.tensor(values) for label, values in deltas.items()}
    base = torch.zeros_like(next(iter(experts.values())))
    return run(method, base, experts, parameters or {}, options).tolist()


def test_sce_weighs_by_mean_squares() -> None:
    # mean squares 4 and 1, of which the shares are 0.8 and 0.2; the second element has opposite signs
    merged = _merge("sce", {"a": [2.0, 2.0], "b": [1.0, -1.0]})
    assert merged == pytest.approx([0.8 * 2 + 0.2 * 1, 2.0])


def test_sce_selects_where_the_experts_vary_most() -> None:
    merged = _merge("sce", {"a": [2.0, 1.0, 5.0, 0.0], "b": [1.0, 0.9, 0.0, 0.0]}, select_topk=0.4)
    assert merged == [0.0, 0.0, 5.0, 0.0]  # 1 of the 3 that vary


def test_sce_floor_makes_small_task_vectors_count_alike() -> None:
    deltas = {"a": [2e-4, 2e-4], "b": [1e-4, 1e-4]}
    assert _merge("sce", deltas) == pytest.approx([1.5e-4, 1.5e-4])
    assert _merge("sce", deltas, floor=0.0) == pytest.approx([1.8e-4, 1.8e-4])


def test_ram_keeps_what_is_unique_and_averages_what_is_shared() -> None:
    deltas = {"a": [1.0, 2.0, 0.0, 5e-6], "b": [3.0, 0.0, 0.0, 4.0]}
    assert _merge("ram", deltas) == [2.0, 2.0, 0.0, 4.0]


def test_ramplus_enlarges_what_is_unique_by_the_share_of_what_is_shared() -> None:
    # a: 1 shared, 1 unique; b: 1 shared, 2 unique
    deltas = {"a": [1.0, 2.0, 0.0, 0.0], "b": [3.0, 0.0, 1.0, 4.0]}
    merged = _merge("ramplus_tl", deltas, r=0.5, alpha=0.8)
    assert merged == pytest.approx([2.0, 2.0 * (1 + 0.5 * 0.8), 1.0 * 1.25, 4.0 * 1.25])


def test_consensus_drops_what_only_one_expert_needs() -> None:
    # needed by both, by the first alone, by both (equal), by none but where zero is enough
    deltas = {"a": [1.0, 5.0, 2.0, 0.0], "b": [1.5, 0.1, 2.0, 0.0]}
    assert _merge("consensus", deltas, {"weight": 1.0}) == [2.5, 0.0, 4.0, 0.0]
    assert _merge("consensus", deltas, {"weight": 1.0}, k=1.0) == pytest.approx([2.5, 5.1, 4.0, 0.0])


def test_pcb_of_equal_experts_is_the_expert_where_it_is_kept() -> None:
    merged = _merge("pcb", {"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0, 3.0, 4.0]}, {"drop_rate": 0.5})
    assert merged == pytest.approx([0.0, 0.0, 3.0, 4.0])


def test_pcb_gives_an_element_to_the_expert_to_whom_it_means_more() -> None:
    merged = _merge("pcb", {"a": [4.0, 0.1, 1.0, 0.0], "b": [0.1, -4.0, 1.0, 0.0]}, {"drop_rate": 0.7})
    assert merged == pytest.approx([4.0, -4.0, 0.0, 0.0])


def test_widen_of_a_vector_scores_each_element() -> None:
    # mean |d| of a is 2, of b 1: above them the score is 1, else the softmax over the experts
    merged = _merge("widen", {"a": [1.0, 3.0], "b": [1.0, 1.0]})
    soft = 1 / (1 + math.exp(1 - 3))
    assert merged == pytest.approx([0.5 * 1 + 0.5 * 1, 3.0 + (1 - soft) * 1.0])


def test_widen_ranks_columns_and_in_embeddings_rows() -> None:
    base = torch.ones(2, 3)
    moved = base + torch.tensor([[0.0, 0.1, 0.3], [0.0, 0.2, 0.3]])
    # columns: only the last moved further than the mean in length, only the middle one turned
    column = run("widen", base, {"a": moved}, {}, {"score": 3.0}) - base
    middle = 0.5 * (1.0 + 3.0)
    assert column.numpy() == pytest.approx((torch.tensor([1.0, middle, middle]) * (moved - base)).numpy(), abs=1e-6)
    rows = run("widen", base.T.contiguous(), {"a": moved.T.contiguous()}, {}, {"score": 3.0}, name="wte.weight")
    assert torch.equal(rows.T - base, column)


def test_metrics_weigh_checkpoints() -> None:
    metric = {"metric": {"a": 1.0, "b": 2.0}}
    deltas = {"a": [3.0], "b": [6.0]}
    assert _merge("metrics_weighted", deltas, metric) == pytest.approx([(2 * 3 + 1 * 6) / 3])
    assert _merge("metrics_weighted", deltas, metric, better="larger") == pytest.approx([(3 + 2 * 6) / 3])
    assert _merge("metrics_weighted", deltas, metric, power=1000.0) == pytest.approx([3.0])
    assert _merge("metrics_weighted", deltas, metric, power=0.0) == pytest.approx([4.5])


def test_passthrough_has_the_experts_own_bits() -> None:
    x = torch.tensor([1.5, -0.0, 0.0, -3.25e-41])
    merged = run("passthrough", torch.ones(4), {"a": x})
    assert torch.equal(merged.view(torch.int32), x.view(torch.int32))
