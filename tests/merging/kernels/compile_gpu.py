"""Compile the GPU's kernel for compute capability 9.0 and print what matters of the code: run by test_gpu.py."""

import json
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from evomerge.merging.kernels import gpu_kernel as kernel

FLAGS: dict[str, Any] = {
    "base_type": tl.bfloat16,
    "types": (tl.bfloat16, tl.bfloat16),
    "rank_types": (None, None),
    "kind": kernel.AS_BFLOAT16,
    "task_vectors": True,
    "banded": False,
    "drawn": True,
    "factored": True,
    "elect": kernel.NO_ELECTION,
    "by_agreeing": False,
    "scaled": False,
    "aligned": True,
    "native": True,
    "tile": 1024,
}
KINDS: dict[str, dict[str, Any]] = {
    "dare_linear": {},
    "ties": {"banded": True, "elect": kernel.WEIGHTED, "by_agreeing": True, "scaled": True},
    "della": {"rank_types": (tl.uint16, tl.uint16), "elect": kernel.UNWEIGHTED},
}
TYPES = {"integers": "*i64", "numbers": "*fp32", "rank_masks": "*i64", "owners": "*i32", "results": "*i64"}

if __name__ == "__main__":
    found = {}
    for kind, changes in KINDS.items():
        flags = {**FLAGS, **changes}
        signature = {**TYPES, "tiles": "i32", **dict.fromkeys(flags, "constexpr")}
        made = triton.compile(
            ASTSource(kernel.merge, signature=signature, constexprs=flags),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": 4, "enable_fp_fusion": False},
        )
        code = made.asm["ptx"]
        found[kind] = {
            "tensors": 5 if kind == "della" else 3,
            "fused": code.count("fma."),
            "flushing": code.count(".ftz"),
            "approximate_divisions": code.count("div.full") + code.count("div.approx"),
            "wide_loads": code.count("ld.global.v4"),
            "wide_stores": code.count("st.global.v4"),
            "spilled": code.count("st.local"),
        }
    print(json.dumps(found))
