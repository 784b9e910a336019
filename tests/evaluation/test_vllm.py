"""vLLM for real: in this environment, or in the one whose Python EVOMERGE_VLLM_PYTHON names (see docs/vllm.md)."""

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError, UsageError, WorkError
from evomerge.evaluation import load_model
from evomerge.evaluation.vllm import open_vllm
from evomerge.evaluation.vllm.engine import VllmEngine
from evomerge.evaluation.vllm.worker import EvomergeWorker
from evomerge.merging import MergeEngine
from evomerge.recipes import Recipe
from evomerge.zoo import model_path

PYTHON = sys.executable if find_spec("vllm") else os.environ.get("EVOMERGE_VLLM_PYTHON")
CHECKS = Path(__file__).with_name("vllm_checks.py")
TIE = 1e-3
EXPERTS = {"math": "zoo:math", "code": "zoo:code"}

with_vllm = pytest.mark.skipif(
    PYTHON is None, reason="vLLM is not installed here, and EVOMERGE_VLLM_PYTHON names no Python that has it"
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a mode of `vllm_checks.py` saw; each is run once."""
    folder = tmp_path_factory.mktemp("vllm")

    @cache
    def run(mode):
        out = folder / f"{mode}.json"
        environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "numba"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [str(PYTHON), str(CHECKS), mode, str(out)], capture_output=True, text=True, env=environment, timeout=900
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(out.read_text())

    return run


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_extra_is_named():
    pool = ModelPool.open("zoo:base", {"math": "zoo:math"}, check_weights=False)
    with pytest.raises(UsageError, match=r"pip install 'evomerge\[vllm\]'"):
        open_vllm(pool)


def test_workers_merge_in_main_memory_only():
    pool = ModelPool.open("zoo:base", {"math": "zoo:math"}, check_weights=False)
    with pytest.raises(UsageError, match="write resident or files"):
        open_vllm(pool, memory="pinned")


class Loader(EvomergeWorker):
    """A worker without vLLM, which keeps what it is given to load."""

    def reload_weights(self, weights_iterator):
        self.loaded = dict(weights_iterator)

    def get_model(self):
        return torch.nn.Module()


class TestTheSideOfEvomerge:
    """What goes to vLLM's loader, without vLLM."""

    @pytest.fixture
    def pool(self):
        return ModelPool.open("zoo:base", EXPERTS, check_weights=False)

    def start(self, pool, *, workers=1, dtype="float32"):
        self.workers, self.changes = [Loader() for _ in range(workers)], 0

        def change():
            self.changes += 1

        def call(method, arguments):
            # as plain data, which is all that crosses the border of a process
            plain = json.loads(json.dumps(arguments))
            return json.loads(json.dumps([getattr(worker, method)(*plain) for worker in self.workers]))

        return VllmEngine(pool, call, dtype=dtype, on_change=change, threads=3)

    @pytest.mark.parametrize("method", ["dare_linear", "ties", "slerp"])
    def test_tensors_and_fingerprint_are_those_of_the_engine(self, pool, method):
        parameters = {} if method == "slerp" else {"weight": {"math": 0.7, "code": 0.4}, "drop_rate": 0.3}
        options = {"t": 0.3} if method == "slerp" else {}
        recipe = Recipe(method, "zoo:base", EXPERTS, parameters, options)
        live, _ = load_model(model_path("base"), dtype="float32")
        expected = MergeEngine(pool, live).apply(recipe).fingerprint
        engine = self.start(pool, workers=2)
        applied = engine.apply(recipe)
        assert (applied.fingerprint, applied.rebuilt, self.changes) == (expected, len(pool.layout.tensors), 1)
        for worker in self.workers:
            for name, tensor in live.state_dict().items():
                assert torch.equal(worker.loaded[name].float(), tensor), name
        assert (engine.apply(recipe).rebuilt, self.changes) == (0, 1)
        engine.forget()
        assert (engine.apply(recipe).rebuilt, self.changes) == (len(pool.layout.tensors), 2)

    def test_a_failure_in_the_middle_leaves_no_half_loaded_model(self, pool):
        engine = self.start(pool)
        groups = {"layers.3": 1e8, "all": 0.5}
        recipe = Recipe(
            "task_arithmetic", "zoo:base", EXPERTS, {"weight": {"math": groups, "code": 0.5}}, dtype="float16"
        )
        with pytest.raises(CandidateError, match="NaN or infinity"):
            engine.apply(recipe)
        loaded = self.workers[0].loaded
        assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == {
            name: pool.shape(name) for name in pool.layout.tensors
        }
        assert self.changes == 1
        good = recipe.with_(parameters={"weight": 0.5})
        assert engine.apply(good).rebuilt == len(pool.layout.tensors)

    def test_refusals_come_back_as_they_are(self, pool):
        with pytest.raises(UsageError, match="load the model in bfloat16 or float32"):
            self.start(pool, dtype="float16").apply(Recipe("linear", "zoo:base", EXPERTS, {"weight": 0.5}))
        pool.references["math"] = "zoo:mat"
        with pytest.raises(UsageError, match="did you mean 'math'"):
            self.start(pool)

    def test_an_interrupted_load_is_the_end_of_that_engine(self, pool):
        engine = self.start(pool)
        recipe = Recipe("linear", "zoo:base", EXPERTS, {"weight": 0.5})

        def interrupted(weights_iterator):
            next(iter(weights_iterator))
            raise KeyboardInterrupt

        self.workers[0].reload_weights = interrupted
        with pytest.raises(KeyboardInterrupt):
            engine.apply(recipe)
        with pytest.raises(WorkError, match="start it anew"):
            engine.apply(recipe)

    def test_workers_that_disagree_are_found_out(self, pool):
        engine = self.start(pool, workers=2)
        self.workers[1].evomerge_apply = lambda recipe: {"fingerprint": "0" * 16}
        with pytest.raises(WorkError, match="different weights"):
            engine.apply(Recipe("linear", "zoo:base", EXPERTS, {"weight": 0.5}))


@with_vllm
@pytest.mark.slow
class TestInThisProcess:
    def test_merged_weights_are_those_of_the_engine_bit_for_bit(self, seen):
        facts = seen("here")
        assert len({mine for mine, _ in facts["fingerprints"].values()}) == 4
        for mine, theirs in facts["fingerprints"].values():
            assert mine == theirs
        # and they arrive so in vLLM's own tensors, as far as it keeps them as they are: two norms a layer, three more
        assert facts["loaded"] == 6 * 2 + 3

    def test_the_recipe_before_is_not_built_again(self, seen):
        assert seen("here")["again"] == 0

    def test_answers_are_those_of_lm_eval_but_for_ties(self, seen):
        facts = seen("here")
        assert all(gap < TIE for gap in facts["short_a_gaps"])
        assert len(facts["short_a_gaps"]) <= 2
        assert len(set(facts["short_a"])) > 60

    def test_tokens_and_truncation_are_counted(self, seen):
        for mine, expected in seen("here")["tokens"]:
            assert mine == expected

    def test_prompts_that_do_not_fit_lose_their_beginning(self, seen):
        facts = seen("here")
        assert min(facts["cut_tokens"]) + 200 > facts["settings"]["max_length"]
        assert all(gap < TIE for gap in facts["cut_gaps"])

    def test_new_weights_meet_no_keys_of_old_ones(self, seen):
        facts = seen("here")
        assert facts["prefix_tokens"] > 400
        assert facts["long_a"] != facts["long_b"]
        for gaps in (facts["long_a_gaps"], facts["long_b_gaps"]):
            assert all(gap < TIE for gap in gaps)
        # this is what happens where the contract is not kept
        right = sum(one == other for one, other in zip(facts["stale"], facts["long_a"], strict=True))
        assert right < len(facts["long_a"]) / 2

    def test_likelihoods_are_those_of_lm_eval(self, seen):
        mine, theirs = seen("here")["pairs"]
        assert len(mine) == 25
        for (logprob, greedy), (expected, expected_greedy) in zip(mine, theirs, strict=True):
            assert logprob == pytest.approx(expected, abs=1e-3)
            assert greedy == expected_greedy
        assert 0 < sum(greedy for _, greedy in mine) < 25

    def test_likelihoods_of_documents_are_those_of_lm_eval(self, seen):
        facts = seen("here")
        mine, theirs = facts["documents"]
        assert mine == pytest.approx(theirs, abs=1e-3)
        assert facts["windows"][0] < -100  # longer than the context

    def test_answers_come_as_they_are_ready(self, seen):
        pieces = seen("here")["pieces"]
        assert sum(pieces) == 12
        assert len(pieces) > 1

    def test_a_batch_may_be_closed_early(self, seen):
        facts = seen("here")
        assert facts["closed_after"] < 96
        assert facts["unfinished"] == 0
        assert facts["after_closing"]

    def test_a_candidate_that_is_infinite_fails_alone(self, seen):
        facts = seen("here")
        assert "holds NaN or infinity" in facts["infinite"]
        assert facts["after_failure"] == [True, True]

    def test_the_original_weights_give_the_original_answers(self, seen):
        facts = seen("here")
        assert facts["restored"]
        assert facts["changed"] > 20

    def test_refusals(self, seen):
        misspelt, too_long, unknown, other_model = seen("here")["refused"]
        assert "'tensor_parallel'" in misspelt
        assert "lower max_gen_toks" in too_long
        assert "num_beams" in unknown
        assert "zoo:math" in other_model

    def test_batches_are_a_function_of_the_requests(self, seen):
        sizes, same = seen("here")["batches"]
        assert sizes == [96, 12]
        assert same

    def test_nothing_global_changes(self, seen):
        assert seen("here")["disturbed"] == []


@with_vllm
@pytest.mark.slow
class TestElsewhere:
    def test_in_a_process_of_its_own(self, seen):
        here, own = seen("here"), seen("own")
        assert own["fingerprint"] in [mine for mine, _ in here["fingerprints"].values()]
        assert "holds NaN or infinity" in own["infinite"]
        assert own["disturbed"] == []
        # a fresh engine says the same to long prompts, whatever weights the other one had had before
        for name, most in (("long_a", 0), ("long_b", 0), ("short_a", 2)):
            assert sum(one != other for one, other in zip(own[name], here[name], strict=True)) <= most

    def test_in_two_pieces(self, seen):
        facts = seen("parallel")
        assert facts["fingerprint"] == facts["expected"]
        assert all(gap < TIE for gap in facts["gaps"])
        assert facts["distinct"] > 12

    def test_a_vocabulary_that_is_not_the_bases(self, seen):
        facts = seen("union")
        assert facts["tokens"] != 1280
        assert facts["fingerprint"] == facts["expected"]
        assert all(gap < TIE for gap in facts["gaps"])
        assert facts["distinct"] > 12
