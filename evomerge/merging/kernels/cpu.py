"""The weighted sum of task vectors on the CPU: span by span, every step in a loop of its own over a block in the cache.

A block of 4,096 elements is read, thinned, weighted, summed, rounded, checked and fingerprinted before the next one is
touched, so that memory is read once and written once. Loops are separate and small because then the compiler makes
vector code of each. All arithmetic is float32, every product and sum rounded separately. This file knows nothing about
methods, recipes or files: addresses and numbers come in.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.compiled import as_bits, at, compiled, widen

BLOCK = 2048

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
# Of four bfloat16 numbers in a word: the exponents, the lowest bit of each exponent, the signs.
_EXPONENTS, _LOWEST = np.uint64(0x7F80_7F80_7F80_7F80), np.uint64(0x0080_0080_0080_0080)
_SIGNS = np.uint64(0x8000_8000_8000_8000)
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
        # the mask's numbers, where they are remembered; else they are drawn with the key
        ("numbers", np.int64),
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
        ("elect", np.int64),
        ("divide_by_agreeing", np.bool_),
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
def hash_finite(words: Array, key: Any, first: Any) -> tuple[Any, Any]:
    """Return the same for words of four bfloat16 numbers, and whether all of these are finite.

    Added to an exponent of all ones, the lowest bit of the exponent carries into the place of the sign.
    """
    total, found = np.uint64(0), np.uint64(0)
    start = np.uint64(key) + np.uint64(first) * _STEP
    for i in range(words.size):
        found |= (words[i] & _EXPONENTS) + _LOWEST
        z = words[i] ^ (start + np.uint64(i) * _STEP)
        z ^= z >> _S30
        z *= _MIX1
        z ^= z >> _S27
        z *= _MIX2
        z ^= z >> _S31
        total += z
    return total, (found & _SIGNS) == np.uint64(0)


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
        total += hash_words(_last_word(bits, whole * per_word), key, word + whole)
    return total


@compiled
def hash_bfloat16(bits: Array, key: Any, first: Any) -> tuple[Any, Any]:
    """Return the same for bfloat16 numbers (as uint16), and whether all are finite."""
    whole = bits.size // 4
    total, finite = hash_finite(bits[: whole * 4].view(np.uint64), key, first // 4)
    if whole * 4 < bits.size:
        more, also = hash_finite(_last_word(bits, whole * 4), key, first // 4 + whole)
        total, finite = total + more, finite and also
    return total, finite


@compiled
def _last_word(bits: Array, start: Any) -> Any:
    filled = np.zeros(8 // bits.itemsize, bits.dtype)
    filled[: bits.size - start] = bits[start:]
    return filled.view(np.uint64)


@compiled
def round_bfloat16(values: Array, out: Array) -> None:
    """Round finite float32 numbers to bfloat16 (as uint16), ties to even; some NaN would come out as a zero."""
    for i in range(values.size):
        v = as_bits(values[i])
        out[i] = np.uint16(np.uint32(v + _HALF + ((v >> _16) & _1)) >> _16)


@compiled
def all_finite(values: Array) -> Any:
    """Say whether float32 numbers are all finite."""
    largest = np.uint32(0)
    for i in range(values.size):
        largest = max(largest, np.uint32(as_bits(values[i]) & _EXPONENT))
    return largest != _EXPONENT


@compiled
def widen_all(source: Array, out: Array) -> None:
    """Write numbers in float32; bfloat16 comes as uint16."""
    for i in range(source.size):
        out[i] = widen(source[i])


@compiled
def subtract(x: Array, y: Array, out: Array) -> None:
    """Write x - y in float32; bfloat16 comes as uint16."""
    for i in range(out.size):
        out[i] = widen(x[i]) - widen(y[i])


# ---- the common case: bfloat16 experts, thinned by the mask at most; only the running total is stored ----------------


@compiled
def _accumulate(total: Array, more: Any, source: Array, origin: Any, numbers: Any, term: Any) -> None:
    """Add an expert's part to the total, or begin it (-0 + x is x for every x, 0 + x is not)."""
    threshold, factor, weight = np.uint16(term.threshold), term.factor, term.weight
    for i in range(total.size):
        x = widen(source[i])
        if origin is not None:
            x = x - origin[i]
        x = x * factor
        if numbers is not None:
            x = x if numbers[i] >= threshold else np.float32(0)
        total[i] = (total[i] if more else np.float32(-0.0)) + x * weight


