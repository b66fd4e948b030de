"""Matching hidden states: by hand, by any split, and without a trace in the student."""

import pytest
import torch

from stillmark.distill.hidden_states import HiddenStateMatch, layer_pairs
from stillmark.errors import UserError


def states(width, seed, count=3):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, width, generator=g, dtype=torch.float64) for _ in range(count)]


TARGETS = torch.where(torch.arange(20).view(4, 5) % 3 == 0, -100, 1)
COUNT = int((TARGETS != -100).sum())


def test_by_hand_without_projectors():
    student, teacher = states(6, 0), states(6, 1)
    keep = TARGETS != -100
    mse = HiddenStateMatch(6, 6, [(1, 2)], kind="mse")(student, teacher, TARGETS, num_loss_tokens=COUNT)
    torch.testing.assert_close(mse, torch.nn.functional.mse_loss(student[1][keep], teacher[2][keep]))
    cosine = HiddenStateMatch(6, 6, [(1, 2), (2, 1)], kind="cosine")(
        student, teacher, TARGETS, num_loss_tokens=COUNT
    )
    ones = torch.ones(COUNT)
    expected = [
        torch.nn.functional.cosine_embedding_loss(student[a][keep], teacher[b][keep], ones)
        for a, b in ((1, 2), (2, 1))
    ]
    torch.testing.assert_close(cosine, sum(expected) / 2)
    assert not list(HiddenStateMatch(6, 6, [(1, 1)]).parameters())


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_any_split_gives_the_same_gradient_also_to_the_projectors(kind):
    student, teacher = states(6, 0), states(9, 1)
    match = HiddenStateMatch(6, 9, [(1, 1), (2, 2)], kind=kind).double()

    def gradients(parts):
        match.zero_grad()
        for rows in parts:
            loss = match(
                [s[rows] for s in student], [t[rows] for t in teacher], TARGETS[rows], num_loss_tokens=COUNT
            )
            loss.backward()
        return [parameter.grad.clone() for parameter in match.parameters()]

    whole = gradients([slice(0, 4)])
    assert len(whole) == 2
    torch.testing.assert_close(gradients([slice(i, i + 1) for i in range(4)]), whole)


def test_layers_are_spread_evenly():
    assert layer_pairs(3, 6) == [(1, 2), (2, 4), (3, 6)]
    assert layer_pairs(4, 4) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert layer_pairs(2, 5)[-1] == (2, 5)
    with pytest.raises(UserError, match="5 student layers"):
        layer_pairs(5, 4)
    with pytest.raises(UserError, match="did you mean `cosine`"):
        HiddenStateMatch(6, 6, [(1, 1)], kind="cosin")
