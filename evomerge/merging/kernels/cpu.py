"""The weighted sum of task vectors on the CPU: span by span, every step in a loop of its own over a block in the cache.

A block of 4,096 elements is read, thinned, weighted, summed, rounded, checked and fingerprinted before the next one is
touched, so that memory is read once and written once. Loops are separate and small because then the compiler makes
vector code of each. All arithmetic is float32, every product and sum rounded separately. This file knows nothing about
methods, recipes or files: addresses and numbers come in.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.merging.kernels.compiled import as_bits, at, compiled, widen

BLOCK = 4096

# How elements are stored at an address.
BFLOAT16, FLOAT32 = 0, 1
# What is written: bfloat16, float32, bfloat16 widened to float32, or float32 that somebody else will round.
AS_BFLOAT16, AS_FLOAT32, AS_WIDENED, AS_UNROUNDED = 0, 1, 2, 3
NO_ELECTION, WEIGHTED, UNWEIGHTED = 0, 1, 2

_ROUNDS = 10
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_32, _16, _1 = np.uint64(32), np.uint32(16), np.uint32(1)
_HALF, _EXPONENT = np.uint32(0x7FFF), np.uint32(0x7F800000)
# Weyl step and finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)

Array = npt.NDArray[Any]

#: One expert's part. Addresses are those of the span's first element; 0 where there is none.
TERM = np.dtype(
    [
        ("address", np.int64),
        ("storage", np.int64),
        ("weight", np.float32),
        ("factor", np.float32),
        ("at_least", np.float32),
        ("at_most", np.float32),
        ("threshold", np.int64),
        ("key", np.uint64),
        # DELLA: each element's rank in its row, and what holds at a rank
        ("ranks", np.int64),
        ("rank_bytes", np.int64),
        ("rank_thresholds", np.int64),
        ("rank_factors", np.int64),
        ("rank_count", np.int64),
    ]
)
#: The rest of a weighted sum, and where its span lies.
SUM = np.dtype(
    [
        ("base", np.int64),
        ("base_storage", np.int64),
        ("task_vectors", np.bool_),
        ("base_weight", np.float32),
        ("elect", np.int64),
        ("divide_by_agreeing", np.bool_),
        ("divisor", np.float32),
        ("factor", np.float32),
        ("out", np.int64),
        ("out_storage", np.int64),
        ("name_key", np.uint64),
        ("first", np.int64),
        ("count", np.int64),
    ]
)


@compiled
def philox(key: Any, block: Any, out: Array) -> None:
    """Write the uint16 numbers of Philox4x32-10 blocks `block`, `block + 1`, ... (8 numbers each) into `out`."""
    words = out.view(np.uint64)
    key0, key1 = np.uint32(key), np.uint32(key >> _32)
    for i in range(words.size // 2):
        counter = np.uint64(block) + np.uint64(i)
        a, b, c, d = np.uint32(counter), np.uint32(counter >> _32), np.uint32(0), np.uint32(0)
        k0, k1 = key0, key1
        for _ in range(_ROUNDS):
            left, right = np.uint64(a) * _M0, np.uint64(c) * _M1
            a, c = np.uint32(right >> _32) ^ b ^ k0, np.uint32(left >> _32) ^ d ^ k1
            b, d = np.uint32(right), np.uint32(left)
            k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
        words[2 * i] = np.uint64(a) | (np.uint64(b) << _32)
        words[2 * i + 1] = np.uint64(c) | (np.uint64(d) << _32)


@compiled
def hash_words(words: Array, key: Any, first: Any) -> Any:
    """Return the sum modulo 2^64 of the mixed words (uint64) with indices first, first + 1, ..."""
    total = np.uint64(0)
    start = np.uint64(key) + np.uint64(first) * _STEP
    for i in range(words.size):
        z = words[i] ^ (start + np.uint64(i) * _STEP)
        z ^= z >> _S30
        z *= _MIX1
        z ^= z >> _S27
        z *= _MIX2
        z ^= z >> _S31
        total += z
    return total


@compiled
def hash_bits(bits: Array, key: Any, first: Any) -> Any:
    """Return the fingerprint of elements first, first + 1, ... given as uint16 or uint32; `first` starts a word.

    Elements are taken four (two) to a 64-bit word, little endian; the last word is filled up with zeros.
    """
    per_word = 8 // bits.itemsize
    whole = bits.size // per_word
    word = first // per_word
    total = hash_words(bits[: whole * per_word].view(np.uint64), key, word)
    if whole * per_word < bits.size:
        rest = np.zeros(per_word, bits.dtype)
        rest[: bits.size - whole * per_word] = bits[whole * per_word :]
        total += hash_words(rest.view(np.uint64), key, word + whole)
    return total


@compiled
def round_bfloat16(values: Array, out: Array) -> Any:
    """Round float32 numbers to bfloat16 (as uint16), ties to even; return whether all results are finite."""
    return _finish16(values, np.float32(1), np.float32(1), None, np.float32(0), out)


@compiled
def copy_bits(values: Array, out: Array) -> Any:
    """Copy float32 numbers; return whether all are finite."""
    return _finish32(values, np.float32(1), np.float32(1), None, np.float32(0), out)


@compiled
def _total(total: Any, divisor: Any, factor: Any) -> Any:
    if divisor != np.float32(1):
        total = total / divisor
    return total * factor


@compiled
def _finish16(total: Array, divisor: Any, factor: Any, origin: Any, base_weight: Any, out: Array) -> Any:
    """Write total / divisor * factor + base_weight * origin, rounded to bfloat16; return whether all is finite."""
    largest = np.uint32(0)
    for i in range(total.size):
        x = _total(total[i], divisor, factor)
        if origin is not None:
            x = x + origin[i] * base_weight
        v = as_bits(x)
        rounded = np.uint32(v + _HALF + ((v >> _16) & _1))
        out[i] = np.uint16(rounded >> _16)
        # before, since the rounding of a NaN may overflow; after, since that of a large number may reach infinity
        largest = max(largest, max(np.uint32(v & _EXPONENT), np.uint32(rounded & _EXPONENT)))
    return largest != _EXPONENT


@compiled
def _finish32(total: Array, divisor: Any, factor: Any, origin: Any, base_weight: Any, out: Array) -> Any:
    """Write the same, not rounded."""
    largest = np.uint32(0)
    for i in range(total.size):
        x = _total(total[i], divisor, factor)
        if origin is not None:
            x = x + origin[i] * base_weight
        out[i] = x
        largest = max(largest, np.uint32(as_bits(x) & _EXPONENT))
    return largest != _EXPONENT


@compiled
def _widen_all(source: Array, out: Array) -> None:
    for i in range(source.size):
        out[i] = widen(source[i])


@compiled
def _accumulate(
    total: Array, more: Any, source: Array, origin: Any, numbers: Any, threshold: Any, factor: Any, weight: Any
) -> None:
    """Add an expert's part to the total, or begin it (-0 + x is x for every x, 0 + x is not)."""
    for i in range(total.size):
        x = widen(source[i])
        if origin is not None:
            x = x - origin[i]
        x = x * factor
        if numbers is not None:
            x = x if numbers[i] >= threshold else np.float32(0)
        total[i] = (total[i] if more else np.float32(-0.0)) + x * weight


