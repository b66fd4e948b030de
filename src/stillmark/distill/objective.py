"""What a model is held to on a batch: cross-entropy, or what a teacher says, as its recipe says.

The loss tokens of a whole optimiser step divide every part of the loss, so that any cut of a batch into
micro-batches gives the same gradient.

FLOPs: the training loop counts the student's forward and backward with its head on every loss token. What an
objective runs beside or instead of that is added to `spent` here: the teacher's forward with its head to
`teacher_flops`; projectors, and a head applied to more or fewer positions or rows, to `train_flops`. Seconds are split
in the same way.

Shape suffixes: B rows, T positions, D student's hidden size, E teacher's, L positions with a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from stillmark.distill.cached_losses import fused_cached_divergence
from stillmark.distill.head import OutputHead, checked_output_head, output_head
from stillmark.distill.hidden_states import HiddenStateMatch, layer_pairs
from stillmark.distill.losses import DivergenceSettings, fused_cross_entropy, fused_divergence
from stillmark.distill.objective_precision import autocast, require_precision
from stillmark.distill.objective_teacher import (
    CachedTeacher,
    LiveTeacher,
    causal_lm,
    head_forward_flops,
    teacher_chunks,
    teacher_clock,
)
from stillmark.distill.objective_uld import TeacherReading, aligned_batch, uld_loss
from stillmark.distill.objective_vocabulary import own_sizes, shared_sizes
from stillmark.distill.spent import Spent
from stillmark.distill.text import MicroBatch
from stillmark.errors import UserError
from stillmark.study.recipe import Recipe

__all__ = ["CachedTeacher", "LiveTeacher", "Objective"]


class Objective:
    """The loss of a recipe. What the teacher takes is added to `spent`, apart from the student's own.

    `bind` checks the student once, and makes what is trained beside it: call it before the optimiser is made
    and before the model is wrapped for several processes. Tokenizers are needed where teacher and student have
    one each, or where a head has rows that stand for no token.
    """

    def __init__(
        self,
        recipe: Recipe,
        teacher: LiveTeacher | CachedTeacher | None = None,
        *,
        student_tokenizer: Any = None,
        teacher_tokenizer: Any = None,
        seed: int = 0,
    ) -> None:
        self.recipe, self.teacher, self.seed = recipe, teacher, seed
        self.tokenizers = (student_tokenizer, teacher_tokenizer)
        self.divergence = divergence_settings(recipe)
        self.match: HiddenStateMatch | None = None
        self.vocab_size: int | None = None  # of the student's head; None: every row
        self.teacher_vocab_size: int | None = None
        self.teacher_head: OutputHead | None = None
        self._is_bound = False
        require_teacher(recipe, teacher)
        if isinstance(teacher, CachedTeacher):
            teacher.require(recipe)
        elif isinstance(teacher, LiveTeacher):
            self.teacher_head = checked_output_head(causal_lm(teacher.model))

    def bind(self, student: Any) -> None:
        """Checks that this student can be held to the recipe and the teacher; UserError says why it cannot."""
        model = causal_lm(student)
        require_precision(self.recipe.precision, model.device)
        head = checked_output_head(model)
        if isinstance(self.teacher, LiveTeacher):
            require_apart(model, self.teacher.model)
        self.vocab_size, self.teacher_vocab_size = self._vocab_sizes(head)
        if self.recipe.hidden_states is not None:
            self.match = self._hidden_state_match(model)
        self._is_bound = True

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained beside the student and is no part of it: the projectors of hidden states."""
        return [] if self.match is None else list(self.match.parameters())

    def state(self) -> dict[str, torch.Tensor]:
        """What training goes on from, by name; empty where nothing is trained beside the student."""
        return {f"projector.{index}": weight.detach() for index, weight in enumerate(self.parameters())}

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Puts back what `state` gave, after `bind`."""
        state = self.state()
        if state.keys() != tensors.keys():
            raise ValueError(f"projectors {sorted(tensors)} for an objective with {sorted(state)}")
        for name, weight in state.items():
            weight.copy_(tensors[name])

    def loss(self, model: Any, batch: MicroBatch, num_loss_tokens: int, spent: Spent) -> torch.Tensor:
        """A micro-batch's share of the step's mean loss, ready for `backward`."""
        if not self._is_bound:
            raise RuntimeError("call `bind` with the student before its first loss")
        student = causal_lm(model)
        with autocast(self.recipe.precision, student.device):
            output = student.base_model(
                **batch.model_inputs(), use_cache=False, output_hidden_states=self.match is not None
            )
            student_pass = StudentPass(output=output, head=output_head(student), batch=batch)
            loss = self._loss(student_pass, num_loss_tokens, spent)
        spent.train_flops -= student_pass.head_flops(batch.num_loss_tokens, None)  # counted by the loop
        return loss

    def _loss(self, student: "StudentPass", num_loss_tokens: int, spent: Spent) -> torch.Tensor:
        """The loss on the text and the teacher's words, and the match of hidden states beside it."""
        if self.match is None:
            states = self._teacher_pass(student.batch, spent)[0] if self._hears_live_logits else None
            return self._loss_on_logits(student, states, num_loss_tokens, spent)
        states, layers = self._teacher_pass(student.batch, spent)
        loss = self._loss_on_logits(student, states, num_loss_tokens, spent)
        assert self.recipe.hidden_states is not None
        spent.train_flops += projector_flops(self.match, student.batch.num_loss_tokens)
        match = self.match(student.layers, layers, student.batch.targets_BT, num_loss_tokens=num_loss_tokens)
        return loss + self.recipe.hidden_states.weight * match

    def _loss_on_logits(
        self, student: "StudentPass", states_BTE: torch.Tensor | None, num_loss_tokens: int, spent: Spent
    ) -> torch.Tensor:
        batch, settings = student.batch, self.divergence
        if self.recipe.loss == "uld":
            return self._uld(student, num_loss_tokens, spent)
        spent.train_flops += student.head_flops(batch.num_loss_tokens, self.vocab_size)
        common = {"num_loss_tokens": num_loss_tokens, "vocab_size": self.vocab_size}
        if settings is None or not self.recipe.hears_logits:
            return fused_cross_entropy(student.hidden, student.head, batch.targets_BT, **common)
        if isinstance(self.teacher, CachedTeacher):
            targets = self.teacher.targets(batch.rows, student.hidden.device)
            return fused_cached_divergence(
                student.hidden, student.head, targets, batch.targets_BT, divergence=settings, **common
            ).loss
        assert states_BTE is not None
        assert self.teacher_head is not None
        spent.teacher_flops += head_forward_flops(self.teacher_head, batch.num_loss_tokens, self.vocab_size)
        with teacher_chunks(spent, student.hidden.device) as clock:
            return fused_divergence(
                student.hidden, student.head, states_BTE, self.teacher_head, batch.targets_BT,
                divergence=settings, teacher_clock=clock, **common,
            ).loss  # fmt: skip

    def _uld(self, student: "StudentPass", num_loss_tokens: int, spent: Spent) -> torch.Tensor:
        """ULD where both have read the same text, mixed with cross-entropy on every loss token."""
        batch, share = student.batch, self.recipe.cross_entropy_weight
        parts = []
        if share:
            spent.train_flops += student.head_flops(batch.num_loss_tokens, self.vocab_size)
            cross_entropy = fused_cross_entropy(
                student.hidden, student.head, batch.targets_BT,
                num_loss_tokens=num_loss_tokens, vocab_size=self.vocab_size,
            )  # fmt: skip
            parts.append(share * cross_entropy)
        if self.recipe.hears_logits:
            assert isinstance(self.teacher, LiveTeacher)
            assert self.teacher_head is not None
            with teacher_clock(spent, student.hidden.device):
                aligned = aligned_batch(batch, self._teacher_reading)
            states_BUE = None
            if aligned.num_positions:
                inputs = {"input_ids": aligned.teacher_ids_BU}
                states_BUE = self.teacher.run(inputs, spent, num_tokens=aligned.num_teacher_tokens)[0]
            spent.train_flops += student.head_flops(aligned.num_positions, self.vocab_size)
            spent.teacher_flops += head_forward_flops(
                self.teacher_head, aligned.num_positions, self.teacher_vocab_size
            )
            with teacher_chunks(spent, student.hidden.device) as clock:
                loss = uld_loss(
                    aligned, student.hidden, student.head, states_BUE, self.teacher_head,
                    num_loss_tokens=num_loss_tokens, temperature=self.recipe.temperature, teacher_clock=clock,
                    student_vocab_size=self.vocab_size, teacher_vocab_size=self.teacher_vocab_size,
                )  # fmt: skip
            parts.append((1 - share) * loss)
        return torch.stack(parts).sum()

    @cached_property
    def _teacher_reading(self) -> TeacherReading:
        return TeacherReading(self.tokenizers[1])

    @property
    def _hears_live_logits(self) -> bool:
        """Whether a teacher reads the student's own tokens for them."""
        return (
            self.recipe.hears_logits and isinstance(self.teacher, LiveTeacher) and self.recipe.loss != "uld"
        )

    def _teacher_pass(
        self, batch: MicroBatch, spent: Spent
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor] | None]:
        assert isinstance(self.teacher, LiveTeacher)
        return self.teacher.run(
            batch.model_inputs(), spent, num_tokens=batch.num_tokens, with_layers=self.match is not None
        )

    def _vocab_sizes(self, head: OutputHead) -> tuple[int | None, int | None]:
        """The rows of both heads that stand for a token; None where every row is read."""
        if self.teacher is None:
            return None, None
        if isinstance(self.teacher, CachedTeacher):
            num_rows, cache = self.teacher.cache.manifest.vocab_size, self.teacher.cache.directory
            sizes = shared_sizes(head.num_rows, num_rows, self.tokenizers, teacher_rows_of="the cache")
            if sizes[1] not in (None, num_rows):
                raise UserError(
                    f"{cache}: holds the logits of {num_rows:,} rows, of which {sizes[1]:,} stand for a token",
                    f"capture again with vocab_size={sizes[1]}",
                )
            return sizes
        assert self.teacher_head is not None
        num_rows = self.teacher_head.num_rows
        if self.recipe.loss == "uld":
            return own_sizes(head.num_rows, num_rows, self.tokenizers)
        return shared_sizes(head.num_rows, num_rows, self.tokenizers, teacher_rows_of="the teacher's")

    def _hidden_state_match(self, model: Any) -> HiddenStateMatch:
        assert isinstance(self.teacher, LiveTeacher)
        assert self.recipe.hidden_states is not None
        student, teacher = model.config, causal_lm(self.teacher.model).config
        match = HiddenStateMatch(
            student.hidden_size,
            teacher.hidden_size,
            layer_pairs(student.num_hidden_layers, teacher.num_hidden_layers),
            kind=self.recipe.hidden_states.match,
            seed=self.seed,
        )
        match.to(device=model.device, dtype=model.dtype)
        return match


