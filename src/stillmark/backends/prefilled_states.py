"""Where a prompt's keys and values are just after its prefill, and how they get to the rows that continue it."""

from collections.abc import Sequence

import torch

from stillmark.backends.kv_cache import LayerTensors, PathCache, RowCache, Segment
from stillmark.backends.prefix import Node, Pass


class StateSource:
    """The keys and values of any node's path, just after the pass that computed its end."""

    def __init__(self, step: Pass, path: PathCache, states: dict[int, LayerTensors] | None) -> None:
        self._path = path
        self._states = states or {}
        self._in_path = step.depth + (len(step.tokens) if step.is_spine else 0)
        self._offset_of = {} if step.is_spine else step.indices_by_node()

    @property
    def token_bytes(self) -> int:
        """Bytes of one position's keys and values in all layers."""
        tensors = [tensor for pair in self._states.values() for tensor in pair]
        if not tensors:
            return self._path.token_bytes()
        return sum(tensor.shape[0] * tensor.shape[2] * tensor.element_size() for tensor in tensors)

    def segment(self, node: Node, start: int) -> Segment:
        """The states at positions [start, node.end), copied."""
        index = torch.tensor(self._indices(node, start, base=start))
        layers = {
            layer: (
                keys[:, index.to(keys.device)].contiguous(),
                values[:, index.to(keys.device)].contiguous(),
            )
            for layer, (keys, values) in self._layers(start).items()
        }
        return Segment(start=start, end=node.end, layers=layers)

    def copy_rows(
        self, cache: RowCache, first_slot: int, nodes: Sequence[Node], starts: Sequence[int]
    ) -> None:
        """Put the states at positions [start, node.end) into slots from `first_slot` on, one a node."""
        base = min(starts)
        rows = [self._indices(node, start, base) for node, start in zip(nodes, starts, strict=True)]
        longest = max(map(len, rows))
        index = torch.tensor([row + [0] * (longest - len(row)) for row in rows]).flatten()
        slots = slice(first_slot, first_slot + len(rows))
        for layer, (keys, values) in self._layers(base).items():
            cached_keys, cached_values = cache.layer(layer, keys, values)
            at = index.to(keys.device)
            for cached, states in ((cached_keys, keys), (cached_values, values)):
                chosen = states.index_select(1, at).unflatten(1, (len(rows), longest))
                cached[slots, :, :longest] = chosen.transpose(0, 1)

    def _indices(self, node: Node, start: int, base: int) -> list[int]:
        """Indices of positions [start, node.end) in what `_layers(base)` gives."""
        indices = list(range(start - base, min(node.end, self._in_path) - base))
        for above in node.path():
            if id(above) in self._offset_of:
                first = self._offset_of[id(above)] + max(self._in_path - base, 0)
                skipped = max(0, start - above.start)
                indices += range(first + skipped, first + len(above.tokens))
        return indices

    def _layers(self, base: int) -> dict[int, LayerTensors]:
        if not self._states:
            return {layer: self._path.read(layer, base, self._in_path) for layer in self._path.layers()}
        if base >= self._in_path:
            return self._states
        result = {}
        for layer, (keys, values) in self._states.items():
            path_keys, path_values = self._path.read(layer, base, self._in_path)
            result[layer] = (torch.cat([path_keys, keys], 1), torch.cat([path_values, values], 1))
        return result