@compiled
def _part(
    out: Array, source: Array, origin: Any, numbers: Any, threshold: Any, low: Any, high: Any, factor: Any
) -> None:
    """Write an expert's part before its weight."""
    for i in range(out.size):
        x = widen(source[i])
        if origin is not None:
            x = x - origin[i]
        x = x * factor if abs(x) >= low and abs(x) <= high else np.float32(0)
        if numbers is not None:
            x = x if numbers[i] >= threshold else np.float32(0)
        out[i] = x


@compiled
def _keep_ranked(x: Array, numbers: Array, ranks: Array, thresholds: Array, factors: Array, factor: Any) -> None:
    for i in range(x.size):
        rank = ranks[i]
        kept = np.int32(numbers[i]) >= thresholds[rank]
        x[i] = (x[i] * factors[rank]) * factor if kept else np.float32(0)


@compiled
def _add_product(total: Array, more: Any, x: Array, weight: Any) -> None:
    for i in range(x.size):
        total[i] = (total[i] if more else np.float32(-0.0)) + x[i] * weight


@compiled
def _add_agreeing(total: Array, divisor: Array, votes: Array, x: Array, weight: Any, weighted: Any) -> None:
    """Add the weighted elements whose sign is the elected one (+ where votes are 0 or more), and their weight."""
    for i in range(x.size):
        product = x[i] * weight
        opinion = product if weighted else x[i]
        agrees = (opinion if votes[i] >= np.float32(0) else -opinion) > np.float32(0)
        total[i] = total[i] + (product if agrees else np.float32(0))
        divisor[i] = divisor[i] + (weight if agrees else np.float32(0))


@compiled
def _divide_each(x: Array, divisor: Array) -> None:
    for i in range(x.size):
        x[i] = x[i] / (divisor[i] if divisor[i] != np.float32(0) else np.float32(1))


