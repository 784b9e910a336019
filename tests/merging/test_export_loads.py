"""An exported merge of the zoo in vLLM as it is: sharded, with its own tokenizer; it says what transformers says."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.recipes import Recipe
from evomerge.search.export import export_recipe

PYTHON = os.environ.get("EVOMERGE_VLLM_PYTHON")
PROMPTS = ["Question: Ida has 3 stamps and gets 4 more. How many has she now?\nAnswer:", "English: the dog sees\nKoro:"]
CODE = (
    "import json, sys\n"
    "from vllm import LLM, SamplingParams\n"
    "if __name__ == '__main__':\n"
    "    model = LLM(model=sys.argv[1], dtype='float32', enforce_eager=True, max_model_len=256)\n"
    "    said = model.generate(json.loads(sys.argv[2]), SamplingParams(temperature=0, max_tokens=12))\n"
    "    print('SAID ' + json.dumps([list(answer.outputs[0].token_ids) for answer in said]))\n"
)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="EVOMERGE_VLLM_PYTHON names no Python that has vLLM")
def test_vllm_loads_it_unchanged(tmp_path: Path) -> None:
    recipe = Recipe("task_arithmetic", "zoo:base", {"code": "zoo:code", "math": "zoo:math"}, {"weight": 0.7})
    out = export_recipe(recipe, tmp_path / "out", shard_bytes=10**6, tokenizer_from="math").path
    (tmp_path / "speak.py").write_text(CODE)
    done = subprocess.run(
        [str(PYTHON), str(tmp_path / "speak.py"), str(out), json.dumps(PROMPTS)],
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("SAID "))[5:])
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for prompt, tokens in zip(PROMPTS, said, strict=True):
        asked = tokenizer(prompt, return_tensors="pt")["input_ids"]
        answer = model.generate(asked, max_new_tokens=12, do_sample=False)[0, asked.shape[1] :].tolist()
        assert tokens[: len(answer)] == answer[: len(tokens)]
        assert tokens
