"""Attention over several blocks of keys, computed apart and merged exactly.

softmax(q·[K1 K2])·[V1 V2] is the mean of the two blocks' outputs, weighted by their log-sum-exp (as in
FlashAttention, arXiv:2205.14135, and for shared prefixes Hydragen, arXiv:2402.05099). So keys that many rows
share are read once, as one large product, and are never copied per row.

Shape suffixes: N batch, K key-value heads, G query heads a key-value head, H = K·G heads, Q queries, S keys,
D head size, T tokens of a packed row.
"""

import math

import torch

from stillmark.backends.kernels import is_onednn_faster, onednn_linear

# A score that is masked. Finite, so that a block in which all is masked gets weight 0 and not NaN.
MASKED = -1e30
MIN_PRODUCT_SIDE = 64  # queries and keys from which a product a head is worth starting
MIN_QUERIES_A_HEAD = 64  # from which the fused kernel is as fast on each head alone
PRODUCT_QUERIES = 1024
MAX_SCORE_ELEMENTS = 1 << 25  # of one block of queries, where scores are held in memory (128 MiB in float32)

Partial = tuple[torch.Tensor, torch.Tensor]  # output [N, K, Q, D], and log-sum-exp of its scores [N, K, Q]


def attend_block(
    query_NKQD: torch.Tensor,
    key_NKSD: torch.Tensor,
    value_NKSD: torch.Tensor,
    *,
    scaling: float,
    mask_NKQS: torch.Tensor | None = None,
    softcap: float | None = None,
) -> Partial:
    """Attention to one block of keys. The mask is added to the scores; sizes of 1 are broadcast."""
    if softcap is None and suits_products(query_NKQD, key_NKSD, value_NKSD):
        return _attend_by_head(query_NKQD[0], key_NKSD[0], value_NKSD[0], scaling, mask_NKQS)
    is_fused = (
        has_cpu_kernels(query_NKQD)
        and softcap is None
        and query_NKQD.shape[-1] == value_NKSD.shape[-1]
        and query_NKQD.shape[2] > 8
    )
    if is_fused:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
            query_NKQD, key_NKSD, value_NKSD, 0.0, False, attn_mask=mask_NKQS, scale=scaling
        )
    num_queries = query_NKQD.shape[2]
    per_query = query_NKQD.shape[0] * query_NKQD.shape[1] * key_NKSD.shape[2]
    step = max(1, MAX_SCORE_ELEMENTS // max(1, per_query))
    parts = [
        _attend_in_memory(
            query_NKQD[:, :, start : start + step],
            key_NKSD,
            value_NKSD,
            scaling,
            mask_NKQS
            if mask_NKQS is None or mask_NKQS.shape[2] == 1
            else mask_NKQS[:, :, start : start + step],
            softcap,
        )
        for start in range(0, num_queries, step)
    ]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part[0] for part in parts], 2), torch.cat([part[1] for part in parts], 2)


def attend_shared(
    query_HTD: torch.Tensor,
    key_KSD: torch.Tensor,
    value_KSD: torch.Tensor,
    *,
    scaling: float,
    mask_TS: torch.Tensor | None = None,
    softcap: float | None = None,
) -> Partial:
    """Attention of all tokens to the same keys: output [H, T, D] and log-sum-exp [H, T]."""
    (num_heads, num_tokens, _), num_kv_heads = query_HTD.shape, len(key_KSD)
    in_groups = query_HTD.unflatten(0, (num_kv_heads, -1))
    if _suits_heads_alone(query_HTD, value_KSD) and softcap is None:  # queries and output stay where they lie
        key, value = (_for_heads(states, in_groups.shape[1]) for states in (key_KSD, value_KSD))
        mask = None if mask_TS is None else mask_TS[None, None]
        output, lse = attend_block(in_groups, key, value, mask_NKQS=mask, scaling=scaling)
    else:  # the query heads of one key-value head are simply more queries
        folded = in_groups.flatten(1, 2)[None]
        mask = None if mask_TS is None else mask_TS.repeat(in_groups.shape[1], 1)[None, None]
        output, lse = attend_block(
            folded, key_KSD[None], value_KSD[None], scaling=scaling, mask_NKQS=mask, softcap=softcap
        )
    return output.reshape(num_heads, num_tokens, -1), lse.reshape(num_heads, num_tokens)


def _suits_heads_alone(query_HTD: torch.Tensor, value_KSD: torch.Tensor) -> bool:
    return (
        has_cpu_kernels(query_HTD)
        and query_HTD.shape[1] >= MIN_QUERIES_A_HEAD
        and query_HTD.shape[2] == value_KSD.shape[2]
        and not is_onednn_faster()
    )


