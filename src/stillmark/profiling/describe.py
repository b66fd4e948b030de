"""What is known of a model without loading it: from a GGUF header, or from a config.json and a number format."""

from pathlib import Path

from stillmark.compute.gguf_file import read_gguf
from stillmark.compute.shapes import read_config, shape_from_config
from stillmark.errors import UserError, did_you_mean
from stillmark.profiling.workload import ModelFacts

BYTES_PER_WEIGHT = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
CACHE_BYTES = 2.0  # llama.cpp's default, float16


def described(model: str, dtype: str = "float16") -> ModelFacts:
    """Facts for a prediction. `dtype` is how a directory's weights and cache would be held; GGUF says its own."""
    path = Path(model)
    if path.suffix == ".gguf":
        file = read_gguf(path)
        return ModelFacts(
            name=file.name,
            engine="llamacpp",
            file_bytes=path.stat().st_size,
            weight_bytes_per_token=file.weight_bytes_per_token,
            weight_format=file.weight_format,
            cache_bytes_per_value=CACHE_BYTES,
            config=file.config,
            vocab_size=file.vocab_size,
        )
    if dtype not in BYTES_PER_WEIGHT:
        raise UserError(
            f"unknown dtype `{dtype}` (dtypes: {', '.join(BYTES_PER_WEIGHT)})",
            hint=did_you_mean(dtype, BYTES_PER_WEIGHT),
        )
    config = path / "config.json" if path.is_dir() else path
    if not config.is_file():
        raise UserError(f"no model at {model}", hint="give a .gguf file or a directory with a config.json")
    content, size = read_config(config), BYTES_PER_WEIGHT[dtype]
    shape = shape_from_config(content)
    unread = 0 if shape.is_tied else shape.embedding_params  # of an untied table a step reads one row
    return ModelFacts(
        name=path.name,
        engine="transformers",
        file_bytes=int(shape.params * size),
        weight_bytes_per_token=(shape.params - unread) * size,
        weight_format=dtype,
        cache_bytes_per_value=size,
        config=content,
        vocab_size=shape.vocab_size,
        notes=(f"weights counted from config.json in {dtype}",),
    )