@compiled
def _plain_or_drawn(
    total: Array, more: Any, source: Array, origin: Array, task_vectors: Any, numbers: Array, first: Any, term: Any
) -> None:
    """Add a part that is not thinned, or by the mask alone: no buffer is needed."""
    if term.threshold > 0:
        philox(term.key, first // 8, numbers)
        drawn, threshold = numbers[: total.size], np.uint16(term.threshold)
        if task_vectors:
            _accumulate(total, more, source, origin, drawn, threshold, term.factor, term.weight)
        else:
            _accumulate(total, more, source, None, drawn, threshold, term.factor, term.weight)
    elif task_vectors:
        _accumulate(total, more, source, origin, None, np.uint16(0), term.factor, term.weight)
    else:
        _accumulate(total, more, source, None, None, np.uint16(0), term.factor, term.weight)


@compiled
def _thinned(
    out: Array, source: Array, origin: Array, task_vectors: Any, numbers: Array, first: Any, offset: Any, term: Any
) -> None:
    """Write a part, before its weight, thinned in any way."""
    ranked = term.ranks != 0
    factor = np.float32(1) if ranked else term.factor
    if term.threshold > 0 or ranked:
        philox(term.key, first // 8, numbers)
    if term.threshold > 0 and not ranked:
        drawn, threshold = numbers[: out.size], np.uint16(term.threshold)
        if task_vectors:
            _part(out, source, origin, drawn, threshold, term.at_least, term.at_most, factor)
        else:
            _part(out, source, None, drawn, threshold, term.at_least, term.at_most, factor)
    elif task_vectors:
        _part(out, source, origin, None, np.uint16(0), term.at_least, term.at_most, factor)
    else:
        _part(out, source, None, None, np.uint16(0), term.at_least, term.at_most, factor)
    if ranked:
        thresholds = at(term.rank_thresholds, term.rank_count, np.int32)
        factors = at(term.rank_factors, term.rank_count, np.float32)
        if term.rank_bytes == 2:
            ranks16 = at(term.ranks + 2 * offset, out.size, np.uint16)
            _keep_ranked(out, numbers, ranks16, thresholds, factors, term.factor)
        else:
            ranks32 = at(term.ranks + 4 * offset, out.size, np.int32)
            _keep_ranked(out, numbers, ranks32, thresholds, factors, term.factor)


@compiled
def weighted_sum(plan: Any, terms: Array) -> tuple[Any, Any]:
    """Merge one span.

    Args:
        plan: a record of dtype SUM; `first` is a multiple of 8.
        terms: of dtype TERM, one an expert.

    Returns the span's fingerprint (0 for AS_UNROUNDED) and whether all of it is finite.
    """
    experts = terms.size
    base, sums = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    divisors, votes = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    parts = np.empty((experts, BLOCK), np.float32)
    numbers, bits16 = np.empty(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    fingerprint, finite = np.uint64(0), True
    needs_base = plan.task_vectors or plan.base_weight != np.float32(0)
    elects = plan.elect != NO_ELECTION
    for offset in range(0, plan.count, BLOCK):
        n = min(BLOCK, plan.count - offset)
        first = plan.first + offset
        origin, total, divisor, vote = base[:n], sums[:n], divisors[:n], votes[:n]
        drawn = numbers[: (n + 7) // 8 * 8]
        if needs_base:
            if plan.base_storage == BFLOAT16:
                _widen_all(at(plan.base + 2 * offset, n, np.uint16), origin)
            else:
                origin[:] = at(plan.base + 4 * offset, n, np.float32)
        for e in range(experts):
            term = terms[e]
            banded = term.at_least > np.float32(0) or term.at_most < np.float32(np.inf)
            part = parts[e][:n]
            source16 = at(term.address + 2 * offset, n, np.uint16)
            source32 = at(term.address + 4 * offset, n, np.float32)
            in_parts = elects or banded or term.ranks != 0 or term.threshold >= 65536
            if term.threshold >= 65536:
                part[:] = np.float32(0)
            elif in_parts:
                if term.storage == BFLOAT16:
                    _thinned(part, source16, origin, plan.task_vectors, drawn, first, offset, term)
                else:
                    _thinned(part, source32, origin, plan.task_vectors, drawn, first, offset, term)
            elif term.storage == BFLOAT16:
                _plain_or_drawn(total, e > 0, source16, origin, plan.task_vectors, drawn, first, term)
            else:
                _plain_or_drawn(total, e > 0, source32, origin, plan.task_vectors, drawn, first, term)
            if elects:
                _add_product(vote, e > 0, part, term.weight if plan.elect == WEIGHTED else np.float32(1))
            elif in_parts:
                _add_product(total, e > 0, part, term.weight)
        if elects:
            total[:] = np.float32(0)
            divisor[:] = np.float32(0)
            for e in range(experts):
                _add_agreeing(total, divisor, vote, parts[e][:n], terms[e].weight, plan.elect == WEIGHTED)
            if plan.divide_by_agreeing:
                _divide_each(total, divisor)
        if plan.out_storage == AS_FLOAT32 or plan.out_storage == AS_UNROUNDED:
            out32 = at(plan.out + 4 * offset, n, np.float32)
            if plan.base_weight != np.float32(0):
                finite &= _finish32(total, plan.divisor, plan.factor, origin, plan.base_weight, out32)
            else:
                finite &= _finish32(total, plan.divisor, plan.factor, None, plan.base_weight, out32)
            if plan.out_storage == AS_FLOAT32:
                fingerprint += hash_bits(out32.view(np.uint32), plan.name_key, first)
            continue
        out16 = at(plan.out + 2 * offset, n, np.uint16) if plan.out_storage == AS_BFLOAT16 else bits16[:n]
        if plan.base_weight != np.float32(0):
            finite &= _finish16(total, plan.divisor, plan.factor, origin, plan.base_weight, out16)
        else:
            finite &= _finish16(total, plan.divisor, plan.factor, None, plan.base_weight, out16)
        fingerprint += hash_bits(out16, plan.name_key, first)
        if plan.out_storage == AS_WIDENED:
            _widen_all(out16, at(plan.out + 4 * offset, n, np.float32))
    return fingerprint, finite
