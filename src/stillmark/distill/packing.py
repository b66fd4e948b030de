"""Packing: several short samples in one row, none seeing another.

Positions start from 0 in each sample, from which transformers makes a causal mask of blocks
(`masking_utils.find_packed_sequence_indices`), and `check_packing` holds the model to it. That mask is dense:
attention is computed over the whole row, and counted so. Hence a row is never wider than the longest sample of
the step: packing takes no more attention than padding to the longest, and fewer positions.
"""

from collections.abc import Sequence
from typing import Any

import torch

from stillmark.distill.text import MicroBatch, Row, padded, row_length
from stillmark.errors import UserError

DENSE_ATTENTION = ("eager", "sdpa")


def packed_batches(rows: Sequence[Row], pad_id: int, max_positions: int) -> list[MicroBatch]:
    """Longest first, each into the first row with room (first-fit decreasing); then as many rows as fit a batch."""
    bins: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=row_length, reverse=True):
        length = row_length(row)
        place = next((index for index, free in enumerate(room) if free >= length), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(row_length(bins[0][0]) if bins[0] else length)
        bins[place].append(row)
        room[place] -= length
    rows_at_once = max(1, max_positions // row_length(bins[0][0])) if bins else 1
    return [
        padded(bins[start : start + rows_at_once], pad_id, is_packed=True)
        for start in range(0, len(bins), rows_at_once)
    ]


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Raises UserError for a model in which a sample's hidden states change with what it shares a row with.

    Not every architecture keeps packed samples apart (recurrent ones, or positions that it works out itself).
    Attention kernels that skip masked blocks are refused: the FLOPs that they run are not those counted.
    """
    kernel = model.config._attn_implementation
    if kernel not in DENSE_ATTENTION:
        raise UserError(f"packing: attention by `{kernel}` is not counted sample by sample",
                        hint="load the model with attn_implementation `sdpa`, or leave `packing` out")  # fmt: skip
    device = next(model.parameters()).device
    ids = torch.arange(12, device=device).view(1, 12) % min(7, model.config.vocab_size)
    positions = torch.cat([torch.arange(7), torch.arange(5)]).view(1, 12).to(device)
    try:
        packed = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, 7:]
    except TypeError as error:
        raise UserError(f"packing: {type(model).__name__} takes no position ids",
                        hint="leave `packing` out") from error  # fmt: skip
    alone = model.model(input_ids=ids[:, 7:], use_cache=False).last_hidden_state
    difference = float((packed - alone).norm() / alone.norm())
    if not difference < 1e-3:
        raise UserError(
            f"packing: {type(model).__name__} lets samples in one row change one another ({difference:.1%})",
            hint="leave `packing` out",
        )
