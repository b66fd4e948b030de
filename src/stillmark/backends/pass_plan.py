"""Attention of one pass over prompts: each token sees the path's tokens, and those before it in its own group."""

import numpy as np
import torch

from stillmark.backends.attention import (
    MASKED,
    Partial,
    attend_block,
    attend_shared,
    causal_block,
    merge,
    window_mask,
)
from stillmark.backends.kv_cache import LayerTensors, PathCache
from stillmark.backends.packed import AttentionCall
from stillmark.backends.prefix import Pass

# Shape suffixes as in attention.py; P packed groups, M the longest group's tokens.
MIN_TOKENS_ALONE = 32  # a group, from which a CPU attends to each group by itself sooner than to padded ones


class PassPlan:
    """Attention of a `Pass`: each token sees the path buffer's first `depth` tokens, and those above it in
    its own group. Groups of few tokens are padded to one length, for attention alone; on a GPU all are.
    """

    def __init__(self, step: Pass, path: PathCache, device: torch.device, *, keep_states: bool) -> None:
        self._step = step
        self._path = path
        self._device = device
        self.states: dict[int, LayerTensors] | None = {} if keep_states else None  # of the pass's own tokens
        self._num_groups = len(step.group_sizes)
        self._longest = max(step.group_sizes)
        self._is_chain = len(step.spans) == self._num_groups
        self._masks: dict[int | None, torch.Tensor | None] = {}
        sizes = np.array(step.group_sizes)
        self._starts = np.cumsum([0, *sizes[:-1]])
        is_inside = np.arange(self._longest)[None] < sizes[:, None]
        starts = self._starts[:, None]
        # Where each group's tokens lie in the row, with its first one for padding
        self._pad_PM = np.where(is_inside, starts + np.arange(self._longest)[None], starts)
        self._is_padded = self._num_groups > 1 and (
            device.type != "cpu" or len(step.tokens) < MIN_TOKENS_ALONE * self._num_groups
        )
        if self._is_padded:
            self._pad = torch.from_numpy(self._pad_PM.ravel()).to(device)
            self._unpad = torch.from_numpy(np.flatnonzero(is_inside.ravel())).to(device)
        own_pairs = self._num_groups * self._longest**2 if self._is_padded else int((sizes**2).sum())
        self.num_pairs = own_pairs + len(step.tokens) * step.depth

    def attend(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._step.is_spine:
            self._path.write(call.layer, self._step.depth, key_KTD, value_KTD)
        if self.states is not None:
            self.states[call.layer] = (key_KTD, value_KTD)
        output, lse = self._attend_own(call, query_HTD, key_KTD, value_KTD)
        if self._step.depth == 0:
            return output, lse
        return merge(self._attend_path(call, query_HTD), (output, lse))

    def _attend_path(self, call: AttentionCall, query_HTD: torch.Tensor) -> Partial:
        keys, values = self._path.read(call.layer, 0, self._step.depth)
        mask = self._path_mask(call.window)
        return attend_shared(
            query_HTD, keys, values, scaling=call.scaling, mask_TS=mask, softcap=call.softcap
        )

    def _attend_own(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> Partial:
        states, mask = (query_HTD, key_KTD, value_KTD), self._own_mask(call.window)
        if self._is_padded:
            query, key, value = (self._padded(one) for one in states)
            return self._unpadded(self._attend_groups(call, query, key, value, mask))
        parts = []
        for group, (start, size) in enumerate(zip(self._starts, self._step.group_sizes, strict=True)):
            query, key, value = (one[None, :, start : start + size] for one in states)
            own_mask = None if mask is None else mask[group : group + 1, :size, :size]
            parts.append(self._attend_groups(call, query, key, value, own_mask))
        if len(parts) == 1:
            return parts[0][0][0], parts[0][1][0]
        # Along the tokens as they lie in memory, which is faster
        output_THD = torch.cat([output[0].transpose(0, 1) for output, _ in parts])
        return output_THD.transpose(0, 1), torch.cat([lse[0] for _, lse in parts], 1)

    def _attend_groups(
        self,
        call: AttentionCall,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> Partial:
        """Attention within groups of one length: queries [P, H, M, D], mask [P, M, M]."""
        if mask is None and call.softcap is None:
            result = causal_block(query, key, value, scaling=call.scaling)
            if result is not None:
                return result
        num_heads, num_kv_heads, longest = query.shape[1], key.shape[1], query.shape[2]
        if mask is None:
            mask = self._causal_mask(longest)
        repeats = num_heads // num_kv_heads
        folded = query.reshape(query.shape[0], num_kv_heads, -1, query.shape[-1])
        output, lse = attend_block(
            folded,
            key,
            value,
            scaling=call.scaling,
            mask_NKQS=mask.repeat(1, repeats, 1)[:, None],
            softcap=call.softcap,
        )
        shape = (query.shape[0], num_heads, longest)
        return output.reshape(*shape, -1), lse.reshape(shape)

    def _padded(self, states_HTD: torch.Tensor) -> torch.Tensor:
        padded = states_HTD.index_select(1, self._pad)
        return padded.unflatten(1, (self._num_groups, self._longest)).transpose(0, 1)

    def _unpadded(self, result: Partial) -> Partial:
        output, lse = result[0].transpose(0, 1), result[1].transpose(0, 1)
        return (
            output.flatten(1, 2).index_select(1, self._unpad),
            lse.flatten(1, 2).index_select(1, self._unpad),
        )

    def _own_mask(self, window: int | None) -> torch.Tensor | None:
        """Additive [P, M, M], or None where each group is one run of tokens and no window cuts it."""
        reach = max(self._step.positions) - min(self._step.positions)
        if window is not None and reach < window:
            window = None
        if window not in self._masks:
            mask = None if self._is_chain and window is None else self._tree_mask()
            if mask is not None and window is not None:
                padded = np.array(self._step.positions)[self._pad_PM]
                is_far = padded[:, :, None] - padded[:, None, :] >= window
                mask = mask.masked_fill(torch.from_numpy(is_far).to(self._device), MASKED)
            self._masks[window] = mask
        return self._masks[window]

    def _tree_mask(self) -> torch.Tensor:
        """Each token sees its own node's tokens up to itself, and its ancestors' in the group."""
        is_seen = np.zeros((self._num_groups, self._longest, self._longest), dtype=bool)
        index_of = self._step.indices_by_node()
        group = -1
        for span in self._step.spans:
            if group + 1 < self._num_groups and span.offset == self._starts[group + 1]:
                group += 1
            base = self._starts[group]
            low, size = span.offset - base, span.last - span.first
            rows = slice(low, low + size)
            is_seen[group, rows, rows] = np.tri(size, dtype=bool)
            above = span.node.parent
            while above is not None and id(above) in index_of:
                first = index_of[id(above)] - base
                is_seen[group, rows, first : first + len(above.tokens)] = True
                above = above.parent
        for group, size in enumerate(self._step.group_sizes):
            is_seen[group, size:, 0] = True  # padding sees something, so that it stays finite
        return torch.where(torch.from_numpy(is_seen).to(self._device), 0.0, MASKED)

    def _causal_mask(self, size: int) -> torch.Tensor:
        is_seen = torch.ones(size, size, dtype=torch.bool, device=self._device).tril()
        return torch.where(is_seen, 0.0, MASKED)[None]

    def _path_mask(self, window: int | None) -> torch.Tensor | None:
        positions = torch.tensor(self._step.positions, device=self._device)
        return window_mask(positions, torch.arange(self._step.depth, device=self._device), window)
