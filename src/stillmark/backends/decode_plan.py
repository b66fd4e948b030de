"""Attention of one decode step: each row's one new token sees the row's segments and its own slot."""

from collections.abc import Sequence

import torch

from stillmark.backends.attention import MASKED, Partial, attend_block, attend_shared, merge, window_mask
from stillmark.backends.kv_cache import RowCache, Segment
from stillmark.backends.packed import AttentionCall

# Shape suffixes as in attention.py; B rows, one token each.


class DecodePlan:
    """Row b's new token goes to position own_lengths[b] of slot b."""

    def __init__(
        self,
        cache: RowCache,
        *,
        own_starts: Sequence[int],
        own_lengths: Sequence[int],
        segments: Sequence[tuple[Segment, list[int]]],
        device: torch.device,
    ) -> None:
        self._cache = cache
        self._num_rows = len(own_lengths)
        self._used = max(own_lengths) + 1
        self._common_length = own_lengths[0] if len(set(own_lengths)) == 1 else None
        self._slots = torch.arange(self._num_rows, device=device)
        self._starts = torch.tensor(own_starts, device=device)
        self._lengths = torch.tensor(own_lengths, device=device)
        # None stands for all rows, in order
        self._segments = [
            (segment, None if len(rows) == self._num_rows else torch.tensor(rows, device=device))
            for segment, rows in segments
        ]
        self._own_masks: dict[int | None, torch.Tensor | None] = {}
        shared = sum(len(rows) * (segment.end - segment.start) for segment, rows in segments)
        self.num_pairs = self._num_rows * self._used + shared

    def attend(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._cache.layer(call.layer, key_KTD, value_KTD)
        where = self._lengths if self._common_length is None else self._common_length
        slots = self._slots if self._common_length is None else slice(0, self._num_rows)
        keys[slots, :, where] = key_KTD.transpose(0, 1)
        values[slots, :, where] = value_KTD.transpose(0, 1)
        num_kv_heads = key_KTD.shape[0]
        query_BKGD = query_HTD.transpose(0, 1).unflatten(1, (num_kv_heads, -1))
        result = attend_block(
            query_BKGD,
            keys[: self._num_rows, :, : self._used],
            values[: self._num_rows, :, : self._used],
            scaling=call.scaling,
            mask_NKQS=self._own_mask(call.window),
            softcap=call.softcap,
        )
        for segment, rows in self._segments:
            result = self._with_segment(call, query_HTD, segment, rows, result)
        return result[0].flatten(1, 2).transpose(0, 1), result[1].flatten(1, 2).transpose(0, 1)

    def _with_segment(
        self,
        call: AttentionCall,
        query_HTD: torch.Tensor,
        segment: Segment,
        rows: torch.Tensor | None,
        result: Partial,
    ) -> Partial:
        """Merge in the attention of some rows to a segment, as one product for all of them."""
        keys, values = segment.layers[call.layer]
        query = query_HTD if rows is None else query_HTD.index_select(1, rows)
        output, lse = attend_shared(
            query,
            keys,
            values,
            scaling=call.scaling,
            mask_TS=self._segment_mask(call.window, segment, rows),
            softcap=call.softcap,
        )
        in_groups = (len(keys), -1)
        ours = (
            output.unflatten(0, in_groups).permute(2, 0, 1, 3),
            lse.unflatten(0, in_groups).permute(2, 0, 1),
        )
        if rows is None:
            return merge(ours, result)
        merged = merge(ours, (result[0].index_select(0, rows), result[1].index_select(0, rows)))
        return result[0].index_copy(0, rows, merged[0]), result[1].index_copy(0, rows, merged[1])

    def _own_mask(self, window: int | None) -> torch.Tensor | None:
        """Additive [B, 1, 1, S], or None where all rows see all of what is there."""
        if window is not None and self._used <= window:
            window = None
        if window not in self._own_masks:
            mask = None
            if self._common_length is None or window is not None:
                position = torch.arange(self._used, device=self._lengths.device)
                is_seen = position[None] <= self._lengths[:, None]
                if window is not None:
                    is_seen &= self._lengths[:, None] - position[None] < window
                mask = torch.where(is_seen, 0.0, MASKED)[:, None, None]
            self._own_masks[window] = mask
        return self._own_masks[window]

    def _segment_mask(
        self, window: int | None, segment: Segment, rows: torch.Tensor | None
    ) -> torch.Tensor | None:
        if window is None:
            return None
        positions = self._starts + self._lengths
        keys = torch.arange(segment.start, segment.end, device=positions.device)
        return window_mask(positions if rows is None else positions[rows], keys, window)
