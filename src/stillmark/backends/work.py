"""What an engine ran, as counts from which FLOPs follow exactly: shared prefixes once, padding in attention too."""

from dataclasses import dataclass

from stillmark.compute.model_shape import ModelShape


@dataclass(frozen=True, kw_only=True)
class Work:
    """Token positions that were given to the layers, to the vocabulary head, and pairs of query and key.

    The pairs are those of one layer, as they were multiplied: padding and masked ones (a sliding window's) included.
    `tokens` is text: of each row that was written its prompt and its reply, of each scored pair both, and no padding.
    """

    positions: int = 0
    scored: int = 0
    pairs: int = 0
    tokens: int = 0
    spared_products: int = 0
    """Weights times positions that the layers left out, since nothing asked for what they give (wanted.py)."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            positions=self.positions + other.positions,
            scored=self.scored + other.scored,
            pairs=self.pairs + other.pairs,
            tokens=self.tokens + other.tokens,
            spared_products=self.spared_products + other.spared_products,
        )

    def __sub__(self, other: "Work") -> "Work":
        return self + Work(
            positions=-other.positions,
            scored=-other.scored,
            pairs=-other.pairs,
            tokens=-other.tokens,
            spared_products=-other.spared_products,
        )

    def flops(self, shape: ModelShape) -> int:
        """By the convention of `compute/flops.py`: 2 a weight and position, 2·H·(C + U) a pair in each layer."""
        products = self.positions * shape.inner_matmul_params + self.scored * shape.head.matmul_params
        of_pairs = self.pairs * sum(layer.attention.flops_per_key for layer in shape.layers)
        return 2 * (products - self.spared_products) + of_pairs


def work_of_rows(num_rows: int, prompt_tokens: int, new_tokens: int) -> Work:
    """Rows of one length written side by side: the prompt, then one position a new token, but not for the last."""
    steps = new_tokens - 1
    return Work(
        positions=num_rows * (prompt_tokens + steps),
        scored=num_rows * new_tokens,
        pairs=num_rows * (prompt_tokens**2 + steps * prompt_tokens + steps * (steps + 1) // 2),
    )
