"""What a decoder-only transformer is made of, as far as parameters and FLOPs go.

A `ModelShape` is a tuple of layers; a layer is an attention and the matrices each token is multiplied by.
Nothing is computed from a model's name: `shapes.py` reads these numbers from a Hugging Face config.json.
Three parameter counts are kept apart: `params` (all that is stored), `non_embedding_params` (without the
token and position tables and the vocabulary head, as Qwen publishes it) and `matmul_params` (the weights one
token is multiplied by: vocabulary head in, embedding look-up out, experts that are not visited out).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

ATTENTION_INPUT = "attention_input"  # the residual stream after the norm before attention
ATTENTION_OUTPUT = "attention_output"  # the heads' outputs, side by side
FFN_INPUT = "ffn_input"  # the residual stream after the norm before the feed-forward part


@dataclass(frozen=True, kw_only=True)
class Matmul:
    """One weight matrix of `inputs` x `outputs`, named as the module in transformers.

    A mixture of experts holds it `copies` times and multiplies a token by `active` of them.
    `reads` names what it is applied to: one of the constants above or earlier matrices of the same layer.
    """

    name: str
    inputs: int
    outputs: int
    reads: tuple[str, ...] = (FFN_INPUT,)
    bias: bool = False
    copies: int = 1
    active: int = 1

    @property
    def params(self) -> int:
        """All that is stored: every copy, biases included."""
        return self.copies * (self.inputs + self.bias) * self.outputs

    @property
    def active_params(self) -> int:
        """Stored weights and biases that one token meets."""
        return self.active * (self.inputs + self.bias) * self.outputs

    @property
    def matmul_params(self) -> int:
        """Weights that one token is multiplied by; a bias is added, not multiplied."""
        return self.active * self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Scores and values of one layer: H heads of key size C and value size U, reading at most `window` keys.

    Grouped-query attention shares K key-value heads between the H heads: fewer weights and a smaller cache,
    but as many score and value operations. `query`, `key` and `value` name the matrices they come from.
    `latent` (multi-head latent attention, DeepSeek-V2, arXiv:2405.04434) is (rank of the compressed
    key-value, size of the shared rotary key): what an engine may cache instead.
    """

    num_heads: int
    num_kv_heads: int
    key_size: int
    value_size: int
    query: str
    key: str
    value: str
    window: int | None = None
    latent: tuple[int, int] | None = None
    cached_size: int | None = None  # numbers cached a token, where that is not K·(C + U)

    @property
    def flops_per_key(self) -> int:
        """FLOPs of one query against one key and its value: 2·H·(C + U)."""
        return 2 * self.num_heads * (self.key_size + self.value_size)

    @property
    def cached_values_per_token(self) -> int:
        """Numbers kept for each token of context: K·(C + U), as transformers caches them."""
        if self.cached_size is not None:
            return self.cached_size
        return self.num_kv_heads * (self.key_size + self.value_size)

    def keys_read(self, context_tokens: int) -> int:
        """Keys that one query is scored against: the context, or the window where that is shorter."""
        return context_tokens if self.window is None else min(context_tokens, self.window)

    def flops(self, tokens: int, context_tokens: int) -> int:
        """Scores and weighted values of `tokens` queries that each attend to `context_tokens` keys."""
        return tokens * self.flops_per_key * self.keys_read(context_tokens)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One block: its matrices in the order of use, its attention, and the weights of norms and the like."""

    matmuls: tuple[Matmul, ...]
    attention: Attention
    other_params: int = 0
    is_parallel: bool = False  # attention and feed-forward read the same input (GPT-J, Falcon)
    has_input_norm_weights: bool = True  # trained weights between the residual stream and the attention

    @property
    def attention_matmuls(self) -> tuple[Matmul, ...]:
        """The matrices up to the one that reads the heads' outputs."""
        last = next(i for i, m in enumerate(self.matmuls) if ATTENTION_OUTPUT in m.reads)
        return self.matmuls[: last + 1]

    @property
    def params(self) -> int:
        return sum(m.params for m in self.matmuls) + self.other_params

    @property
    def active_params(self) -> int:
        return sum(m.active_params for m in self.matmuls) + self.other_params

    @property
    def matmul_params(self) -> int:
        return sum(m.matmul_params for m in self.matmuls)


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer: embedding, layers, vocabulary head."""

    model_type: str
    hidden_size: int
    vocab_size: int
    layers: tuple[Layer, ...]
    head: Matmul
    is_tied: bool  # the head is the embedding table: stored once, multiplied all the same
    embedding_size: int  # the width of the embedding table; the hidden size nearly everywhere
    position_params: int = 0  # learned positions
    other_params: int = 0  # the final norm and the like
    projections: tuple[Matmul, ...] = ()  # outside the layers, on every token (OPT-350m)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def embedding_params(self) -> int:
        """The token table and learned positions."""
        return self.vocab_size * self.embedding_size + self.position_params

    @property
    def head_params(self) -> int:
        """What the head stores on top of the embedding: only its bias where it is tied."""
        return self.head.params - self.is_tied * self.head.matmul_params

    @property
    def params(self) -> int:
        """All that is stored; a tied head is counted once."""
        return self.embedding_params + self.head_params + self.non_embedding_params

    @property
    def non_embedding_params(self) -> int:
        """`params` without the token and position tables and without the vocabulary head, tied or not."""
        inner = sum(layer.params for layer in self.layers)
        return inner + sum(m.params for m in self.projections) + self.other_params

    @property
    def active_params(self) -> int:
        """`params` without the experts that a token does not visit. Embedding and head are in."""
        return self.params - sum(layer.params - layer.active_params for layer in self.layers)

    @property
    def matmul_params(self) -> int:
        """Weights one token is multiplied by: layers and vocabulary head, visited experts only."""
        return self.inner_matmul_params + self.head.matmul_params

    @property
    def inner_matmul_params(self) -> int:
        """`matmul_params` without the vocabulary head."""
        inner = sum(layer.matmul_params for layer in self.layers)
        return inner + sum(m.matmul_params for m in self.projections)

    def cached_values(self, context_tokens: int) -> int:
        """Numbers in the KV cache of one sequence, as transformers keeps it; window layers keep theirs."""
        return sum(
            layer.attention.cached_values_per_token * layer.attention.keys_read(context_tokens)
            for layer in self.layers
        )

    def without_windows(self) -> "ModelShape":
        """The same model, each window layer reading the whole context: what eager and SDPA kernels do."""
        return self._with_attention(lambda attention: replace(attention, window=None))

    def with_latent_cache(self) -> "ModelShape":
        """The same model with multi-head latent attention as engines serve it: scores in the latent space.

        The key-value up-projection is absorbed into query and output (as many weights a token), each head
        scores against the compressed key-value (rank + shared rotary key) and sums `rank` values, and one
        latent vector a token is cached. DeepSeek-V2, arXiv:2405.04434, section 2.1.2.
        """
        return self._with_attention(absorbed)

    def _with_attention(self, change: Callable[[Attention], Attention]) -> "ModelShape":
        layers = tuple(replace(layer, attention=change(layer.attention)) for layer in self.layers)
        return replace(self, layers=layers)


def absorbed(attention: Attention) -> Attention:
    """Latent attention scored in the latent space; any other attention as it is."""
    if attention.latent is None:
        return attention
    rank, rotary = attention.latent
    return replace(attention, key_size=rank + rotary, value_size=rank)