@compiled
def _conclude(
    total: Array, more: Any, source: Array, origin: Any, numbers: Any, term: Any, scale: Any, out: Array
) -> None:
    """Add the last expert's part, scale, add the base and round to bfloat16.

    A NaN stays one: it comes from bfloat16 numbers or from arithmetic, and so its lower half is 0.
    """
    threshold, factor, weight = np.uint16(term.threshold), term.factor, term.weight
    for i in range(total.size):
        x = widen(source[i])
        if origin is not None:
            x = x - origin[i]
        x = x * factor
        if numbers is not None:
            x = x if numbers[i] >= threshold else np.float32(0)
        x = ((total[i] if more else np.float32(-0.0)) + x * weight) * scale
        if origin is not None:
            x = x + origin[i]
        v = as_bits(x)
        out[i] = np.uint16(np.uint32(v + _HALF + ((v >> _16) & _1)) >> _16)


@compiled
def _streamed(plan: Any, terms: Array, offset: Any, origin: Array, total: Array, numbers: Array, out: Array) -> None:
    """Merge a block in the common case, into bfloat16."""
    n = out.size
    for e in range(terms.size):
        term = terms[e]
        source = at(term.address + 2 * offset, n, np.uint16)
        last, more = e == terms.size - 1, e > 0
        drawn = numbers[:n]
        if term.numbers != 0:
            drawn = at(term.numbers + 2 * offset, n, np.uint16)
        elif term.threshold > 0:
            philox(term.key, (plan.first + offset) // 8, numbers)
        if not plan.task_vectors:
            if last:
                _conclude(total, more, source, None, None, term, plan.factor, out)
            else:
                _accumulate(total, more, source, None, None, term)
        elif term.threshold > 0:
            if last:
                _conclude(total, more, source, origin, drawn, term, plan.factor, out)
            else:
                _accumulate(total, more, source, origin, drawn, term)
        elif last:
            _conclude(total, more, source, origin, None, term, plan.factor, out)
        else:
            _accumulate(total, more, source, origin, None, term)


# ---- every other case: each expert's part is written out, then summed or elected -------------------------------------


@compiled
def _part(out: Array, source: Array, origin: Array, numbers: Array, threshold: Any, term: Any, factor: Any) -> None:
    """Write an expert's part before its weight; `origin` is 0 and numbers do not matter where they have no part."""
    low, high = term.at_least, term.at_most
    for i in range(out.size):
        x = widen(source[i]) - origin[i]
        kept = abs(x) >= low and abs(x) <= high and numbers[i] >= threshold
        out[i] = x * factor if kept else np.float32(0)


@compiled
def _keep_ranked(x: Array, numbers: Array, ranks: Array, term: Any) -> None:
    """Thin a part out by each element's rank."""
    thresholds = at(term.rank_thresholds, term.rank_count, np.int32)
    factors = at(term.rank_factors, term.rank_count, np.float32)
    factor = term.factor
    for i in range(x.size):
        rank = np.uintp(ranks[i])
        # taken before it is known whether it is needed: a mask cannot be foretold, and so no branch should hang on it
        value = (x[i] * factors[rank]) * factor
        kept = np.int32(numbers[i]) >= thresholds[rank]
        x[i] = value if kept else np.float32(0)


@compiled
def _thinned(out: Array, term: Any, offset: Any, first: Any, origin: Array, numbers: Array) -> None:
    """Write an expert's part before its weight."""
    n = out.size
    if term.threshold >= 65536:
        out[:] = np.float32(0)
        return
    ranked = term.ranks != 0
    drawn = numbers[:n]
    if term.numbers != 0:
        drawn = at(term.numbers + 2 * offset, n, np.uint16)
    elif term.threshold > 0 or ranked:
        philox(term.key, first // 8, numbers)
    threshold = np.uint16(0) if ranked else np.uint16(term.threshold)
    factor = np.float32(1) if ranked else term.factor
    if term.storage == BFLOAT16:
        _part(out, at(term.address + 2 * offset, n, np.uint16), origin, drawn, threshold, term, factor)
    else:
        _part(out, at(term.address + 4 * offset, n, np.float32), origin, drawn, threshold, term, factor)
    if ranked:
        if term.rank_bytes == 2:
            _keep_ranked(out, drawn, at(term.ranks + 2 * offset, n, np.uint16), term)
        else:
            _keep_ranked(out, drawn, at(term.ranks + 4 * offset, n, np.int32), term)


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
def _scale_and_add(total: Array, scale: Any, origin: Array, sign: Any) -> None:
    for i in range(total.size):
        total[i] = total[i] * scale + origin[i] * sign


@compiled
def _elected(plan: Any, terms: Array, parts: Array, votes: Array, divisor: Array, total: Array) -> None:
    """Sum the parts that agree with the elected signs."""
    weighted = plan.elect == WEIGHTED
    n = total.size
    for e in range(terms.size):
        _add_product(votes, e > 0, parts[e, :n], terms[e].weight if weighted else np.float32(1))
    total[:] = np.float32(0)
    divisor[:] = np.float32(0)
    for e in range(terms.size):
        _add_agreeing(total, divisor, votes, parts[e, :n], terms[e].weight, weighted)
    if plan.divide_by_agreeing:
        _divide_each(total, divisor)


@compiled
def weighted_sum(plan: Any, terms: Array) -> tuple[Any, Any]:
    """Merge one span.

    Args:
        plan: a record of dtype SUM; `first` is a multiple of 8.
        terms: of dtype TERM, one an expert.

    Returns the span's fingerprint (0 for AS_UNROUNDED) and whether all of it is finite.
    """
    experts = terms.size
    # what is subtracted first and added last; where the base has no part, 0 is subtracted and -0 added
    base, sums = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    sign = np.float32(1 if plan.task_vectors else -1)
    parts = np.empty((experts, BLOCK), np.float32)
    votes, divisors = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    numbers, bits16 = np.zeros(BLOCK, np.uint16), np.empty(BLOCK, np.uint16)
    fingerprint, finite = np.uint64(0), True

    common = plan.elect == NO_ELECTION and (plan.out_storage == AS_BFLOAT16 or plan.out_storage == AS_WIDENED)
    common = common and (plan.base_storage == BFLOAT16 or not plan.task_vectors)
    for e in range(experts):
        term = terms[e]
        thinned = term.at_least > np.float32(0) or term.at_most < np.float32(np.inf) or term.ranks != 0
        masked = term.threshold > 0 and (term.threshold >= 65536 or not plan.task_vectors)
        common = common and term.storage == BFLOAT16 and not thinned and not masked

    for offset in range(0, plan.count, BLOCK):
        n = min(BLOCK, plan.count - offset)
        first = plan.first + offset
        origin, total, drawn = base[:n], sums[:n], numbers[: (n + 7) // 8 * 8]
        out16 = bits16[:n]
        if plan.out_storage == AS_BFLOAT16:
            out16 = at(plan.out + 2 * offset, n, np.uint16)
        if plan.task_vectors:
            if plan.base_storage == BFLOAT16:
                widen_all(at(plan.base + 2 * offset, n, np.uint16), origin)
            else:
                widen_all(at(plan.base + 4 * offset, n, np.float32), origin)
        if common:
            _streamed(plan, terms, offset, origin, total, drawn, out16)
        else:
            for e in range(experts):
                _thinned(parts[e, :n], terms[e], offset, first, origin, drawn)
                if plan.elect == NO_ELECTION:
                    _add_product(total, e > 0, parts[e, :n], terms[e].weight)
            if plan.elect != NO_ELECTION:
                _elected(plan, terms, parts, votes[:n], divisors[:n], total)
            _scale_and_add(total, plan.factor, origin, sign)
            if plan.out_storage == AS_FLOAT32 or plan.out_storage == AS_UNROUNDED:
                out32 = at(plan.out + 4 * offset, n, np.float32)
                out32[:] = total
                if plan.out_storage == AS_FLOAT32:
                    finite &= all_finite(total)
                    fingerprint += hash_bits(out32.view(np.uint32), plan.name_key, first)
                continue
            finite &= all_finite(total)
            round_bfloat16(total, out16)
        value, rounded_finite = hash_bfloat16(out16, plan.name_key, first)
        fingerprint += value
        finite &= rounded_finite
        if plan.out_storage == AS_WIDENED:
            widen_all(out16, at(plan.out + 4 * offset, n, np.float32))
    return fingerprint, finite
