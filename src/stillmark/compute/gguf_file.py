"""What a GGUF file says of itself: its shape, its formats, and the bytes that a decode step reads.

Reads the header with the `gguf` package (extra `llamacpp`); the weights are not loaded.
"""

import importlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError

# llama.cpp's architecture name -> transformers' model_type, where the matrices are the same
MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "mistral": "mistral"}

CONFIG_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
}


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """Metadata and the size of each tensor."""

    path: Path
    metadata: dict[str, Any]
    tensor_bytes: dict[str, int]
    tensor_formats: dict[str, str]
    tensor_sizes: dict[str, int]
    """Weights in each tensor."""

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        return str(self.metadata.get("general.name") or self.path.stem)

    @property
    def vocab_size(self) -> int:
        return self.tensor_sizes["token_embd.weight"] // int(
            self.metadata[f"{self.architecture}.embedding_length"]
        )

    @property
    def weight_bytes_per_token(self) -> float:
        """Bytes of weights that one decode step reads: all, but of an untied embedding only one row.

        A mixture reads the experts that a token visits; all its expert tensors have `_exps` in their names.
        """
        total = 0.0
        for name, size in self.tensor_bytes.items():
            if name == "token_embd.weight" and "output.weight" in self.tensor_bytes:
                continue
            total += size * (self._visited_share if "_exps" in name else 1.0)
        return total

    @property
    def weight_format(self) -> str:
        """The format that holds most weights, such as Q4_1."""
        sizes: Counter[str] = Counter()
        for name, format_name in self.tensor_formats.items():
            if name not in ("token_embd.weight", "output.weight"):
                sizes[format_name] += self.tensor_sizes[name]
        return sizes.most_common(1)[0][0]

    @property
    def config(self) -> dict[str, Any] | None:
        """As Hugging Face would write it; None where the architecture's matrices are not known here."""
        try:
            return config_of(self.metadata, self.tensor_bytes, self.vocab_size)
        except (UserError, KeyError):
            return None

    @property
    def _visited_share(self) -> float:
        experts = self.metadata.get(f"{self.architecture}.expert_count")
        visited = self.metadata.get(f"{self.architecture}.expert_used_count")
        return int(visited) / int(experts) if experts and visited else 1.0


def config_of(metadata: Mapping[str, Any], tensors: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """The Hugging Face config that gives the same matrices."""
    architecture = str(metadata["general.architecture"])
    if architecture not in MODEL_TYPES:
        raise UserError(f"no shape is known for the GGUF architecture `{architecture}`")
    if metadata.get(f"{architecture}.expert_count"):  # Mixtral calls itself `llama`
        raise UserError(
            f"no shape is known for a mixture of experts of the GGUF architecture `{architecture}`"
        )
    config: dict[str, Any] = {
        ours: int(metadata[f"{architecture}.{theirs}"]) for ours, theirs in CONFIG_KEYS.items()
    }
    if f"{architecture}.attention.key_length" in metadata:
        config["head_dim"] = int(metadata[f"{architecture}.attention.key_length"])
    return config | {
        "model_type": MODEL_TYPES[architecture],
        "vocab_size": vocab_size,
        "tie_word_embeddings": "output.weight" not in tensors,
    }


def read_gguf(path: str | Path) -> GgufFile:
    """The header of a GGUF file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file at {path}", hint="give the path of a .gguf file")
    try:
        gguf = importlib.import_module("gguf")
    except ImportError as error:
        raise UserError(
            "reading GGUF files takes the gguf package", hint="pip install 'stillmark[llamacpp]'"
        ) from error
    try:
        reader = gguf.GGUFReader(str(path))
    except ValueError as error:
        raise UserError(f"{path} is not a GGUF file: {error}") from error
    metadata = {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")
    }
    return GgufFile(
        path=path,
        metadata=metadata,
        tensor_bytes={tensor.name: int(tensor.n_bytes) for tensor in reader.tensors},
        tensor_formats={tensor.name: tensor.tensor_type.name for tensor in reader.tensors},
        tensor_sizes={tensor.name: int(tensor.n_elements) for tensor in reader.tensors},
    )
