import json
from pathlib import Path

import pytest

from evomerge.config import compose
from evomerge.errors import UsageError
from evomerge.search.config import SearchConfig
from evomerge.search.plan import Limits, Plan, make_plan, print_plan
from evomerge.search.plan.make import crew_of
from evomerge.search.plan.needs import THIS_MACHINE
from tests.search.plan.test_shape import QWEN
from tests.search.runs import SMALL

ELSEWHERE = [
    "models.base=no-such-org/base",
    "models.experts={code: no-such-org/c, math: no-such-org/m, translate: x/y}",
]


def plan(tmp_path: Path, *overrides: str, **options: object) -> Plan:
    data, _ = compose([*SMALL, *overrides])
    return make_plan(SearchConfig.from_dict(data), tmp_path / "run", **options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    found = plan(folder, seconds=2.0, optimizers=["tpe"])
    assert list(folder.iterdir()) == []  # a plan leaves nothing behind
    return found


def test_a_measured_plan_has_every_number(measured):
    assert measured.go
    assert {finding.what for finding in measured.findings} == {"main memory", "disk"}
    assert measured.measured.merge.seconds > 0
    assert set(measured.measured.scoring) == {"zoo_math", "zoo_translate"}
    assert all([point.items for point in points] == [4, 8] for points in measured.measured.scoring.values())
    assert measured.host.measured
    assert 3e8 < measured.host.peak < 8e9
    assert measured.device is None
    assert [(one.optimizer, one.racing) for one in measured.totals] == [
        ("random", False),
        ("random", True),
        ("tpe", False),
        ("tpe", True),
    ]
    assert all(one.seconds.low < one.seconds.likely < one.seconds.high for one in measured.totals)


def test_the_json_of_a_plan_is_plain_and_complete(measured):
    data = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert data["version"] == 1
    assert data["go"] is True
    assert data["host"]["resident"]["peak"] > data["host"]["streamed"]["peak"]
    assert data["totals"][0]["seconds"]["likely"] == pytest.approx(
        sum(phase["seconds"]["likely"] for phase in data["totals"][0]["phases"])
    )
    assert data["measured"]["score"]["seconds"] > 0
    assert data["disk"]["run"] == sum(data["disk"][part] for part in ("outcomes", "ledger", "pages"))


def test_a_plan_reads_well(measured, capsys):
    print_plan(measured)
    text = capsys.readouterr().out
    for word in ("dimensions", "weights resident", "processor seconds", "its own time", "main memory: fits", "\ngo"):
        assert word in text, word


def test_too_little_memory_is_no_go_and_nothing_is_measured(tmp_path, capsys):
    found = plan(tmp_path, limits=Limits(host=10**8))
    assert not found.go
    assert found.measured is None
    print_plan(found)
    text = capsys.readouterr().out
    assert "main memory: DOES NOT FIT: needs" in text
    assert text.endswith("no go\n")


def test_a_gpu_that_is_named_is_planned_for(tmp_path):
    found = plan(tmp_path, measured=False, limits=Limits(device=24 * 10**9))
    assert found.go
    assert found.device.chosen == "resident"
    small = plan(tmp_path, measured=False, limits=Limits(device=10**6))
    assert [one.what for one in small.findings if one.fits is False] == ["GPU memory"]


def test_models_that_are_not_here_need_a_shape(tmp_path):
    with pytest.raises(UsageError, match=r"no-such-org/base is not on this machine.*models\.shape"):
        plan(tmp_path, "~models.experts", *["+" + ELSEWHERE[1], ELSEWHERE[0]])


def test_models_that_are_not_here_are_planned_by_their_shape(tmp_path):
    shape = "{" + ", ".join(f"{key}: {value}" for key, value in QWEN.items()) + "}"
    found = plan(
        tmp_path, "~models.experts", "+" + ELSEWHERE[1], ELSEWHERE[0], f"+models.shape={shape}", "items.report=null"
    )
    assert found.parameters == 494_032_768
    assert found.measured is None
    assert found.totals == ()
    assert found.host.resident.lasting["base and experts"] == 4 * 2 * found.parameters
    assert found.disk.export == 2 * found.parameters
    assert any("items.report is null" in note for note in found.notes)
    assert any("not on this machine" in note for note in found.notes)


@pytest.mark.slow
def test_estimates_hold_against_a_real_search(tmp_path):
    """Other programs move seconds, so processor time is held against processor time; see docs/benchmarks.md."""
    from scripts.bench_plan import bench

    ratios = bench("zoo", ["experiment=quickstart", "budget.candidates=6"], tmp_path, 20.0)["ratios"]
    assert 0.7 < ratios["cpu"] < 1.3
    assert 0.9 < ratios["peak"] < 1.1


def test_who_scores_is_found_out_as_a_search_does_it():
    def crew(*overrides: str, limits: Limits = THIS_MACHINE) -> int:
        return crew_of(
            SearchConfig.from_dict(compose([*SMALL, "evaluation.device=cpu", *overrides])[0]), limits
        ).workers

    assert [crew(), crew("workers=spawned", "workers.devices=3"), crew("workers.devices=[cpu, cpu]")] == [1, 3, 2]
    assert [crew("workers=ray"), crew("workers=ray", "workers.devices=8")] == [1, 8]  # no cluster is begun for a plan
    assert crew("workers.devices=4", limits=Limits(device=10**10)) == 4
    with pytest.raises(UsageError, match="in_process is one worker, not 2"):
        crew("workers=in_process", "workers.devices=2")


def test_several_workers_take_memory_each(tmp_path):
    one, three = (
        plan(tmp_path, f"workers.devices={workers}", measured=False, limits=Limits(host=100 * 10**9))
        for workers in (1, 3)
    )
    assert one.host.peak == pytest.approx(three.host.peak, rel=0.05)
    said = [next(finding.text for finding in found.findings if finding.what == "main memory") for found in (one, three)]
    needed = [float(text.split()[1]) for text in said]
    assert 3 * needed[0] < needed[1] < 4.5 * needed[0]
    assert any("3 workers score at a time" in note for note in three.notes)
