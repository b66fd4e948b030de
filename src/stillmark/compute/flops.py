"""FLOPs of a decoder-only transformer, by formula: forward, training, prefill and decode of ONE sequence.

Convention (one, everywhere):
- a multiply-add is 2 FLOPs;
- every matmul weight counts, the vocabulary head and a mixture's router included, the embedding look-up not;
  of a mixture of experts, the experts that a token visits;
- attention is counted in full, without halving for the causal mask (as PaLM, arXiv:2204.02311, appendix B):
  2·H·(C + U) for each query and key, with H heads of key size C and value size U;
- a sliding-window layer counts min(context, window) keys for each query. That is the model's formula and what
  FlashAttention and a rolling cache execute; eager and SDPA kernels compute the whole context and mask it
  (`shape.without_windows()` gives that count);
- softmax, norms, activations, rotary and other element-wise work are left out.

All counts are exact integers. A batch of B sequences is B times one; nothing here counts padding.
"""

from stillmark.compute.backward import Frozen, Lora, Recompute, backward_flops, lora_params
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError

__all__ = [
    "Frozen",
    "Lora",
    "Recompute",
    "decode_flops",
    "forward_flops",
    "generate_flops",
    "prefill_flops",
    "spared_prefill_flops",
    "train_flops",
]

SPARED_NAMES = ("q_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")


def forward_flops(
    shape: ModelShape, *, tokens: int, context_tokens: int | None = None, scored_tokens: int | None = None
) -> int:
    """FLOPs of one forward pass over `tokens` new tokens: 2 per weight and token, and the attention.

    `context_tokens` is what each new token attends to, itself and the KV cache included (default: `tokens`).
    `scored_tokens` is the number of positions that the vocabulary head is applied to (default: all).
    """
    context_tokens = tokens if context_tokens is None else context_tokens
    scored_tokens = tokens if scored_tokens is None else scored_tokens
    check_tokens(tokens=tokens, context_tokens=context_tokens, scored_tokens=scored_tokens)
    if context_tokens < tokens:
        raise UserError(
            f"context_tokens={context_tokens} is less than tokens={tokens}: a token attends to itself"
        )
    if scored_tokens > tokens:
        raise UserError(f"scored_tokens={scored_tokens} is more than the {tokens} tokens of the sequence")
    weights = 2 * (tokens * shape.inner_matmul_params + scored_tokens * shape.head.matmul_params)
    attention = sum(layer.attention.flops(tokens, context_tokens) for layer in shape.layers)
    return weights + attention


def train_flops(
    shape: ModelShape,
    *,
    tokens: int,
    scored_tokens: int | None = None,
    recompute: Recompute = Recompute.NONE,
    frozen: Frozen | None = None,
    lora: Lora | None = None,
) -> int:
    """FLOPs of forward and backward of one sequence: 3 times the forward pass if all is trained.

    `recompute` adds what is computed twice to save memory; `frozen` and `lora` say what is not trained and
    leave out the gradients that nobody needs (`stillmark.compute.backward`). The optimizer's step is left
    out: it is element-wise, once a batch.
    """
    scored_tokens = tokens if scored_tokens is None else scored_tokens
    forward = forward_flops(shape, tokens=tokens, scored_tokens=scored_tokens)
    adapters = 2 * tokens * lora_params(shape, lora) if lora else 0
    backward = backward_flops(
        shape,
        tokens=tokens,
        scored_tokens=scored_tokens,
        frozen=frozen or Frozen(),
        lora=lora,
        recompute=recompute,
    )
    return forward + adapters + backward


def prefill_flops(shape: ModelShape, *, prompt_tokens: int, scored_tokens: int = 1) -> int:
    """Reading the prompt. The head is applied to the last position only, which gives the first new token."""
    return forward_flops(shape, tokens=prompt_tokens, scored_tokens=min(scored_tokens, prompt_tokens))


def decode_flops(shape: ModelShape, *, prompt_tokens: int, new_tokens: int) -> int:
    """Writing `new_tokens` with a KV cache, after the prefill.

    The prefill gives the first token and the last one is not read again, so there are new_tokens - 1 steps;
    step i (from 1) attends to prompt_tokens + i keys. The sum over the growing context is exact.
    """
    check_tokens(prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    steps = max(new_tokens - 1, 0)
    attention = 0
    for layer in shape.layers:
        window = layer.attention.window
        keys = keys_read_by_steps(prompt_tokens, steps, window)
        attention += layer.attention.flops_per_key * keys
    return 2 * steps * shape.matmul_params + attention


def keys_read_by_steps(prompt_tokens: int, steps: int, window: int | None) -> int:
    """Sum of min(prompt_tokens + i, window) for i = 1..steps."""
    growing = steps if window is None else max(0, min(steps, window - prompt_tokens))
    full = (steps - growing) * (window or 0)
    return growing * prompt_tokens + growing * (growing + 1) // 2 + full


def generate_flops(shape: ModelShape, *, prompt_tokens: int, new_tokens: int) -> int:
    """Prefill and decode: one prompt read, `new_tokens` written."""
    if new_tokens == 0:
        return 0
    prefill = prefill_flops(shape, prompt_tokens=prompt_tokens)
    return prefill + decode_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens)


def spared_prefill_flops(shape: ModelShape, *, prompt_tokens: int) -> int:
    """What our engine leaves out of a prefill, at every token but the last (backends/wanted.py): the last layer's plain
    feed-forward, and its projections of queries and outputs.
    """
    spared = sum(m.matmul_params for m in shape.layers[-1].matmuls if m.name in SPARED_NAMES)
    return 2 * spared * (prompt_tokens - 1)


def check_tokens(**counts: int) -> None:
    """Token counts are whole and not negative."""
    for name, count in counts.items():
        if count < 0 or count != int(count):
            raise UserError(
                f"{name}={count} is not a number of tokens", hint="give a whole number, 0 or more"
            )
