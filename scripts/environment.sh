# Sourced by quickstart.sh and test.sh: a virtual environment in folder $1, and how evomerge is installed into it.
# PYTHON names the interpreter (3.11 or later; default python3).
environment="$1"
"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evomerge needs Python 3.11 or later; set PYTHON=...")'
[ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
source "$environment/bin/activate"

install_evomerge() {
    # torch first and alone: the constraint keeps pip from a newer build with gigabytes of CUDA libraries
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable "$1"
}