class StudentPass:
    """A student's forward pass on a batch: its states, its head, and what a use of the head takes."""

    def __init__(self, *, output: Any, head: OutputHead, batch: MicroBatch) -> None:
        self.hidden: torch.Tensor = output.last_hidden_state
        self.layers: Sequence[torch.Tensor] = output.hidden_states or ()
        self.head, self.batch = head, batch

    def head_flops(self, num_positions: int, vocab_size: int | None) -> int:
        """Forward, and as much again for each of the two gradients that is wanted."""
        trains_head = self.head.weight.requires_grad and torch.is_grad_enabled()
        gradients = int(self.hidden.requires_grad) + int(trains_head)
        return head_forward_flops(self.head, num_positions, vocab_size) * (1 + gradients)


def projector_flops(match: HiddenStateMatch, num_positions: int) -> int:
    """6 a weight and position: forward, and the gradients of the student's states and of the weight."""
    return 6 * num_positions * sum(int(weight.numel()) for weight in match.projectors)


def divergence_settings(recipe: Recipe) -> DivergenceSettings | None:
    """The recipe's divergence; None where its loss is none."""
    if recipe.loss in ("cross_entropy", "uld"):
        return None
    return DivergenceSettings(
        kind=recipe.loss,
        beta=recipe.beta,
        alpha=recipe.alpha,
        temperature=recipe.temperature,
        temperature_squared=recipe.temperature_squared,
        cross_entropy_weight=recipe.cross_entropy_weight,
    )


