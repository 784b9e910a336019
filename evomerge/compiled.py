"""How loops are compiled for the CPU: by numba, without the interpreter's lock, kept on disk where that is possible.

No option here lets the compiler reorder or fuse floating-point operations. This file knows nothing about what is
compiled.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call (decorator)."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # nowhere to write: compile anew in every process
        return cast(F, numba.njit(**options)(function))


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@compiled
def at(address: Any, count: Any, dtype: Any) -> Any:
    """Return the array of `count` elements at an address; only inside compiled functions."""
    return numba.carray(_pointer(address), (count,), dtype)


def _bitcast(source: Any, target: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def cast_bits(_context: Any, value: Any) -> Any:
        if value != source:
            return None

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return cast_bits


#: uint32 -> the float32 of the same bits, and back; only inside compiled functions.
as_float32 = _bitcast(types.uint32, types.float32)
as_bits = _bitcast(types.float32, types.uint32)


@intrinsic  # type: ignore[untyped-decorator]
def widen(_context: Any, stored: Any) -> Any:
    """Return an element as float32: bfloat16 comes as uint16, float32 as itself; only inside compiled functions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] != types.uint16:
            return arguments[0]
        word = context.get_value_type(types.uint32)
        shifted = builder.shl(builder.zext(arguments[0], word), word(16))
        return builder.bitcast(shifted, context.get_value_type(types.float32))

    return types.float32(stored), generate
