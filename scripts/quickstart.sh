#!/usr/bin/env bash
# The main job on a fresh machine: makes a virtual environment, installs evomerge, and searches for the best merge of the tiny
# models that ship with it. No GPU, no hub, a few minutes. Run it again and it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh .venv
install_evomerge .
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
# Any further argument is a configuration override, as in: bash scripts/quickstart.sh optimizer=tpe seed=1
evomerge search experiment=quickstart "$@"
