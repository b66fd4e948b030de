"""Choosing the next token: greedy, or sampled so that a row's text does not depend on its batch.

Each row has its own stream of uniform numbers, keyed by (seed, prompt, sample) (Philox, a counter-based
generator: Salmon et al., 2011, doi:10.1145/2063384.2063405), and its t-th token uses the t-th number by
inverse transform sampling in the vocabulary's order. So it is the same alone, in any batch and on any
device, up to the rounding of the logits.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from stillmark.backends.protocol import Sampling

# Shape suffixes: B rows, V vocabulary.
FIRST_CANDIDATES = (
    1024  # a nucleus is looked for among so many top tokens before the whole vocabulary is sorted
)
UNIFORM_BLOCK = 256


class UniformStream:
    """The uniform numbers of one row, made in blocks as they are needed."""

    def __init__(self, seed: int, prompt_ids: Sequence[int], sample: int) -> None:
        text = f"{seed}/{sample}/" + ",".join(map(str, prompt_ids))
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        self._block = np.empty(0)
        self._next = 0

    def draw(self) -> float:
        if self._next == len(self._block):
            # Blocks grow, so that a short row is cheap; the stream is the same however it is cut
            self._block = self._generator.random(min(UNIFORM_BLOCK, 16 + 4 * len(self._block)))
            self._next = 0
        self._next += 1
        return float(self._block[self._next - 1])


def next_tokens(logits_BV: torch.Tensor, sampling: Sampling, streams: Sequence[UniformStream]) -> list[int]:
    """The next token of each row. `streams` is not drawn from where temperature is 0."""
    if sampling.temperature == 0:
        greedy: list[int] = logits_BV.argmax(-1).tolist()
        return greedy
    probabilities_BV = (logits_BV.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        probabilities_BV = keep_nucleus(probabilities_BV, sampling.top_p)
    # float64: a float32 running sum over a large vocabulary is off by more than many tokens' probability
    cumulative_BV = probabilities_BV.cumsum(-1, dtype=torch.float64)
    uniforms = torch.tensor([s.draw() for s in streams], dtype=torch.float64, device=logits_BV.device)
    targets_B = uniforms * cumulative_BV[:, -1]
    chosen_B = torch.searchsorted(cumulative_BV, targets_B[:, None], right=True)[:, 0]
    chosen: list[int] = chosen_B.clamp(max=logits_BV.shape[-1] - 1).tolist()
    return chosen


def keep_nucleus(probabilities_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the smallest set of most likely tokens whose probability reaches top_p
    (arXiv:1904.09751).
    """
    vocabulary_size = probabilities_BV.shape[-1]
    num_candidates = min(FIRST_CANDIDATES, vocabulary_size)
    top_BK = probabilities_BV.topk(num_candidates, dim=-1).values
    cumulative_BK = top_BK.cumsum(-1, dtype=torch.float64)
    if num_candidates < vocabulary_size and bool((cumulative_BK[:, -1] < top_p).any()):
        top_BK = probabilities_BV.sort(dim=-1, descending=True).values
        cumulative_BK = top_BK.cumsum(-1, dtype=torch.float64)
    # A token is kept while the sum before it is under top_p: at least one, and up to the one that reaches it
    num_kept_B = (cumulative_BK - top_BK < top_p).sum(-1)
    least_B1 = top_BK.gather(-1, (num_kept_B - 1).clamp(min=0)[:, None])
    return torch.where(probabilities_BV >= least_B1, probabilities_BV, 0.0)
