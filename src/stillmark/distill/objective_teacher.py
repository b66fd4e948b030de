"""The teacher of an objective: a live model, run without gradient, or its logits captured before.

Shape suffixes: B rows, T positions, E teacher's hidden size, L positions with a loss.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from stillmark.backends.kernels import faster_linears, is_onednn_faster
from stillmark.backends.rotary import lasting_positions, steady_positions
from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.cached_losses import CachedTargets
from stillmark.distill.counting import executed_shape
from stillmark.distill.head import OutputHead
from stillmark.distill.logit_cache import LogitCache
from stillmark.distill.losses import Clock
from stillmark.distill.spent import Spent, batch_flops
from stillmark.distill.text import Row
from stillmark.errors import UserError
from stillmark.study.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LiveTeacher:
    """A teacher that runs beside its student. It is put into eval mode and its weights are frozen."""

    model: Any
    shape: ModelShape

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        is_onednn_faster()  # measured before the clock starts

    @cached_property
    def executed(self) -> ModelShape:
        """The shape as its kernels run it."""
        return executed_shape(self.model, self.shape)

    def run(
        self, inputs: dict[str, torch.Tensor], spent: Spent, *, num_tokens: int, with_layers: bool = False
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor] | None]:
        """(last hidden states (B, T, E), those of all layers if asked for); every position run is counted.

        `num_tokens`: of the inputs, padding left out.
        """
        if self.model.training:
            raise RuntimeError("the teacher was set to training mode: its dropout would be at random")
        num_rows, width = inputs["input_ids"].shape
        self._require_own_frequencies(num_rows, width)
        clock = teacher_clock(spent, inputs["input_ids"].device)
        with clock, torch.inference_mode(), faster_linears(self.model):
            output = causal_lm(self.model).base_model(
                **inputs, use_cache=False, output_hidden_states=with_layers
            )
        spent.teacher_flops += batch_flops(forward_flops, self.executed, num_rows, width, 0)
        spent.teacher_tokens += num_tokens
        spent.teacher_positions += num_rows * width
        return output.last_hidden_state, output.hidden_states if with_layers else None

    def _require_own_frequencies(self, num_rows: int, width: int) -> None:
        """A row whose rotary frequencies others decide is refused: those in a teacher's own tokens (`uld`) are cut into
        batches by the student's, in which `packing.SampleBatches` keeps no such rows together.
        """
        steady, lasting = self._rotary_limits
        limit = (
            lasting if num_rows == 1 else min((n for n in (steady, lasting) if n is not None), default=None)
        )
        if limit is not None and width > limit:
            raise UserError(
                f"{type(self.model).__name__}: the teacher reads {width} positions beside or after other samples, and "
                f"beyond {limit} its rotary frequencies depend on those",
                "lower `context_tokens`",
            )

    @cached_property
    def _rotary_limits(self) -> tuple[int | None, int | None]:
        return steady_positions(self.model), lasting_positions(self.model)


@dataclass(frozen=True, kw_only=True)
class CachedTeacher:
    """A teacher whose logits on a fixed corpus were captured before: training takes none of its FLOPs."""

    cache: LogitCache

    def targets(self, rows: Sequence[Row], device: torch.device) -> CachedTargets:
        """What the cache holds of these rows' loss positions, one row after another."""
        places = [row.fixed_index for row in rows if row.fixed_index is not None]
        if len(places) != len(rows):
            raise UserError(
                "the text is new each time, so that no cache can hold the teacher's logits on it",
                "a logit cache needs `text: corpus`",
            )
        return self.cache.targets(places).to(device)

    def require(self, recipe: Recipe) -> None:
        """Refuses a cache that holds something else than what the recipe asks for."""
        held, asked = self.cache.manifest.settings, recipe.logit_cache
        pairs: list[tuple[str, object, object]]
        pairs = [("temperature", held.temperature, recipe.temperature)]
        if asked is not None:
            pairs += [("keep", held.kind, asked.keep), ("k", held.k, asked.k)]
        if wrong := [f"{name} {has}, not {wants}" for name, has, wants in pairs if has != wants]:
            raise UserError(
                f"{self.cache.directory}: the cache was captured with {' and '.join(wrong)} as the recipe says",
                "capture again into another directory",
            )


def head_forward_flops(head: OutputHead, num_positions: int, vocab_size: int | None) -> int:
    """2 FLOPs a weight and position, of the rows that are not left out as padding."""
    rows = head.num_rows if vocab_size is None else vocab_size
    return 2 * num_positions * rows * int(head.weight.shape[1])


def causal_lm(model: Any) -> Any:
    """The transformers model itself: peft's wrapper has a `base_model` of its own, which is another thing."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


@contextmanager
def teacher_clock(spent: Spent, device: torch.device) -> Iterator[None]:
    """Adds the time in here to the teacher's; work that a GPU has only been asked for is waited for."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    started, cpu_started = now()
    yield
    ended, cpu_ended = now()
    spent.teacher_seconds += ended - started
    spent.teacher_cpu_seconds += cpu_ended - cpu_started


@contextmanager
def teacher_chunks(spent: Spent, device: torch.device) -> Iterator[Clock]:
    """Yields the clock of a teacher's work that is done chunk by chunk among its student's.

    A GPU that is waited for at each chunk would idle: events on its stream time the chunks, and are read at the end.
    CPU seconds then are those of asking for the chunks; the wait is the student's.
    """
    if device.type != "cuda":
        yield partial(teacher_clock, spent, device)
        return
    chunks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def chunk() -> Iterator[None]:
        cpu_started, stream = time.process_time(), torch.cuda.current_stream(device)
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record(stream)
        yield
        ended.record(stream)
        chunks.append((began, ended))
        spent.teacher_cpu_seconds += time.process_time() - cpu_started

    yield chunk
    for began, ended in chunks:
        ended.synchronize()
        spent.teacher_seconds += began.elapsed_time(ended) / 1000
