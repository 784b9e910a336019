"""Attention in two parts: over a prefix that all rows share, read once for all of them, and over each row's own part.

Each part gives its output and the logarithm of its weights' sum, and from these the whole is joined exactly (up to
rounding), as in FlashAttention's split over keys (Dao et al. 2022, §3.1). Pure functions of tensors; this file knows
nothing about models or caches.

Shapes: B rows, H heads of queries, G heads of keys and values (H is a multiple of G), Q queries and K keys a row, D.
"""

import torch
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return attention's output (B, H, Q, D) and the log of its weights' sum (B, H, Q), in float32.

    Args:
        query: B x H x Q x D.
        key, value: B x G x K x D.
        scale: factor of the scores.
        causal: query i sees keys 0..i only (then Q = K).
        mask: added to the scores, broadcast to B x H x Q x K; not together with `causal`.
    """
    groups, shape = key.shape[1], query.shape
    if causal:
        if shape[1] != groups:  # each head of keys serves several heads of queries
            key, value = (part.repeat_interleave(shape[1] // groups, dim=1) for part in (key, value))
    elif shape[1] != groups:
        # Without an order among the queries, those that share a head of keys are just more queries of that head.
        query = query.reshape(shape[0], groups, -1, shape[3])
        if mask is not None and mask.shape[2] != 1:
            raise ValueError("a mask over several queries needs as many heads of keys as of queries")
    output, weight = _attend(query, key, value, scale, causal, mask)
    return output.reshape(shape), weight.reshape(shape[:3])


def attend_shared(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    """Return output and log weight, as `attend` does, over keys and values (1 x G x K x D) that all rows share."""
    rows, heads, queries, size = query.shape
    groups = key.shape[1]
    # All rows' queries of a head of keys, as queries of one row: the keys are read once.
    joined = query.reshape(rows, groups, -1, size).transpose(0, 1).reshape(1, groups, -1, size)
    output, weight = _attend(joined, key, value, scale, False, None)
    output = output.reshape(groups, rows, heads // groups, queries, size).transpose(0, 1)
    weight = weight.reshape(groups, rows, heads // groups, queries).transpose(0, 1)
    return output.reshape(query.shape), weight.reshape(rows, heads, queries)


def join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Return the output (B x H x Q x D) of attention over the keys of two parts, from each one's output and weight."""
    share = torch.sigmoid(second[1] - first[1]).unsqueeze(-1).to(first[0].dtype)
    return torch.lerp(first[0], second[0], share)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    if query.device.type == "cpu":
        output, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=None if mask is None else mask.to(query.dtype), scale=scale
        )
        return output, weight
    if query.shape[2] > 32:  # many queries: their scores would not fit
        bias = None if mask is None else mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
        output, weight, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, True, 0.0, causal, scale=scale
        )
        return output, weight[..., : query.shape[2]]
    scores = torch.matmul(query, key.transpose(-1, -2)).float() * scale
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    if mask is not None:
        scores = scores + mask
    weight = scores.logsumexp(dim=-1)
    return torch.matmul((scores - weight.unsqueeze(-1)).exp().to(value.dtype), value), weight
