"""Keys and values that outlive a forward pass: of the path that is worked on, of segments, and of rows.

All are allocated once and written in place. Shape suffixes: L layers (a list), K key-value heads, S
positions, D head size, R row slots.
"""

from dataclasses import dataclass

import torch

CLEAN_AHEAD_TOKENS = 16

LayerTensors = tuple[torch.Tensor, torch.Tensor]  # keys and values of one layer


class PathCache:
    """Keys and values of the token path from the root to where the tree walk is: a stack, [K, S, D] a
    layer.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._layers: dict[int, LayerTensors] = {}

    def write(self, layer: int, start: int, key_KTD: torch.Tensor, value_KTD: torch.Tensor) -> None:
        if layer not in self._layers:
            self._layers[layer] = (self._new_like(key_KTD), self._new_like(value_KTD))
        keys, values = self._layers[layer]
        end = start + key_KTD.shape[1]
        keys[:, start:end] = key_KTD
        values[:, start:end] = value_KTD

    def read(self, layer: int, start: int, end: int) -> LayerTensors:
        keys, values = self._layers[layer]
        return keys[:, start:end], values[:, start:end]

    def layers(self) -> list[int]:
        return list(self._layers)

    def token_bytes(self) -> int:
        """Bytes of one position's keys and values in all layers, or 0 where nothing has been written yet."""
        tensors = [tensor for pair in self._layers.values() for tensor in pair]
        return sum(tensor.shape[0] * tensor.shape[2] * tensor.element_size() for tensor in tensors)

    def _new_like(self, states_KTD: torch.Tensor) -> torch.Tensor:
        return states_KTD.new_empty(states_KTD.shape[0], self.capacity, states_KTD.shape[2])


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """Keys and values at positions [start, end) that several rows share."""

    start: int
    end: int
    layers: dict[int, LayerTensors]  # [K, S, D]


class RowCache:
    """Keys and values that each active row has to itself, [R, K, S, D] a layer; rows 0..n-1 are active.

    Memory is touched only as far as rows reach: positions up to `_clean` hold states or zeros in every slot
    (what is masked must still be finite), and beyond that nothing has been written.
    """

    def __init__(self) -> None:
        self.layers: dict[int, LayerTensors] = {}
        self.num_slots = 0
        self.capacity = 0
        self._clean = 0

    def reserve(self, num_slots: int, capacity: int) -> None:
        """Make room for so many rows and positions, keeping what is there."""
        if num_slots <= self.num_slots and capacity <= self.capacity:
            return
        self.num_slots, self.capacity = max(num_slots, self.num_slots), max(capacity, self.capacity)
        for layer, (keys, values) in self.layers.items():
            self.layers[layer] = (self._grown(keys), self._grown(values))

    def prepare(self, used: int) -> None:
        """Let positions up to `used` be read in every slot."""
        if used <= self._clean:
            return
        new_clean = min(self.capacity, used + CLEAN_AHEAD_TOKENS)
        for keys, values in self.layers.values():
            keys[:, :, self._clean : new_clean] = 0
            values[:, :, self._clean : new_clean] = 0
        self._clean = new_clean

    def layer(self, layer: int, key_KTD: torch.Tensor, value_KTD: torch.Tensor) -> LayerTensors:
        """A layer's tensors; made at first use, in the shape of the states given."""
        if layer not in self.layers:
            self.layers[layer] = (self._new_like(key_KTD), self._new_like(value_KTD))
        return self.layers[layer]

    def move(self, sources: list[int], targets: list[int], used: int) -> None:
        """Copy rows to other slots."""
        for keys, values in self.layers.values():
            keys[targets, :, :used] = keys[sources, :, :used]
            values[targets, :, :used] = values[sources, :, :used]

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_empty(self.num_slots, old.shape[1], self.capacity, old.shape[3])
        new[: old.shape[0], :, : self._clean] = old[:, :, : self._clean]
        new[old.shape[0] :, :, : self._clean] = 0
        return new

    def _new_like(self, states_KTD: torch.Tensor) -> torch.Tensor:
        shape = (self.num_slots, states_KTD.shape[0], self.capacity, states_KTD.shape[2])
        new = states_KTD.new_empty(shape)
        new[:, :, : self._clean] = 0
        return new
