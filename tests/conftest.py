"""What all tests share: no hub, one thread, no colour."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch

# Where there is no GPU, Triton's kernels run in its interpreter; triton looks once, when it is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A first call may compile its loops, which takes seconds.
hypothesis.settings.register_profile("evomerge", deadline=None)
hypothesis.settings.load_profile("evomerge")
