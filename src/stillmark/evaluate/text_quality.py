"""How surprised a model is by held-out text, and how far its next-token distributions are from a teacher's."""

from dataclasses import dataclass
from typing import Any

import torch

from stillmark.backends.kernels import faster_linears
from stillmark.distill.head import OutputHead, checked_output_head
from stillmark.distill.identity import TokenSequence
from stillmark.distill.text import IGNORED
from stillmark.errors import UserError

POSITIONS_AT_ONCE = 256  # whose logits are held: 50 MB at a vocabulary of 49,152


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """Of one sequence, summed over its targets: nats of the text, and KL(teacher || model) where a teacher is."""

    nats: float
    teacher_kl_nats: float | None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A teacher's last hidden states (L, E) at the targets of one sequence, and its output head."""

    hidden_LE: torch.Tensor
    head: OutputHead


@torch.no_grad()
def hidden_states_of(model: Any, sequence: TokenSequence) -> torch.Tensor:
    """(L, D): what the model's head is applied to at the positions that have a target."""
    ids = torch.tensor([sequence.token_ids], device=model.device)
    with faster_linears(model):
        hidden: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    return hidden[torch.tensor(sequence.targets, device=hidden.device) != IGNORED]


class TextScorer:
    """Scores sequences with one model, whose head is checked once.

    `vocab_size`: how many tokens there are; the head's rows past them are padding and get no probability.
    """

    def __init__(self, model: Any, vocab_size: int) -> None:
        self.model, self.head = model.eval(), token_rows(checked_output_head(model), vocab_size)

    @torch.no_grad()
    def score(self, sequence: TokenSequence, judge: Judge | None = None) -> Surprise:
        """Sums in float64 over the sequence's targets."""
        hidden_LD = hidden_states_of(self.model, sequence)
        told = [target for target in sequence.targets if target != IGNORED]
        targets_L = torch.tensor(told, device=hidden_LD.device)
        nats = kl = 0.0
        for start in range(0, len(targets_L), POSITIONS_AT_ONCE):
            rows = slice(start, start + POSITIONS_AT_ONCE)
            log_p_LV = log_probabilities(self.head, hidden_LD[rows])
            nats -= float(log_p_LV.gather(1, targets_L[rows, None]).double().sum())
            if judge is not None:
                log_q_LV = log_probabilities(judge.head, judge.hidden_LE[rows])
                if log_p_LV.shape != log_q_LV.shape:
                    raise UserError(f"the model tells {log_p_LV.shape[1]} tokens apart, its teacher "
                                    f"{log_q_LV.shape[1]}: their distributions cannot be compared")  # fmt: skip
                kl += float((log_q_LV.exp() * (log_q_LV - log_p_LV)).double().sum())
        return Surprise(nats=nats, teacher_kl_nats=None if judge is None else kl)


def token_rows(head: OutputHead, vocab_size: int) -> OutputHead:
    """The head's rows that stand for tokens."""
    return head.detach().first_rows(min(vocab_size, head.num_rows))


def log_probabilities(head: OutputHead, hidden_LD: torch.Tensor) -> torch.Tensor:
    """(L, V) in nats."""
    logits = head.project(hidden_LD, hidden_LD.new_empty(len(hidden_LD), head.num_rows))
    return logits.log_softmax(-1)
