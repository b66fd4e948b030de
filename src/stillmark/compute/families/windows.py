"""Which layers read a sliding window, and how long it is."""

from collections.abc import Callable

from stillmark.compute.families.reader import COUNT_INSTEAD, ConfigReader
from stillmark.errors import UserError

WindowsReader = Callable[[ConfigReader], list[int | None]]


def no_windows(reader: ConfigReader) -> list[int | None]:
    """Every layer reads the whole context."""
    return [None] * reader.num_layers


def window_everywhere(reader: ConfigReader) -> list[int | None]:
    """Every layer reads `sliding_window` keys; null is the whole context (Mistral, arXiv:2310.06825)."""
    window = reader.get("sliding_window")
    return [None if window is None else reader.size("sliding_window")] * reader.num_layers


def window_by_layer_types(slides: Callable[[ConfigReader, int], bool]) -> WindowsReader:
    """As `layer_types` says; where the config has none, layer i slides if `slides(reader, i)`."""

    def read(reader: ConfigReader) -> list[int | None]:
        types = reader.get("layer_types") if reader.has("layer_types") else None
        if types is None:
            sliding = [slides(reader, layer) for layer in range(reader.num_layers)]
        else:
            check_layer_types(reader, types)
            sliding = [kind == "sliding_attention" for kind in types[: reader.num_layers]]
        if not any(sliding) or reader.get("sliding_window") is None:
            return no_windows(reader)
        window = reader.size("sliding_window")
        return [window if slide else None for slide in sliding]

    return read


def check_layer_types(reader: ConfigReader, types: list[str]) -> None:
    """Only full and sliding attention: linear attention, state spaces and others have other formulas."""
    unknown = sorted(set(types) - {"full_attention", "sliding_attention"})
    if unknown:
        raise UserError(
            f"no FLOPs formula was checked for model_type `{reader.model_type}` with layer types {unknown}",
            hint=COUNT_INSTEAD,
        )
    if len(types) < reader.num_layers:
        raise reader.wrong("layer_types", types, f"a list of {reader.num_layers} layers")


def every_nth_is_full(default_interval: int, key: str | None = None) -> Callable[[ConfigReader, int], bool]:
    """Layers slide, but each n-th reads the whole context (Gemma 2: 2, Gemma 3: 6, Cohere 2: 4)."""

    def slides(reader: ConfigReader, layer: int) -> bool:
        interval = reader.size_or(default_interval, key) if key else default_interval
        return (layer + 1) % interval != 0

    return slides


def from_max_window_layers(reader: ConfigReader, layer: int) -> bool:
    """Qwen: layers from `max_window_layers` on slide, if `use_sliding_window`."""
    return reader.flag("use_sliding_window") and layer >= int(reader.get("max_window_layers"))
