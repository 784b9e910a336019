"""A search may be killed anywhere and started again by the same command: it must end as if nothing had happened."""

import random
import signal
import subprocess
import time

import pytest
from pyarrow import parquet

from tests.search.runs import command, environment, here, ledger, search, search_arguments

OVERRIDES = (
    "optimizer=cmaes",
    "budget.candidates=6",
    "seed=5",
    "racing.enabled=true",
    "racing.first=2",
    "racing.alpha=0.4",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = search(run, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    return run


def killed_search(run, moments):
    """Start the search once a moment, kill it that many events later, then let it finish."""
    for events in moments:
        before = len(ledger(run)) if (run / "ledger.jsonl").exists() else 0
        process = subprocess.Popen(
            command(*search_arguments(run, *OVERRIDES)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        path = run / "ledger.jsonl"
        while process.poll() is None:
            if path.exists() and path.read_bytes().count(b"\n") >= before + events:
                time.sleep(random.Random(events).uniform(0, 0.3))  # anywhere within the next step
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
    done = search(run, *OVERRIDES)
    assert done.returncode == 0, done.stderr


def assert_equal_runs(run, undisturbed):
    assert ledger(run) == ledger(undisturbed)
    assert (run / "best" / "recipe.yaml").read_bytes() == (undisturbed / "best" / "recipe.yaml").read_bytes()
    assert (run / "front.json").read_bytes() == (undisturbed / "front.json").read_bytes()


def test_a_kill_leaves_no_trace(undisturbed, tmp_path):
    run = tmp_path / "run"
    killed_search(run, moments=[9])
    assert_equal_runs(run, undisturbed)


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_no_trace(undisturbed, tmp_path):
    run = tmp_path / "run"
    generator = random.Random(2)
    killed_search(run, moments=[generator.randint(1, 5) for _ in range(10)])
    assert_equal_runs(run, undisturbed)


def test_a_finished_run_starts_again_without_scoring_anything(undisturbed):
    before = ledger(undisturbed)
    done = here(*search_arguments(undisturbed, *OVERRIDES))
    assert done.returncode == 0, done.stderr
    assert ledger(undisturbed) == before


def test_a_fork_takes_over_outcomes_instead_of_scoring_again(undisturbed, tmp_path):
    run = tmp_path / "fork"
    done = here(*search_arguments(run, "optimizer=sobol", "budget.candidates=2", f"fork_from={undisturbed}"))
    assert done.returncode == 0, done.stderr
    first = min(event["number"] for event in ledger(run) if event.get("kind") == "candidate")
    scored = [event for event in ledger(undisturbed) if event["event"] in ("ask", "tell")]
    baselines = [event for event in scored if event["number"] < first]
    assert [event for event in ledger(run) if event in baselines] == baselines
    tables = [parquet.read_table(path) for path in (run / "outcomes").glob("*.parquet")]
    keys = {key for table in tables for key in table["key"].to_pylist()}
    told = {event["number"]: event["fingerprint"] for event in ledger(run) if event["event"] == "tell"}
    assert keys == {told[first], told[first + 1]}, "only the two new candidates were scored"


def test_another_configuration_is_refused_and_named(undisturbed):
    before = ledger(undisturbed)
    done = here(*search_arguments(undisturbed, *OVERRIDES, "space.parameters.weight.high=2.0"))
    assert done.returncode == 2
    assert "space.parameters.weight.high=1.5, now it is 2.0" in done.stderr
    assert done.stderr.count("\n") == 1
    assert ledger(undisturbed) == before


def test_runs_that_share_a_folder_share_outcomes(tmp_path):
    """The same search in another run directory answers nothing again; its ledger is the same but for times."""
    few = ("optimizer=sobol", "budget.candidates=1", "baselines.untuned=[]")
    options = (*few, f"evaluation.outcomes={tmp_path / 'shared'}")
    tells, answers = [], []
    for name in ("first", "second"):
        done = here(*search_arguments(tmp_path / name, *options))
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / name / "outcomes").exists()
        tells.append([event["scores"] for event in ledger(tmp_path / name) if event["event"] == "tell"])
        tables = [parquet.read_table(path) for path in (tmp_path / "shared").glob("*.parquet")]
        answers.append(sum(len(table) for table in tables))
    assert tells[0] == tells[1]
    assert answers[0] == answers[1] > 0
