"""The batches of a step, where no sample changes another, and packing: several short samples in one row.

Positions start from 0 in each sample, from which transformers makes a causal mask of blocks
(`masking_utils.find_packed_sequence_indices`), and `check_packing` holds the model to it. That mask is dense:
attention is computed over the whole row, and counted so. Hence a row is never wider than the longest sample of
the step: packing takes no more attention than padding to the longest, and fewer positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from stillmark.backends.rotary import lasting_positions, steady_positions
from stillmark.distill.on_policy import evaluating
from stillmark.distill.text import MicroBatch, Row, micro_batches, padded, row_length
from stillmark.errors import UserError

DENSE_ATTENTION = ("eager", "sdpa")


@dataclass(frozen=True)
class SampleBatches:
    """Cuts rows into batches in which all of `models` (the student and its live teacher) read each sample as if alone.

    Rotary frequencies may depend on the longest sample of a batch (`backends/rotary.py`).
    """

    models: Sequence[Any]
    pad_id: int
    max_positions: int
    is_packed: bool

    def __post_init__(self) -> None:
        if self.is_packed:
            for model in self.models:
                check_packing(model)

    @cached_property
    def _lasting(self) -> list[tuple[str, int]]:
        """The models with a limit to what may be read, by their class."""
        limits = [(type(model).__name__, lasting_positions(model)) for model in self.models]
        return [(name, limit) for name, limit in limits if limit is not None]

    @cached_property
    def _steady(self) -> list[int]:
        """The limits beyond which a sample is a batch by itself."""
        return [limit for limit in map(steady_positions, self.models) if limit is not None]

    def cut(self, rows: Sequence[Row]) -> list[MicroBatch]:
        """Raises UserError for a row that dynamic frequencies would read by what was read before."""
        longest = max(map(row_length, rows), default=0)
        for name, limit in self._lasting:
            if longest > limit:
                raise UserError(
                    f"a sample has {longest} positions, but the dynamic rotary frequencies of {name} "
                    f"depend on earlier samples beyond {limit}",
                    hint=f"shorten the samples to {limit} tokens (`context_tokens`), or raise the model's "
                    "`max_position_embeddings`",
                )
        steady = min(self._steady, default=longest)
        together = [row for row in rows if row_length(row) <= steady]
        apart = [padded([[row]], self.pad_id) for row in rows if row_length(row) > steady]
        batches = packed_batches if self.is_packed else micro_batches
        return batches(together, self.pad_id, max_positions=self.max_positions) + apart


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
    with evaluating(model):  # dropout would be another in each
        try:
            packed = model.base_model(
                input_ids=ids, position_ids=positions, use_cache=False
            ).last_hidden_state
        except TypeError as error:
            raise UserError(f"packing: {type(model).__name__} takes no position ids",
                            hint="leave `packing` out") from error  # fmt: skip
        alone = model.base_model(input_ids=ids[:, 7:], use_cache=False).last_hidden_state
    difference = float((packed[:, 7:] - alone).norm() / alone.norm())
    if not difference < 1e-3:
        raise UserError(
            f"packing: {type(model).__name__} lets samples in one row change one another ({difference:.1%})",
            hint="leave `packing` out",
        )