def _for_heads(states_KSD: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Keys or values [K, G, S, D], as each of the G query heads of a key-value head sees them: not a copy."""
    return states_KSD.unsqueeze(1).expand(-1, num_groups, -1, -1)


def has_cpu_kernels(states: torch.Tensor) -> bool:
    """Whether attention can use the CPU's own kernels, which give the log-sum-exp; else it is done in memory."""
    is_on_cpu: bool = states.device.type == "cpu"
    return is_on_cpu


def suits_products(query_NKQD: torch.Tensor, key_NKSD: torch.Tensor, value_NKSD: torch.Tensor) -> bool:
    """Whether two large products a head beat the fused kernel (which uses the slower library, kernels.py)."""
    return (
        query_NKQD.shape[0] == 1
        and has_cpu_kernels(query_NKQD)
        and query_NKQD.dtype == torch.float32
        and query_NKQD.shape[2] >= MIN_PRODUCT_SIDE
        and key_NKSD.shape[2] >= MIN_PRODUCT_SIDE
        and is_onednn_faster()
    )


def _attend_by_head(
    query_KQD: torch.Tensor,
    key_KSD: torch.Tensor,
    value_KSD: torch.Tensor,
    scaling: float,
    mask_NKQS: torch.Tensor | None,
) -> Partial:
    num_heads, num_queries, _ = query_KQD.shape
    output = query_KQD.new_empty(num_heads, num_queries, value_KSD.shape[2])
    lse = query_KQD.new_empty(num_heads, num_queries)
    query_KQD = query_KQD * scaling
    for head in range(num_heads):
        key_SD, value_DS = key_KSD[head].contiguous(), value_KSD[head].t().contiguous()
        for start in range(0, num_queries, PRODUCT_QUERIES):
            rows = slice(start, start + PRODUCT_QUERIES)
            scores_QS = onednn_linear(query_KQD[head, rows], key_SD, None)
            if mask_NKQS is not None:
                scores_QS += mask_NKQS[0, 0, rows]
            highest = scores_QS.amax(-1, keepdim=True)
            total = scores_QS.sub_(highest).exp_().sum(-1, keepdim=True)
            output[head, rows] = onednn_linear(scores_QS, value_DS, None).div_(total)
            lse[head, rows] = total.log_().add_(highest)[:, 0]
    return output[None], lse[None]


def _attend_in_memory(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None,
    softcap: float | None,
) -> Partial:
    scores = torch.matmul(query * scaling, key.transpose(-1, -2)).float()
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    highest = scores.amax(-1, keepdim=True)
    scores = scores.sub_(highest).exp_()
    total = scores.sum(-1, keepdim=True)
    output = torch.matmul(scores.to(value.dtype), value).div_(total)
    return output, (highest + total.log()).squeeze(-1)


def causal_block(
    query_NHTD: torch.Tensor, key_NKTD: torch.Tensor, value_NKTD: torch.Tensor, *, scaling: float
) -> Partial | None:
    """Attention of tokens to themselves and those before, or None where there is no fused kernel for it."""
    if not has_cpu_kernels(query_NHTD) or query_NHTD.shape[-1] != value_NKTD.shape[-1]:
        return None
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    num_groups = query_NHTD.shape[1] // key_NKTD.shape[1]
    if len(query_NHTD) == 1 and num_groups > 1:
        key, value = (_for_heads(states[0], num_groups) for states in (key_NKTD, value_NKTD))
        output, lse = kernel(
            query_NHTD[0].unflatten(0, (-1, num_groups)), key, value, 0.0, True, scale=scaling
        )
        return output.flatten(0, 1)[None], lse.flatten(0, 1)[None]
    if num_groups > 1:
        key_NKTD = key_NKTD.repeat_interleave(num_groups, 1)
        value_NKTD = value_NKTD.repeat_interleave(num_groups, 1)
    output, lse = kernel(query_NHTD, key_NKTD, value_NKTD, 0.0, True, scale=scaling)
    return output, lse


def merge(first: Partial, second: Partial) -> Partial:
    """The attention to both blocks, from that to each."""
    weight = torch.sigmoid(first[1] - second[1]).unsqueeze(-1).to(first[0].dtype)
    return torch.lerp(second[0], first[0], weight), torch.logaddexp(first[1], second[1])


def merge_outputs(first: Partial, second: Partial) -> torch.Tensor:
    """`merge` where the log-sum-exp is not needed any more."""
    weight = torch.sigmoid(first[1] - second[1]).unsqueeze(-1).to(first[0].dtype)
    return torch.lerp(second[0], first[0], weight)


def with_sinks(output_HTD: torch.Tensor, lse_HT: torch.Tensor, sinks_H: torch.Tensor) -> torch.Tensor:
    """A learned score a head that takes weight and gives no value (attention sinks, arXiv:2309.17453)."""
    weight = torch.sigmoid(lse_HT - sinks_H.float()[:, None]).unsqueeze(-1)
    return output_HTD * weight.to(output_HTD.dtype)


def window_mask(
    query_positions: torch.Tensor, key_positions: torch.Tensor, window: int | None
) -> torch.Tensor | None:
    """Additive [Q, S] mask of keys that lie `window` or more positions before a query; None where none
    does.
    """
    if window is None or key_positions.numel() == 0:
        return None
    if int(query_positions.max()) - int(key_positions.min()) < window:
        return None
    is_seen = query_positions[:, None] - key_positions[None, :] < window
    return torch.where(is_seen, 0.0, MASKED)


def default_scaling(head_size: int) -> float:
    return 1 / math.sqrt(head_size)