def require_teacher(recipe: Recipe, teacher: LiveTeacher | CachedTeacher | None) -> None:
    """Refuses a teacher of another kind than the recipe needs; one that nobody would hear is refused too."""
    needed: Any = type(None)
    if recipe.needs_logits:
        needed = CachedTeacher if recipe.logit_cache is not None else LiveTeacher
    if not isinstance(teacher, needed):
        names = {type(None): "no teacher", LiveTeacher: "a live teacher", CachedTeacher: "cached logits"}
        raise ValueError(
            f"loss `{recipe.loss}` of this recipe needs {names[needed]}, not {names[type(teacher)]}"
        )
    if recipe.hidden_states is not None and not isinstance(teacher, LiveTeacher):
        raise UserError("hidden_states: needs a live teacher: a logit cache holds no hidden states")


def require_apart(student: Any, teacher: Any) -> None:
    """A teacher that shares weights with its student would move with it, or freeze it."""
    held = {weight.data_ptr() for weight in weights_of(teacher)}
    if any(weight.data_ptr() in held for weight in weights_of(student)):
        raise UserError("teacher and student share weights", "load the teacher a second time")


def weights_of(model: Any) -> Iterator[torch.Tensor]:
    return (weight for weight in model.parameters() if weight.numel() and weight.device.type != "meta")
