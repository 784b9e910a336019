#!/usr/bin/env bash
# What only a GPU can show: that its bits are the CPU's, and how fast it merges. For a machine with one NVIDIA GPU; a
# python3 whose torch sees it is used as it is, otherwise a virtual environment is made. Downloads no model. Takes 8
# minutes at most; a step that fails or takes too long is reported, and the next one runs.
#
#   OUT=results bash scripts/gpu_check.sh            writes results/gpu_check.txt and results/gpu_check.json
#   bash scripts/gpu_check.sh --interpret            the same without a GPU, in Triton's interpreter: no speed
set -uo pipefail
cd "$(dirname "$0")/.."
out="$(mkdir -p "${OUT:-.}" && cd "${OUT:-.}" && pwd)"
interpret=""
[ "${1:-}" = "--interpret" ] && interpret="--interpret"
if [ -z "$interpret" ] && ! nvidia-smi -L >/dev/null 2>&1; then
    echo "gpu_check: nvidia-smi finds no GPU; --interpret tries the code without one" >&2
    exit 3
fi

deadline=$((SECONDS + 465))
steps="$out/gpu_check.steps"
exec > >(tee "$out/gpu_check.txt") 2>&1
rm -f "$out/bench_gpu.json" "$out/bench_merge.json" "$out/bench_generate.json"
: >"$steps"
worst=0

# step NAME SECONDS COMMAND...: runs a command within its time and what is left of all, notes how it ended, goes on
step() {
    local name="$1" limit="$2" left=$((deadline - SECONDS)) began=$SECONDS status
    shift 2
    [ "$left" -lt "$limit" ] && limit="$left"
    echo "== $name (at most $limit s)"
    if [ "$limit" -lt 5 ]; then status=124; else timeout -k 5 "$limit" "$@"; status=$?; fi
    [ "$status" -ne 0 ] && worst=1
    echo "== $name: status $status after $((SECONDS - began)) s"
    printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$steps"
}

export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$PWD" PYTHONUNBUFFERED=1
python="${PYTHON:-python3}"
needed="import lm_eval, torch, triton, numba, numpy, pytest, safetensors, transformers, yaml, sys"
if ! "$python" -c "$needed; sys.exit(not (torch.cuda.is_available() or '$interpret'))" >/dev/null 2>&1; then
    [ -x .venv-gpu/bin/python ] || step "make an environment" 30 "$python" -m venv .venv-gpu
    python=.venv-gpu/bin/python
    install=("$python" -m pip install --quiet --disable-pip-version-check)
    step "install torch and evomerge" 240 "${install[@]}" torch triton -e ".[dev]"
fi

fields="name,memory.total,driver_version,clocks.max.sm,clocks.max.mem"
[ -n "$interpret" ] || step "device" 30 nvidia-smi --query-gpu="$fields" --format=csv
step "torch" 60 "$python" -c "import torch, triton; print(torch.__version__, triton.__version__, torch.version.cuda)"
how=()
[ -n "$interpret" ] || how=(-m "")  # the slow ones too, which are slow in the interpreter
"$python" -c "import xdist" 2>/dev/null && [ -z "$interpret" ] && how+=(-n 8)
tests=(tests/merging/kernels tests/merging/test_on_gpu.py tests/merging/test_engine.py tests/evaluation/decoding)
step "bits" 180 "$python" -m pytest -q -p no:cacheprovider ${how[@]+"${how[@]}"} "${tests[@]}"
step "speed: the kernel" 200 "$python" scripts/bench_gpu.py $interpret --json "$out/bench_gpu.json"
if grep -q -- '"--device"' scripts/bench_merge.py 2>/dev/null && [ -z "$interpret" ]; then
    pool="$(mktemp -d)"
    trap 'rm -rf "$pool"' EXIT
    merge=("$python" scripts/bench_merge.py --device cuda --out "$pool" --json "$out/bench_merge.json")
    step "speed: the engine" 120 "${merge[@]}"
fi
if [ -z "$interpret" ]; then
    generate=("$python" scripts/bench_generate.py --json "$out/bench_generate.json")
    step "speed: generating" 150 "${generate[@]}" --shapes 0.5B,7B --rows 64 --prompt 512 --new 128
fi

"$python" - "$steps" "$out" <<'PYTHON'
import json, pathlib, sys
steps, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
rows = [line.split("\t") for line in steps.read_text().splitlines()]
bench = out / "bench_gpu.json"
found = {
    "steps": [{"name": name, "status": int(status), "seconds": int(seconds)} for name, status, seconds in rows],
    "kernel": json.loads(bench.read_text()) if bench.exists() else None,
}
(out / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n")
print("== summary")
for name, status, seconds in rows:
    print(f"{name}: {'passed' if status == '0' else 'FAILED, status ' + status} in {seconds} s")
for row in (found["kernel"] or {}).get("methods", []):
    if row["method"] == "dare_linear":
        print(f"dare_linear: {row['candidate_ms']:.1f} ms a candidate, {row['candidate_ratio']:.2f} times one pass")
for row in (found["kernel"] or {}).get("engine", []):
    if row["method"] == "dare_linear":
        print(f"dare_linear by the engine: {row['engine_ms']:.1f} ms, {row['engine_ratio']:.2f} times one pass")
PYTHON
rm -f "$steps"
exit "$worst"
