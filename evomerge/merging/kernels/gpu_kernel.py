"""The weighted sum of task vectors as one Triton kernel: every tensor is read once and written once.

A program merges a run of tiles of one tensor; a table in the device's memory says which, and where everything lies. A
thread takes 8 neighbouring elements: 16 bytes of bfloat16, one Philox block of mask numbers, two words of the
fingerprint. So nothing is exchanged between threads before the end, and nothing but the result is written. All
arithmetic is float32, every product and sum rounded separately (launch with `enable_fp_fusion=False`), step by step
what `cpu.py` does, with the same bits. This file knows nothing about methods, recipes or torch.

What limits it: for two bfloat16 experts with a mask, an element moves 8 bytes and takes 44 instructions (compiled for
compute capability 9.0: 351 for 8 elements, 60 registers, no spills, no shared memory in the loop); without a mask 26,
of which the fingerprint is about 7; each expert's mask is about 9, an election with its division 30. By the data sheet
an H200 moves 8 bytes in the time in which it issues about 50 instructions: memory and arithmetic should take about as
long as each other there, and overlap; on an H100, whose memory is slower, memory should be the limit.
"""

# Triton compiles a part of Python, in its own way: no annotations but constexpr, no unpacking, no `in`.
# mypy: ignore-errors
# ruff: noqa: RET505, RUF005, SIM108, SIM109

import triton
import triton.language as tl

# What is written: bfloat16, float16, float32, or float32 that holds the rounded bfloat16 or float16.
AS_BFLOAT16, AS_FLOAT16, AS_FLOAT32, AS_WIDENED_BFLOAT16, AS_WIDENED_FLOAT16 = range(5)
NO_ELECTION, WEIGHTED, UNWEIGHTED = range(3)

# The tables of a launch have a row a tensor: whole numbers (int64) and numbers (float32), first the tensor's fields,
# then for each expert those of its term. Addresses are those of a tensor's first element; first_program is the first
# that works on it; by_rank is where the term's mask by rank begins among all of them.
INTEGERS = ("out", "base", "count", "first", "name_key", "first_program")
TERM_INTEGERS = ("address", "key", "threshold", "ranks", "by_rank")
NUMBERS = ("factor",)
TERM_NUMBERS = ("at_least", "at_most", "factor", "weight")

_INTEGERS, _TERM_INTEGERS = tl.constexpr(len(INTEGERS)), tl.constexpr(len(TERM_INTEGERS))
_NUMBERS, _TERM_NUMBERS = tl.constexpr(len(NUMBERS)), tl.constexpr(len(TERM_NUMBERS))
_AS_BFLOAT16, _AS_FLOAT16, _AS_FLOAT32 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_AS_WIDENED_BFLOAT16 = tl.constexpr(3)
_NO_ELECTION, _WEIGHTED = tl.constexpr(0), tl.constexpr(1)

