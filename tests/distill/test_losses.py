"""The fused losses against dense float64 autograd, TRL's stored values, and any split of the batch."""

import json

import pytest
import torch
from tests.onednn import always_onednn
from tests.paths import SHARED
from torch.nn import functional

from stillmark.distill import fused as machinery
from stillmark.distill.divergence import KINDS, divergence, value_and_gradient
from stillmark.distill.losses import DivergenceSettings, OutputHead, fused_cross_entropy, fused_divergence

SETTINGS = [
    *[DivergenceSettings(kind=kind) for kind in KINDS],
    *[DivergenceSettings(kind="jsd", beta=beta) for beta in (0.0, 0.1, 0.9, 1.0)],
    DivergenceSettings(kind="skew_kl", alpha=0.0),
    DivergenceSettings(kind="skew_reverse_kl", alpha=0.6, temperature=0.7),
    DivergenceSettings(
        kind="reverse_kl", temperature=2.0, temperature_squared=True, cross_entropy_weight=0.3
    ),
    DivergenceSettings(kind="jsd", temperature=1.5, cross_entropy_weight=1.0),
]


def name(settings: DivergenceSettings) -> str:
    return "-".join(str(value) for value in vars(settings).values())


def batch(
    num_tokens: int = 23, vocab_size: int = 37, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draws = {
        "hidden": torch.randn(num_tokens, 8, generator=g, dtype=torch.float64),
        "weight": torch.randn(vocab_size, 8, generator=g, dtype=torch.float64),
        "bias": torch.randn(vocab_size, generator=g, dtype=torch.float64),
        "teacher_hidden": torch.randn(num_tokens, 5, generator=g, dtype=torch.float64),
        "teacher_weight": torch.randn(vocab_size, 5, generator=g, dtype=torch.float64),
    }
    draws = {key: value.to(dtype) for key, value in draws.items()}
    targets = torch.randint(0, vocab_size, (num_tokens,), generator=g)
    targets[::4] = -100
    for key in ("hidden", "weight", "bias"):
        draws[key].requires_grad_()
    return draws | {"targets": targets}


def dense_loss(settings, logits, teacher_logits, targets, num_loss_tokens):
    kept = targets != -100
    value = divergence(settings, logits[kept], teacher_logits[kept]).sum() / num_loss_tokens
    hard = functional.cross_entropy(logits, targets, reduction="sum") / num_loss_tokens
    weight, squared = settings.cross_entropy_weight, settings.temperature_squared
    return (1 - weight) * value * (settings.temperature**2 if squared else 1) + weight * hard


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(machinery, "CHUNK_BYTES", 1)  # 16 positions: the batch takes two chunks


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_agrees_with_dense_autograd_in_float64(settings):
    b = batch()
    transforms = [(1.0, None), (0.5, None), (1.3, 2.0)]
    for scale, cap in transforms:
        head = OutputHead(weight=b["weight"], bias=b["bias"], logit_scale=scale, logit_softcap=cap)
        logits = (b["hidden"] @ b["weight"].T + b["bias"]) * scale
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        teacher_logits = b["teacher_hidden"] @ b["teacher_weight"].T
        inputs = [b["hidden"], b["weight"], b["bias"]]
        expected = dense_loss(settings, logits, teacher_logits, b["targets"], 20)
        expected_gradients = torch.autograd.grad(expected, inputs)
        result = fused_divergence(
            b["hidden"], head, b["teacher_hidden"], b["teacher_weight"], b["targets"],
            divergence=settings, num_loss_tokens=20,
        )  # fmt: skip
        torch.testing.assert_close(result.loss, expected, rtol=1e-12, atol=1e-13)
        gradients = torch.autograd.grad(3 * result.loss, inputs)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, 3 * wanted, rtol=1e-10, atol=1e-12)


def test_agrees_with_the_values_of_trl():
    if SHARED is None:
        pytest.skip("the shared notes with TRL's values are not here")
    cases = json.loads((SHARED / "peers/trl/trl_reference_values.json").read_text())["cases"]
    g = torch.Generator().manual_seed(0)
    shapes = [(11, 4), (11, 6), (2, 5, 4), (2, 5, 6)]
    head, teacher_head, hidden, teacher_hidden = (
        torch.randn(*shape, generator=g, dtype=torch.float64).float() for shape in shapes
    )
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0]]).bool()
    for case in cases:
        settings = DivergenceSettings(kind="jsd", beta=case["beta"], temperature=case["T"])
        student_hidden = hidden.clone().requires_grad_()
        result = fused_divergence(
            student_hidden, head, teacher_hidden, teacher_head, torch.where(mask, 1, -100),
            divergence=settings, num_loss_tokens=case["n_valid"],
        )  # fmt: skip
        result.loss.backward()
        assert result.loss.item() == pytest.approx(case["gkd"], rel=3e-6)
        assert student_hidden.grad.norm().item() == pytest.approx(case["gkd_gradnorm_hs"], rel=3e-6)


