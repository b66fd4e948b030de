"""An objective's loss and gradient by brute force in float64: every method, many architectures, any cut of a batch."""

import pytest
import torch
from tests.distill.tiny_objective import (
    DIVERGENCES,
    V,
    bound,
    dense_loss,
    gradients,
    logits_of,
    recipe,
    rows,
    targets_of,
    teacher_of,
    tiny,
)
from torch.nn import functional

from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.spent import Spent
from stillmark.distill.text import IGNORED, micro_batches
from stillmark.errors import UserError

METHODS = [
    {"loss": "cross_entropy"},
    *({"loss": loss} for loss in DIVERGENCES),
    {"loss": "jsd", "beta": 0.2, "temperature": 1.7, "cross_entropy_weight": 0.3},
    {"loss": "skew_kl", "alpha": 0.4, "temperature": 0.6, "temperature_squared": True},
    {"loss": "forward_kl", "temperature": 3.0, "temperature_squared": True, "cross_entropy_weight": 0.8},
    {"loss": "reverse_kl", "cross_entropy_weight": 1.0},
]


@pytest.mark.parametrize("fields", METHODS, ids=str)
def test_loss_and_gradient_are_the_dense_ones(fields):
    wanted, student = recipe(**fields), tiny()
    teacher = teacher_of() if wanted.needs_logits else None
    value, got = gradients(bound(wanted, student, teacher), student)
    expected = dense_loss(wanted, student, teacher)
    assert value == pytest.approx(float(expected.detach()), rel=1e-12)
    wanted_gradients = torch.autograd.grad(expected, list(student.parameters()))
    torch.testing.assert_close(got, list(wanted_gradients), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("fields", [*METHODS, {"hidden_states": {"weight": 0.7}},
                                    {"hidden_states": {"match": "cosine"}, "loss": "jsd"}], ids=str)  # fmt: skip
def test_the_gradient_is_the_slope_of_the_loss(fields):
    """By finite differences in a random direction, projectors included: nothing of autograd is trusted."""
    wanted, student = recipe(**fields), tiny()
    objective = bound(wanted, student, teacher_of() if wanted.needs_logits else None)
    _, got = gradients(objective, student)
    generator = torch.Generator().manual_seed(0)
    weights = [*student.parameters(), *objective.parameters()]
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight.add_(direction, alpha=step)
        values.append(gradients(objective, student)[0])
    slope = sum(float((g * d).sum()) for g, d in zip(got, directions, strict=True))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-8)