_M0, _M1 = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
_W0, _W1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)
# Weyl step and finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
_STEP = tl.constexpr(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = tl.constexpr(0xBF58476D1CE4E5B9), tl.constexpr(0x94D049BB133111EB)


@triton.jit
def _philox(k0, k1, blocks):
    """Return the four uint32 words of the Philox4x32-10 blocks with these numbers (uint64)."""
    a, b = blocks.to(tl.uint32), (blocks >> 32).to(tl.uint32)
    c, d = tl.zeros_like(a), tl.zeros_like(a)
    for _ in tl.static_range(10):
        # 64 bits wide: one instruction gives both halves of a product
        left, right = a.to(tl.uint64) * _M0, c.to(tl.uint64) * _M1
        a = (right >> 32).to(tl.uint32) ^ b ^ k0
        c = (left >> 32).to(tl.uint32) ^ d ^ k1
        b, d = right.to(tl.uint32), left.to(tl.uint32)
        k0, k1 = k0 + _W0, k1 + _W1
    return a, b, c, d


@triton.jit
def draw(key, block, tile: tl.constexpr):
    """Return the mask numbers of `tile` elements from Philox block `block` on, uint32: in the upper 16 bits, with
    anything in the lower ones.

    A block's 8 numbers are the 8 elements of one thread: joining and reshaping moves nothing.
    """
    k0, k1 = key
    blocks = block.to(tl.uint64) + tl.arange(0, tile // 8).to(tl.uint64)
    a, b, c, d = _philox(k0, k1, blocks)
    words = tl.join(tl.join(a, c), tl.join(b, d))
    return tl.join(words << 16, words).reshape(tile)


@triton.jit
def _load(address, dtype: tl.constexpr, offset, local, inside, aligned: tl.constexpr):
    start = address.to(tl.pointer_type(dtype)) + offset
    if aligned:
        start = tl.multiple_of(start, 16)
    return tl.load(start + local, mask=inside, other=0)


@triton.jit
def _store(address, values, offset, local, inside, aligned: tl.constexpr):
    start = address.to(tl.pointer_type(values.dtype)) + offset
    if aligned:
        start = tl.multiple_of(start, 16)
    tl.store(start + local, values, mask=inside)


@triton.jit
def _widen(x):
    if x.dtype == tl.bfloat16:
        return (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float32)


@triton.jit
def _to_bfloat16(x, native: tl.constexpr):
    """Return the bits of float32 numbers rounded to bfloat16, ties to even, as uint16; NaN stays NaN."""
    if native:
        bits = x.to(tl.bfloat16).to(tl.uint16, bitcast=True)
    else:
        # the interpreter rounds ties away from zero
        wide = x.to(tl.uint32, bitcast=True)
        bits = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).to(tl.uint16)
        bits = tl.where(x == x, bits, tl.full(x.shape, 0x7FC0, tl.uint16))
    return bits


@triton.jit
def _words_of_16(bits, tile: tl.constexpr):
    even, odd = tl.split(bits.reshape(tile // 4, 2, 2))
    low, high = tl.split(even.to(tl.uint32) | (odd.to(tl.uint32) << 16))
    return low.to(tl.uint64) | (high.to(tl.uint64) << 32)


@triton.jit
def _words_of_32(bits, tile: tl.constexpr):
    low, high = tl.split(bits.reshape(tile // 2, 2))
    return low.to(tl.uint64) | (high.to(tl.uint64) << 32)


@triton.jit
def _mix(words, start):
    z = words ^ start
    z = z ^ (z >> 30)
    z = z * _MIX1
    z = z ^ (z >> 27)
    z = z * _MIX2
    return z ^ (z >> 31)


@triton.jit
def _infinite(words, kind: tl.constexpr):
    """Return words that have the sign bit of an element set where the element is infinite or NaN.

    One is added to the exponent: only one of all ones carries into the sign.
    """
    if kind == _AS_FLOAT32:
        return (words & 0x7F8000007F800000) + 0x0080000000800000
    elif kind == _AS_BFLOAT16 or kind == _AS_WIDENED_BFLOAT16:
        return (words & 0x7F807F807F807F80) + 0x0080008000800080
    else:
        return (words & 0x7C007C007C007C00) + 0x0400040004000400


@triton.jit(do_not_specialize=["tiles"])
def merge(
    integers,
    numbers,
    rank_masks,
    owners,
    results,
    tiles,
    base_type: tl.constexpr,
    types: tl.constexpr,
    rank_types: tl.constexpr,
    kind: tl.constexpr,
    task_vectors: tl.constexpr,
    banded: tl.constexpr,
    drawn: tl.constexpr,
    factored: tl.constexpr,
    elect: tl.constexpr,
    by_agreeing: tl.constexpr,
    scaled: tl.constexpr,
    aligned: tl.constexpr,
    native: tl.constexpr,
    tile: tl.constexpr,
):
    """Merge the tensors of two tables.

    A flag that is not set leaves out a step that would change no bit of any tensor in them.

    Args:
        integers, numbers: the tables.
        rank_masks: int64: the threshold of a rank in the lower 32 bits, the bits of its factor in the upper ones.
        owners: int32, one a program: the row of the tensor it works on.
        results: int64, two a row: the fingerprint, to which is added, and 1 if an element is infinite or NaN.
        tiles: how many tiles a program merges.
        base_type, types: how the base and each expert are stored.
        rank_types: how each expert's ranks are stored; None for no mask by rank.
        kind: what is written (AS_...).
        task_vectors, elect, by_agreeing: see `WeightedSum`.
        banded: some term has a band of magnitudes.
        drawn: some term has a threshold, 1 to 65535.
        factored: some term has a factor other than 1.
        scaled: some tensor's factor is other than 1.
        aligned: all addresses are multiples of 16 bytes and all counts of 8.
        native: the device rounds to bfloat16, ties to even.
        tile: elements at a time: 8 a thread.
    """
    experts: tl.constexpr = len(types)
    program = tl.program_id(0)
    row = tl.load(owners + program).to(tl.int64)
    integer = integers + row * (_INTEGERS + _TERM_INTEGERS * experts)
    number = numbers + row * (_NUMBERS + _TERM_NUMBERS * experts)
    out, base, count, first = tl.load(integer), tl.load(integer + 1), tl.load(integer + 2), tl.load(integer + 3)
    name_key, first_program = tl.load(integer + 4).to(tl.uint64), tl.load(integer + 5)
    factor = tl.load(number)
    addresses, keys, thresholds, ranks, by_rank = (), (), (), (), ()
    at_least, at_most, factors, weights = (), (), (), ()
    for e in tl.static_range(experts):
        integer_e, number_e = integer + _INTEGERS + _TERM_INTEGERS * e, number + _NUMBERS + _TERM_NUMBERS * e
        addresses = addresses + (tl.load(integer_e),)
        # two loads of 32 bits: of one of 64 the compiler would carry the upper halves through every round
        halves = (integer_e + 1).to(tl.pointer_type(tl.uint32))
        keys = keys + ((tl.load(halves), tl.load(halves + 1)),)
        thresholds = thresholds + (tl.load(integer_e + 2).to(tl.uint32) << 16,)
        ranks, by_rank = ranks + (tl.load(integer_e + 3),), by_rank + (rank_masks + tl.load(integer_e + 4),)
        at_least, at_most = at_least + (tl.load(number_e),), at_most + (tl.load(number_e + 1),)
        factors, weights = factors + (tl.load(number_e + 2),), weights + (tl.load(number_e + 3),)

    per_word: tl.constexpr = 2 if kind == _AS_FLOAT32 else 4
    local, word = tl.arange(0, tile), tl.arange(0, tile // per_word)
    fingerprint = tl.zeros([tile // per_word], tl.uint64)
    infinite = tl.zeros([tile // per_word], tl.uint64)
    start = (program - first_program) * tiles * tile
    for offset in tl.range(start, tl.minimum(start + tiles.to(tl.int64) * tile, count), tile):
        rest = tl.minimum(count - offset, tile).to(tl.int32)
        inside = local < rest
        if aligned:
            inside = tl.max_constancy(inside, 8)
        if task_vectors:
            b = _widen(_load(base, base_type, offset, local, inside, aligned))
        loaded = ()
        for e in tl.static_range(experts):
            loaded = loaded + (_load(addresses[e], types[e], offset, local, inside, aligned),)
        parts = ()
        for e in tl.static_range(experts):
            x = _widen(loaded[e])
            if task_vectors:
                x = x - b
            part = x * factors[e] if factored else x
            if rank_types[e] is not None:
                rank = _load(ranks[e], rank_types[e], offset, local, inside, aligned).to(tl.int32)
                entry = tl.load(by_rank[e] + rank, mask=inside, other=0)
                kept = (draw(keys[e], (first + offset) >> 3, tile) >> 16).to(tl.int32) >= entry.to(tl.int32)
                product = x * (entry >> 32).to(tl.int32).to(tl.float32, bitcast=True)
                part = tl.where(kept, product * factors[e] if factored else product, 0.0)
            elif drawn:
                kept = draw(keys[e], (first + offset) >> 3, tile) >= thresholds[e]
                part = tl.where(kept, part, 0.0)
            if banded:
                part = tl.where((tl.abs(x) >= at_least[e]) & (tl.abs(x) <= at_most[e]), part, 0.0)
            parts = parts + (part,)
        if elect == _NO_ELECTION:
            total = parts[0] * weights[0]
            for e in tl.static_range(1, experts):
                total = total + parts[e] * weights[e]
        else:
            opinions = ()
            for e in tl.static_range(experts):
                if elect == _WEIGHTED:
                    opinions = opinions + (parts[e] * weights[e],)
                else:
                    opinions = opinions + (parts[e],)
            votes = opinions[0]
            for e in tl.static_range(1, experts):
                votes = votes + opinions[e]
            total, agreeing = tl.zeros([tile], tl.float32), tl.zeros([tile], tl.float32)
            for e in tl.static_range(experts):
                agrees = tl.where(votes >= 0.0, opinions[e], -opinions[e]) > 0.0
                total = total + tl.where(agrees, parts[e] * weights[e], 0.0)
                agreeing = agreeing + tl.where(agrees, weights[e], 0.0)
            if by_agreeing:
                total = tl.div_rn(total, tl.where(agreeing == 0.0, 1.0, agreeing))
        if scaled:
            total = total * factor
        if task_vectors:
            total = total + b

        if kind == _AS_FLOAT32:
            _store(out, total, offset, local, inside, aligned)
            bits = total.to(tl.uint32, bitcast=True)
        else:
            if kind == _AS_BFLOAT16 or kind == _AS_WIDENED_BFLOAT16:
                bits = _to_bfloat16(total, native)
                wide = (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
            else:
                rounded = total.to(tl.float16)
                bits = rounded.to(tl.uint16, bitcast=True)
                wide = rounded.to(tl.float32)
            if kind == _AS_BFLOAT16 or kind == _AS_FLOAT16:
                _store(out, bits, offset, local, inside, aligned)
            else:
                _store(out, wide, offset, local, inside, aligned)
        if not aligned:
            # the last word may be begun: it is filled up with zeros
            bits = tl.where(inside, bits, tl.zeros_like(bits))
        words = _words_of_32(bits, tile) if kind == _AS_FLOAT32 else _words_of_16(bits, tile)
        mixed = _mix(words, name_key + (((first + offset) // per_word) + word).to(tl.uint64) * _STEP)
        fingerprint += tl.where(word * per_word < rest, mixed, 0)
        infinite |= _infinite(words, kind)
    # relaxed: nothing else is told by these, so no store needs to be waited for
    tl.atomic_add(results + 2 * row, tl.sum(fingerprint.to(tl.int64, bitcast=True)), sem="relaxed")
    sign_bits: tl.constexpr = 0x8000000080000000 if kind == _AS_FLOAT32 else 0x8000800080008000
    found = tl.max(((infinite & sign_bits) != 0).to(tl.int32))
    if found != 0:
        tl.atomic_max(results + 2 * row + 1, found.to(tl.int64), sem="relaxed")
