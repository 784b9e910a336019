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
#: The flags that differ from these, and how many tensors are read 16 bytes at a time.
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "dare_linear": ({}, 3),
    "ties": ({"banded": True, "drawn": False, "elect": kernel.WEIGHTED, "by_agreeing": True, "scaled": True}, 3),
    "della": ({"rank_types": (tl.uint16, tl.uint16), "drawn": False, "elect": kernel.UNWEIGHTED}, 5),
    "float32": ({"types": (tl.float32, tl.float16), "rank_types": (tl.int32, None), "kind": kernel.AS_FLOAT32}, 4),
    "float16": ({"base_type": tl.float16, "kind": kernel.AS_FLOAT16}, 3),
    "widened": ({"types": (tl.float32,) * 2, "kind": kernel.AS_WIDENED_FLOAT16}, 3),
    "unaligned": ({"kind": kernel.AS_WIDENED_BFLOAT16, "aligned": False}, 0),
    "copy": (
        {
            "base_type": None,
            "types": (tl.float32,),
            "rank_types": (None,),
            "task_vectors": False,
            "drawn": False,
            "factored": False,
        },
        1,
    ),
}
TYPES = {"integers": "*i64", "numbers": "*fp32", "rank_masks": "*i64", "owners": "*i32", "results": "*i64"}

if __name__ == "__main__":
    found = {}
    for kind, (changes, tensors) in KINDS.items():
        flags = {**FLAGS, **changes}
        signature = {**TYPES, "tiles": "i32", **dict.fromkeys(flags, "constexpr")}
        made = triton.compile(
            ASTSource(kernel.merge, signature=signature, constexprs=flags),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": 4, "enable_fp_fusion": False},
        )
        code = made.asm["ptx"]
        found[kind] = {
            "tensors": tensors,
            "fused": code.count("fma."),
            "flushing": code.count(".ftz"),
            "approximate_divisions": code.count("div.full") + code.count("div.approx"),
            "wide_loads": code.count("ld.global.v4"),
            "wide_stores": code.count("st.global.v4"),
        }
    print(json.dumps(found))