@pytest.mark.parametrize("vocab_size", [None, 30])
def test_cross_entropy_agrees_with_torch(vocab_size):
    b = batch()
    targets = b["targets"].clamp(max=29)
    logits = b["hidden"] @ b["weight"].T
    expected = functional.cross_entropy(logits[:, :vocab_size], targets, reduction="sum") / 17
    loss = fused_cross_entropy(b["hidden"], b["weight"], targets, num_loss_tokens=17, vocab_size=vocab_size)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    inputs = [b["hidden"], b["weight"]]
    for gradient, wanted in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_any_split_padding_or_packing_gives_the_same(settings):
    """One batch of 23 tokens = 23 batches of one = shuffled = padded to (3, 12): loss and gradients, to
    rounding.
    """
    b = batch()
    count = int((b["targets"] != -100).sum())

    def run(parts):
        total = 0.0
        for tensor in (b["hidden"], b["weight"]):
            tensor.grad = None
        for hidden, teacher_hidden, targets in parts:
            result = fused_divergence(
                hidden, b["weight"], teacher_hidden, b["teacher_weight"], targets,
                divergence=settings, num_loss_tokens=count,
            )  # fmt: skip
            result.loss.backward()
            total += result.loss.item()
        return torch.tensor(total, dtype=torch.float64), b["hidden"].grad.clone(), b["weight"].grad.clone()

    whole = run([(b["hidden"], b["teacher_hidden"], b["targets"])])
    ones = run(
        [(b["hidden"][i : i + 1], b["teacher_hidden"][i : i + 1], b["targets"][i : i + 1]) for i in range(23)]
    )
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    shuffled = run([(b["hidden"][order], b["teacher_hidden"][order], b["targets"][order])])
    # A padding position holds a copy of some other position's hidden state: it must not matter which.
    index = torch.tensor([*range(9), 0, 0, 0, *range(9, 18), 1, 1, 1, *range(18, 23), *[2] * 7]).view(3, 12)
    real = torch.tensor([*[1] * 9, *[0] * 3, *[1] * 9, *[0] * 3, *[1] * 5, *[0] * 7]).view(3, 12).bool()
    padded = run(
        [(b["hidden"][index], b["teacher_hidden"][index], torch.where(real, b["targets"][index], -100))]
    )
    for other in (ones, shuffled, padded):
        torch.testing.assert_close(other, whole, rtol=1e-12, atol=1e-14)


def test_a_frozen_head_gets_no_gradient_and_a_batch_without_targets_none_either():
    b = batch()
    loss = fused_cross_entropy(b["hidden"], b["weight"].detach(), b["targets"], num_loss_tokens=20)
    assert torch.autograd.grad(loss, b["hidden"])[0].abs().sum() > 0
    empty = fused_cross_entropy(b["hidden"], b["weight"], torch.full((23,), -100), num_loss_tokens=20)
    empty.backward()
    assert empty.item() == 0
    assert b["hidden"].grad.abs().sum() == 0
    with torch.no_grad():
        assert not fused_cross_entropy(
            b["hidden"], b["weight"], b["targets"], num_loss_tokens=20
        ).requires_grad


def test_wrong_input_is_refused():
    b = batch()
    with pytest.raises(ValueError, match="num_loss_tokens is 3"):
        fused_cross_entropy(b["hidden"], b["weight"], b["targets"], num_loss_tokens=3)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        fused_cross_entropy(b["hidden"], b["weight"], b["targets"] + 37, num_loss_tokens=90)


@pytest.mark.parametrize("with_onednn", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_and_bfloat16_are_near_float64(kind, with_onednn, monkeypatch):
    """Over many chunks: a sum of the head's gradient in bfloat16 would be off by tens of percent."""
    monkeypatch.setattr(machinery, "CHUNK_BYTES", 1)
    if with_onednn:
        always_onednn(monkeypatch)
    settings, gradients = DivergenceSettings(kind=kind, cross_entropy_weight=0.2), {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        b = batch(num_tokens=400, dtype=torch.bfloat16)  # the same rounded inputs for all
        tensors = {
            key: b[key].detach().to(dtype) for key in ("hidden", "weight", "teacher_hidden", "teacher_weight")
        }
        weight, hidden = tensors["weight"].requires_grad_(), tensors["hidden"].requires_grad_()
        result = fused_divergence(
            hidden, weight, tensors["teacher_hidden"], tensors["teacher_weight"], b["targets"],
            divergence=settings, num_loss_tokens=400,
        )  # fmt: skip
        result.loss.backward()
        gradients[dtype] = [result.loss.double(), weight.grad.double(), hidden.grad.double()]
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1.5e-2)):
        for got, wanted in zip(gradients[dtype], gradients[torch.float64], strict=True):
            assert (got - wanted).norm() < tolerance * wanted.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_near_float64_for_large_and_peaked_logits(kind):
    """Logits far from 0, all alike, as some models have them, and a mixture that is nearly one of its sides."""
    g = torch.Generator().manual_seed(0)
    for offset, scale, alpha in ((1e4, 3.0, 0.1), (50.0, 1e4, 0.99), (-200.0, 1.0, 0.5)):
        settings = DivergenceSettings(kind=kind, alpha=alpha)
        student = torch.randn(40, 100, generator=g) * scale + offset
        teacher = torch.randn(40, 100, generator=g) * scale
        exact = student.double().requires_grad_()
        value = divergence(settings, exact, teacher.double())
        value.sum().backward()
        got = value_and_gradient(settings, student, teacher)
        torch.testing.assert_close(got.double(), value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(student.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_autocast_takes_its_dtype():
    b = batch(dtype=torch.float32)
    plain = fused_cross_entropy(b["hidden"], b["weight"], b["targets"], num_loss_tokens=20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = fused_cross_entropy(b["hidden"], b["weight"], b["targets"], num_loss_tokens=20)
    cast.backward()
    assert b["weight"].grad.dtype == torch.float32
    assert cast.dtype == torch.float32
    assert cast.item() != plain.item()
    assert cast.item() == pytest.approx(plain.item(), rel=1e-2)


def test_a_second_backward_is_an_error_not_a_wrong_gradient():
    b = batch()
    loss = fused_cross_entropy(b["hidden"], b["weight"], b["targets"], num_loss_tokens=20)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="kept once"):
        loss.backward()
