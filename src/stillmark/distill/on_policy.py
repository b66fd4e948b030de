"""Text that the student writes itself as it trains, for its teacher to judge (GKD, arXiv:2306.13649, algorithm 1).

With probability `fraction` (lambda) a step reads the student's own replies to the prompts that the wrapped source
has for it; else it reads the wrapped source. The replies are sampled from the current weights, not the averaged
ones, and of the tokens that the loss is over: no padding rows of the head. No gradient goes through the sampling.
`reuse` is DistiLLM's buffer (arXiv:2402.03898, section 3.2): one step's replies are read again by the next steps of the
student's own text, so that fewer are written. The first of `reuse` such steps is on-policy, the others lag behind the
weights by as many steps.

Which steps these are depends on the seed and the step alone, and each reply on the seed, the sample's index, its
prompt and the weights: with the buffer saved, training that was killed goes on bit for bit.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch

from stillmark.backends.decoding import PromptRows
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream
from stillmark.backends.stopping import Written
from stillmark.backends.tokens import TokenIds
from stillmark.backends.transformers import TransformersBackend
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.lora import adapter_params
from stillmark.distill.spent import Spent
from stillmark.distill.text import IGNORED, Row, TextSource, next_token_sequence
from stillmark.distill.vocabulary import num_token_rows
from stillmark.errors import UserError
from stillmark.study.recipe import OnPolicy

STATE_NAME = "on_policy_replies"
Gather = Callable[[Sequence[int]], Sequence[Sequence[int]]]  # one process's numbers to those of each


def alone(numbers: Sequence[int]) -> Sequence[Sequence[int]]:
    """The gathering of a single process."""
    return [numbers]


class OnPolicyText:
    """A source that reads `source` or, instead of its responses, what `model` replies to its prompts.

    `model` is the one that is trained; what the writing takes is added to `spent`, which Training shares.
    """

    def __init__(
        self,
        source: TextSource,
        *,
        model: Any,
        shape: ModelShape,
        tokenizer: Any,
        settings: OnPolicy,
        batch_samples: int,
        seed: int,
        spent: Spent,
    ) -> None:
        self.source, self.model, self.shape, self.tokenizer = source, model, shape, tokenizer
        self.settings, self.batch_samples, self.seed, self.spent = settings, batch_samples, seed, spent
        self.written_step: int | None = None  # when the replies in the buffer were written
        self.replies: dict[int, Row] = {}  # by place in the step's batch
        self._backend: TransformersBackend | None = None

    def rows(self, indices: Sequence[int]) -> list[Row]:
        """The rows of samples of one step, or those of them that are this process's.

        Raises UserError for a prompt that fills the model's window.
        """
        if not indices:
            return []
        step = indices[0] // self.batch_samples
        if not self.is_on_policy(step):
            return self.source.rows(indices)
        if self.is_stale(step):
            self.replies = self.write(indices)
            self.written_step = step
        return [self.replies[index % self.batch_samples] for index in indices]

    def is_on_policy(self, step: int) -> bool:
        """Whether a step (from 0) reads the student's own text."""
        return random.Random(f"on-policy {self.seed} {step}").random() < self.settings.fraction

    def is_stale(self, step: int) -> bool:
        """Whether the buffer is empty, or was read by `reuse` steps before this one."""
        if self.written_step is None or step < self.written_step:
            return True
        times_read = sum(self.is_on_policy(earlier) for earlier in range(self.written_step, step))
        return times_read >= self.settings.reuse

    def write(self, indices: Sequence[int]) -> dict[int, Row]:
        """The student's replies to the prompts of these samples, and what they took."""
        started, cpu_started = time.perf_counter(), time.process_time()
        prompts = [prompt_of(row) for row in self.source.rows(indices)]
        sampling = Sampling(
            max_new_tokens=self.settings.max_new_tokens, temperature=self.settings.temperature
        )
        with evaluating(self.model):
            backend = self.backend()
            asked = [
                PromptRows(
                    ids=prompt,
                    streams=[UniformStream(self.seed, prompt, index)],
                    max_new_tokens=min(sampling.max_new_tokens, room_after(prompt, backend.window_tokens)),
                )
                for index, prompt in zip(indices, prompts, strict=True)
            ]
            before = backend.work
            written = backend.write(asked, sampling)
            work = backend.work - before
        replies = {
            index % self.batch_samples: reply_row(prompt, reply)
            for index, prompt, (reply,) in zip(indices, prompts, written, strict=True)
        }
        spent = self.spent
        # Adapters run at every position, as they are not merged and the engine spares none of them (backends/wanted.py)
        spent.generate_flops += work.flops(self.shape) + 2 * work.positions * adapter_params(self.model)
        spent.generate_positions += work.positions
        spent.generate_tokens += work.tokens
        spent.generate_seconds += time.perf_counter() - started
        spent.generate_cpu_seconds += time.process_time() - cpu_started
        return replies

    def backend(self) -> TransformersBackend:
        """The engine on the live weights, made once: it looks for the fastest way that gives the model's own logits."""
        if self._backend is None:
            if any(hasattr(parameter, "full_tensor") for parameter in self.model.parameters()):
                raise UserError("on_policy: the student's weights are sharded (FSDP), and it cannot write so",
                                hint="launch without FSDP: each process then holds the whole student")  # fmt: skip
            bare = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            self._backend = TransformersBackend(
                bare, self.tokenizer, device=str(bare.device), num_tokens=num_token_rows(self.tokenizer)
            )
        return self._backend

    def state(self, gather: Gather = alone) -> dict[str, torch.Tensor]:
        """The buffer, for the training state: that of all processes, which each must ask for."""
        own: list[int] = []
        if self.written_step is not None:
            for place, row in self.replies.items():
                sequence = row.sequence
                ids = [*sequence.token_ids, sequence.targets[-1]]
                own += [self.written_step, place, len(prompt_of(row)), len(ids), *ids]
        whole = [number for numbers in gather(own) for number in numbers]
        return {STATE_NAME: torch.tensor(whole)} if whole else {}

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The buffer as `state` gave it; other tensors are left alone."""
        self.replies, self.written_step = {}, None
        if STATE_NAME not in tensors:
            return
        numbers = iter(tensors[STATE_NAME].tolist())
        for written_step in numbers:
            place, prompt_tokens, length = islice(numbers, 3)
            ids = list(islice(numbers, length))
            self.written_step = written_step
            self.replies[place] = Row(sequence=next_token_sequence(ids[:prompt_tokens], ids[prompt_tokens:]))


def prompt_of(row: Row) -> TokenIds:
    """What stands before a row's first target."""
    targets = row.sequence.targets
    first = next(place for place, target in enumerate(targets) if target != IGNORED)
    return tuple(row.sequence.token_ids[: first + 1])


def reply_row(prompt: TokenIds, reply: Written) -> Row:
    """Every token that the student wrote is a target: the end too, where it came to one, and none where it was cut."""
    return Row(sequence=next_token_sequence(prompt, reply.ids))


def room_after(prompt: TokenIds, window_tokens: int | None) -> int:
    """How many tokens fit after a prompt."""
    if window_tokens is None:
        return 1 << 40
    if len(prompt) >= window_tokens:
        raise UserError(
            f"on_policy: a prompt has {len(prompt)} tokens, and the student's window is {window_tokens}",
            hint="leave long prompts out: no reply fits after them",
        )
    return window_tokens - len(prompt)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Within, all of the model is in eval mode; afterwards each part is in the mode that it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
