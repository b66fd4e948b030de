"""One architecture: what its config leaves out, and the parts it is put together from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stillmark.compute.families.parts import AttentionReader, Bias, FfnReader, has_bias
from stillmark.compute.families.reader import ConfigReader
from stillmark.compute.families.windows import WindowsReader, no_windows
from stillmark.compute.model_shape import Layer, Matmul, ModelShape

Count = Callable[[ConfigReader], int]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to read the config of one model_type."""

    attention: AttentionReader
    ffn: FfnReader
    defaults: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)
    windows: WindowsReader = no_windows
    norms: Count = lambda reader: 2 * reader.hidden_size  # weights of a layer's norms
    final_norm: Count = lambda reader: reader.hidden_size  # and of the norms outside the layers
    positions: Count = lambda reader: 0  # learned position embeddings
    embedding_size: Count = lambda reader: reader.hidden_size
    projections: Callable[[ConfigReader], tuple[Matmul, ...]] = lambda reader: ()  # outside the layers
    head_bias: Bias = False
    has_head_dim: bool = True  # False: `head_dim` in the config is not read
    has_kv_heads: bool = True  # False: `num_key_value_heads` in the config is not read
    is_parallel: Callable[[ConfigReader], bool] = lambda reader: False
    has_input_norm: Callable[[ConfigReader], bool] = lambda reader: True  # weights before the attention
    check: Callable[[ConfigReader], None] = lambda reader: None  # refuses what was not checked

    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """The shape of the model that transformers makes from this config."""
        unread = (["head_dim"] if not self.has_head_dim else []) + (
            ["num_key_value_heads"] if not self.has_kv_heads else []
        )
        read = {key: value for key, value in config.items() if key not in unread}
        reader = ConfigReader(read, self.defaults, self.aliases)
        if not self.has_head_dim and reader.hidden_size % reader.num_heads:
            heads = f"a multiple of the {reader.num_heads} heads"
            raise reader.wrong("hidden_size", reader.hidden_size, heads)
        self.check(reader)
        hidden, vocab = reader.hidden_size, reader.size("vocab_size")
        embedding = self.embedding_size(reader)
        layers = tuple(self.layer(reader, i, window) for i, window in enumerate(self.windows(reader)))
        return ModelShape(
            model_type=reader.model_type,
            hidden_size=hidden,
            vocab_size=vocab,
            layers=layers,
            head=Matmul(
                name="lm_head", inputs=embedding, outputs=vocab, bias=has_bias(reader, self.head_bias)
            ),
            is_tied=reader.flag("tie_word_embeddings"),
            embedding_size=embedding,
            position_params=self.positions(reader),
            other_params=self.final_norm(reader),
            projections=self.projections(reader),
        )

    def layer(self, reader: ConfigReader, index: int, window: int | None) -> Layer:
        attention = self.attention(reader, window)
        ffn = self.ffn(reader, index)
        return Layer(
            matmuls=(*attention.matmuls, *ffn.matmuls),
            attention=attention.attention,
            other_params=self.norms(reader) + attention.other_params + ffn.other_params,
            is_parallel=self.is_parallel(reader),
            has_input_norm_weights=self.has_input_norm(reader),
        )


def norm_vectors(count: int) -> Count:
    """`count` vectors of the hidden size: an RMS norm has one, a layer norm with bias two."""
    return lambda reader: count * reader.hidden_size