ARCHITECTURES = {
    "gpt2": {},
    "llama": {},
    "gemma2": {"head_dim": 4, "final_logit_softcapping": 2.0, "sliding_window": 4},
    "qwen2": {"tie_word_embeddings": True},
    "cohere": {"logit_scale": 0.5},
    "granite": {"logits_scaling": 3.0},
    "gpt_neox": {},
    "opt": {"word_embed_proj_dim": 8, "ffn_dim": 20},
    "phi": {},
}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_any_architecture_is_read_through_its_own_head(model_type, side):
    """Softcap, scale, bias, tied embeddings, `transformer` for `model`: against the model's own logits."""
    other = tiny(model_type, seed=5, **ARCHITECTURES[model_type])
    student = other if side == "student" else tiny()
    teacher = teacher_of() if side == "student" else LiveTeacher(model=other, shape=teacher_of().shape)
    wanted = recipe(loss="jsd", cross_entropy_weight=0.4)
    value, got = gradients(bound(wanted, student, teacher), student)
    expected = dense_loss(wanted, student, teacher)
    wanted_gradients = list(torch.autograd.grad(expected, list(student.parameters())))
    exact = {"rtol": 1e-8, "atol": 1e-12} if model_type == "gpt2" else {"rtol": 1e-4, "atol": 1e-7}
    assert value == pytest.approx(float(expected.detach()), rel=1e-6)  # most norms are in float32
    torch.testing.assert_close(got, wanted_gradients, **exact)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_adapters_of_peft_are_trained_through_the_wrapper():
    from peft import LoraConfig, get_peft_model

    student = get_peft_model(tiny("llama"), LoraConfig(r=2, target_modules=["q_proj", "down_proj"])).double()
    for name, weight in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    teacher, wanted = teacher_of(), recipe(loss="reverse_kl", cross_entropy_weight=0.4)
    value, got = gradients(bound(wanted, student, teacher), student)
    expected = dense_loss(wanted, student, teacher)
    trained = [weight for weight in student.parameters() if weight.requires_grad]
    assert len(trained) == len(got) == 8
    assert value == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(got, list(torch.autograd.grad(expected, trained)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("match", ["mse", "cosine"])
def test_hidden_states_are_matched_beside_the_loss(match):
    """2 layers of width 8 towards layers 2 and 3 (round half to even) of 3 of width 12, by the objective's projectors."""
    wanted = recipe(loss="forward_kl", hidden_states={"weight": 0.3, "match": match})
    student, teacher = tiny(), teacher_of()
    objective = bound(wanted, student, teacher, seed=4)
    assert [tuple(weight.shape) for weight in objective.parameters()] == [(12, 8), (12, 8)]
    value, got = gradients(objective, student)
    total = count = 0
    for row in rows():
        keep = torch.tensor(row.sequence.targets) != IGNORED
        ids = torch.tensor([row.sequence.token_ids])
        mine = student(input_ids=ids, output_hidden_states=True).hidden_states
        theirs = teacher.model(input_ids=ids, output_hidden_states=True).hidden_states
        count += int(keep.sum())
        for layer, teacher_layer, projector in zip((1, 2), (2, 3), objective.parameters(), strict=True):
            left, right = mine[layer][0][keep] @ projector.T, theirs[teacher_layer][0][keep]
            if match == "mse":
                total = total + ((left - right) ** 2).sum() / 12
            else:
                cosine = (left * right).sum(-1) / (left.norm(dim=-1) * right.norm(dim=-1))
                total = total + (1 - cosine).sum()
    expected = dense_loss(wanted, student, teacher) + 0.3 * total / (2 * count)
    weights = [*student.parameters(), *objective.parameters()]
    assert value == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(got, list(torch.autograd.grad(expected, weights)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [METHODS[0], METHODS[1], METHODS[7], {"loss": "reverse_kl", "hidden_states": {}}],
    ids=str,
)
def test_no_cut_of_the_batch_changes_the_gradient(fields):
    """One micro-batch, several, one row each, and one with more padding; the teacher's too."""
    wanted, student = recipe(**fields), tiny()
    objective = bound(wanted, student, teacher_of() if wanted.needs_logits else None)
    whole, expected = gradients(objective, student)
    for max_positions, num_batches in ((26, 3), (1, 7)):
        assert len(micro_batches(rows(), 0, max_positions=max_positions)) == num_batches
        value, got = gradients(objective, student, max_positions=max_positions)
        assert value == pytest.approx(whole, rel=1e-12)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-13)
    total = sum(row.sequence.num_loss_tokens for row in rows())
    for weight in [*student.parameters(), *objective.parameters()]:
        weight.grad = None
    for batch in micro_batches(rows(), 0, max_positions=10_000, max_padding=5.0):
        assert len(batch.rows) == 7
        objective.loss(student, batch, total, Spent()).backward()
    got = [weight.grad for weight in [*student.parameters(), *objective.parameters()]]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-13)


def test_projectors_come_back_from_their_state_and_from_their_seed():
    wanted = recipe(hidden_states={})
    first, same, other = (bound(wanted, tiny(), teacher_of(), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.parameters()[0], other.parameters()[0])
    other.load_state({name: weight.clone() for name, weight in first.state().items()})
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert other.parameters()[0].requires_grad
    assert bound(recipe(), tiny()).state() == {}
    with pytest.raises(ValueError, match="projector"):
        bound(recipe(), tiny()).load_state(first.state())


def test_the_teacher_is_frozen_and_gives_the_same_each_time():
    dropout = tiny(seed=7, width=12, layers=3, attn_pdrop=0.5, resid_pdrop=0.5).train()
    teacher = teacher_of(dropout)
    assert not any(weight.requires_grad for weight in dropout.parameters())
    student, wanted = tiny(), recipe(loss="forward_kl")
    objective = bound(wanted, student, teacher)
    values = {gradients(objective, student)[0] for _ in range(3)}
    assert len(values) == 1
    assert values.pop() == pytest.approx(float(dense_loss(wanted, student, teacher).detach()), rel=1e-12)
    assert all(weight.grad is None for weight in dropout.parameters())
    dropout.train()
    with pytest.raises(RuntimeError, match="training mode"):
        gradients(objective, student)


def test_what_cannot_be_held_to_one_another_is_refused():
    model = tiny()
    with pytest.raises(UserError, match="share weights"):
        bound(recipe(loss="forward_kl"), model, teacher_of(model))
    for fields, teacher in (({"loss": "jsd"}, None), ({}, teacher_of()), ({"hidden_states": {}}, None)):
        with pytest.raises(ValueError, match="needs"):
            Objective(recipe(**fields), teacher)
    with pytest.raises(RuntimeError, match="bind"):
        gradients(Objective(recipe()), tiny())
    with pytest.raises(UserError, match="3 student layers"):
        bound(recipe(hidden_states={}), tiny(layers=3), teacher_of(tiny(seed=3, layers=2)))


def test_a_head_that_is_not_what_it_seems_is_refused_at_once():
    class Shifted(type(tiny())):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + torch.arange(V) / 10
            return output

    student = tiny()
    student.__class__ = Shifted
    with pytest.raises(UserError, match="not its hidden states times its head"):
        bound(recipe(), student)
    with pytest.raises(UserError, match="not its hidden states times its head"):
        Objective(recipe(loss="forward_kl"), teacher_of(student))


def test_dense_cross_entropy_is_transformers_own():
    """The reference of this file, against the loss that transformers computes."""
    student, row = tiny(), rows()[3]
    labels = torch.tensor([[IGNORED, *row.sequence.targets]])
    ids = torch.tensor([[*row.sequence.token_ids, row.sequence.targets[-1]]])
    expected = student(input_ids=ids, labels=labels).loss
    got = functional.cross_entropy(logits_of(student, row), targets_of(row))
    torch.testing.assert_close(got.float(), expected.float())  # which is computed in float32
