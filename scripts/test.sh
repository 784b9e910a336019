#!/usr/bin/env bash
# The tests on a fresh machine: makes a virtual environment, installs evomerge with its tools, runs linters, types and tests.
# Arguments go to pytest, as in: bash scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "${EVOMERGE_VENV:-.venv-test}"
install_evomerge ".[dev]"
processors="$(nproc)"  # before OMP_NUM_THREADS, which nproc would go by
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
ruff check .
ruff format --check .
pytest tests/merging/methods/test_methods.py >/dev/null &  # compiles the loops, or each process would do it below
mypy
wait
pytest -n "$((processors + 1))" --dist loadfile "$@"  # one more, since some wait; what a file's tests share is made once
