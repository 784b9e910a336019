"""Commands of the documentation that no test runs, each with its reason."""

import re

from tests.docs.blocks import Command

#: (page, pattern, reason): a command of the page that has the pattern is not run, for that reason.
NOT_RUN = [
    (r"", r"^git clone|^pip (install|download)|^bash scripts/|^python -m venv", "installs packages from the network"),
    (r"benchmarks.md", r"^python scripts/", "takes minutes to hours; the page shows what came out"),
    (r"guide.md", r"Qwen/|gsm8k|arc_easy", "needs a model hub; the same commands are run with the tiny models"),
    (r"guide.md", r"^vllm serve", "needs vLLM, which is not in the test environment"),
    (r"vllm.md", r"", "needs vLLM, which is not in the test environment"),
    (r"cluster.md", r"", "needs Slurm, GPUs or a model hub; tests/cli/test_cluster.py runs the like on one host"),
    (r"ray.md", r"", "needs several hosts; tests/search/workers/test_zoo_ray.py runs the like on one"),
    (r"tasks.md", r"tasks=mmlu|--tasks mbpp|MODEL --tasks /home/me|tasks=gsm8k", "needs data sets of the reader's"),
    (r"tasks.md", r"^evomerge overlap", "needs texts of the reader's; tests/evaluation/test_overlap.py runs the like"),
]


def reason(command: Command) -> str | None:
    """Why a command is not run; None if it should be."""
    for page, pattern, why in NOT_RUN:
        if page in command.page.name and re.search(pattern, command.text):
            return why
    return None
