"""The faster matrix products against PyTorch's own."""

import copy

import pytest
import torch
from tests.onednn import always_onednn
from torch import nn

from stillmark.backends import attention, kernels


@pytest.fixture
def onednn(monkeypatch):
    always_onednn(monkeypatch)


@pytest.mark.parametrize("bias", [True, False])
def test_linears_give_the_same_and_are_put_back(onednn, bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 300, bias=bias), nn.ReLU(), nn.Linear(300, 100, bias=bias))
    model.requires_grad_(False)
    small, large = torch.randn(1, 2, 200), torch.randn(1, 90, 200).transpose(0, 1)
    expected = model(small), model(large)
    with kernels.faster_linears(model):
        assert "forward" in vars(model[0])
        results = model(small), model(large)
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert "forward" not in vars(model[0])


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_float64(onednn, bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 300, bias=bias), nn.GELU(), nn.Linear(300, 100, bias=bias))
    dense = copy.deepcopy(model).double()
    input = torch.randn(90, 2, 200).transpose(0, 1).requires_grad_()
    wide = input.detach().double().requires_grad_()
    judge = torch.randn(2, 90, 100)
    with kernels.faster_linears(model):
        output = model(input)
        assert "OneDnn" in type(output.grad_fn).__name__
        (output * judge).sum().backward()
    (dense(wide) * judge).sum().backward()
    torch.testing.assert_close(input.grad.double(), wide.grad, rtol=1e-4, atol=1e-4)
    for ours, truth in zip(model.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), truth.grad, rtol=1e-4, atol=1e-4)


def test_only_the_gradients_that_are_asked_for_are_made(onednn):
    layer, input = nn.Linear(256, 256), torch.randn(64, 256)
    layer.weight.requires_grad_(False)
    with kernels.faster_linears(layer):
        layer(input).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((256,), 64.0))


@pytest.mark.parametrize("shape", [(300, 128, 900), (300, 900, 128), (20, 30, 40)])
@pytest.mark.parametrize("is_turned", [True, False])
def test_products_in_every_layout(onednn, shape, is_turned):
    torch.manual_seed(0)
    rows, inner, columns = shape
    first = torch.randn(inner, rows).T if is_turned else torch.randn(rows, inner)
    for second in (torch.randn(inner, columns), torch.randn(columns, inner).T):
        found = kernels.product(first, second).double()
        torch.testing.assert_close(found, first.double() @ second.double(), rtol=1e-4, atol=1e-3)


def test_a_linear_that_someone_else_has_changed_is_left_alone(onednn):
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].forward = lambda input: input
    with kernels.faster_linears(model):
        assert torch.equal(model(torch.ones(8)), torch.ones(8))
    assert "forward" in vars(model[0])


@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_products_is_softmax_attention(onednn, masked):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 2, 1500, 16), torch.randn(1, 2, 90, 16), torch.randn(1, 2, 90, 16)
    mask = torch.where(torch.rand(1, 1, 1500, 90) < 0.5, 0.0, attention.MASKED) if masked else None
    assert attention.suits_products(query, key, value)
    output, lse = attention.attend_block(query, key, value, scaling=0.3, mask_NKQS=mask)
    scores = query.double() @ key.double().transpose(-1, -2) * 0.3 + (0 if mask is None else mask)
    torch.testing.assert_close(output.double(), scores.softmax(-1) @ value.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-5)


def test_merged_blocks_are_attention_to_both():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 5, 8), torch.randn(2, 2, 12, 8), torch.randn(2, 2, 12, 8)
    parts = [
        attention.attend_block(query, key[:, :, s], value[:, :, s], scaling=1.0)
        for s in (slice(0, 3), slice(3, 12))
    ]
    output, lse = attention.merge(*parts)
    scores = query @ key.transpose(-1, -2)
    torch.testing.assert_close(output, scores.softmax(-1) @ value)
    torch.testing.assert_close(lse, scores.logsumexp(-1))
