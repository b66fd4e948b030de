"""What a model is held to on a batch: cross-entropy, or what a teacher says, as its recipe says.

The loss tokens of a whole optimiser step divide every part of the loss, so that any cut of a batch into
micro-batches gives the same gradient.

FLOPs: the training loop counts the student's forward and backward with its head on every loss token. What an
objective runs beside or instead of that is added to `spent` here: the teacher's forward to `teacher_flops`;
projectors, and a head applied to more or fewer positions or rows, to `train_flops`.

Shape suffixes: B rows, T positions, D student's hidden size, E teacher's, L positions with a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
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
    capture_teacher,
    causal_lm,
    head_forward_flops,
)
from stillmark.distill.spent import Spent
from stillmark.distill.text import MicroBatch
from stillmark.distill.vocabulary import HasVocabulary, shared_vocabulary
from stillmark.errors import UserError
from stillmark.study.recipe import Recipe

__all__ = ["CachedTeacher", "LiveTeacher", "Objective", "capture_teacher"]


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
        student_tokenizer: HasVocabulary | None = None,
        teacher_tokenizer: HasVocabulary | None = None,
        seed: int = 0,
    ) -> None:
        self.recipe, self.teacher, self.seed = recipe, teacher, seed
        self.tokenizers = (student_tokenizer, teacher_tokenizer)
        self.divergence = divergence_settings(recipe)
        self.match: HiddenStateMatch | None = None
        self.vocab_size: int | None = None  # None: every row of the heads
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
        self.vocab_size = self._shared_vocab_size(head)
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
        """The parts of the loss, each with what it runs."""
        batch, settings = student.batch, self.divergence
        spent.train_flops += student.head_flops(batch.num_loss_tokens, self.vocab_size)
        hears_logits = settings is not None and settings.cross_entropy_weight < 1.0
        states = layers = None
        if isinstance(self.teacher, LiveTeacher) and (hears_logits or self.match is not None):
            states, layers = self.teacher.run(batch.model_inputs(), spent, with_layers=self.match is not None)
        common = {"num_loss_tokens": num_loss_tokens, "vocab_size": self.vocab_size}
        if settings is None or not hears_logits:
            loss = fused_cross_entropy(student.hidden, student.head, batch.targets_BT, **common)
        elif isinstance(self.teacher, CachedTeacher):
            targets = self.teacher.targets(batch.rows, student.hidden.device)
            loss = fused_cached_divergence(
                student.hidden, student.head, targets, batch.targets_BT, divergence=settings, **common
            ).loss
        else:
            assert states is not None
            assert self.teacher_head is not None
            spent.teacher_flops += head_forward_flops(
                self.teacher_head, batch.num_loss_tokens, self.vocab_size
            )
            loss = fused_divergence(
                student.hidden, student.head, states, self.teacher_head, batch.targets_BT,
                divergence=settings, **common,
            ).loss  # fmt: skip
        if self.match is None:
            return loss
        assert layers is not None
        assert self.recipe.hidden_states is not None
        spent.train_flops += projector_flops(self.match, batch.num_loss_tokens)
        match = self.match(student.layers, layers, batch.targets_BT, num_loss_tokens=num_loss_tokens)
        return loss + self.recipe.hidden_states.weight * match

    def _shared_vocab_size(self, head: OutputHead) -> int | None:
        """How many tokens both sides have; None where that is every row of the heads, or nobody is asked."""
        student_tokenizer, teacher_tokenizer = self.tokenizers
        if self.teacher is None:
            return None
        if isinstance(self.teacher, CachedTeacher):
            teacher_rows, source = self.teacher.cache.manifest.vocab_size, "the cache"
        else:
            assert self.teacher_head is not None
            teacher_rows, source = self.teacher_head.num_rows, "the teacher's head"
        if student_tokenizer is None or teacher_tokenizer is None:
            if head.num_rows != teacher_rows:
                raise UserError(
                    f"the student's output head has {head.num_rows:,} rows, {source} {teacher_rows:,}",
                    "give both tokenizers, so that it is known which rows stand for the same token",
                )
            return None
        shared = shared_vocabulary(
            student_tokenizer, teacher_tokenizer, student_rows=head.num_rows, teacher_rows=teacher_rows
        )
        if isinstance(self.teacher, CachedTeacher) and teacher_rows != shared.num_tokens:
            raise UserError(
                f"{self.teacher.cache.directory}: holds the logits of {teacher_rows:,} rows, "
                f"of which {shared.num_tokens:,} stand for a token",
                f"capture again with vocab_size={shared.num_tokens}",
            )
        return shared.num_tokens if shared.num_tokens < max(head.num_rows, teacher_rows) else None

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
    if recipe.loss == "cross_entropy":
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
