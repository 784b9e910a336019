import subprocess
import sys

import evomerge.evaluation


def test_every_public_name_can_be_imported():
    for name in evomerge.evaluation.__all__:
        assert getattr(evomerge.evaluation, name) is not None


def test_types_cost_no_heavy_import():
    code = "import sys, evomerge.evaluation.types; print('torch' in sys.modules or 'lm_eval' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
