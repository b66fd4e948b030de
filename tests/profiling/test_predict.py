"""Predictions against arithmetic by hand, and the fit against times made from known slowdowns."""

import pytest
from tests.profiling.test_metrics import SMOLLM2

from stillmark.compute.hardware import device
from stillmark.compute.predictor import Limits, Observation, Slowdown, fitted, predict
from stillmark.profiling.workload import ModelFacts, Workload

LIMITS = Limits(name="x", flops_per_second=400e9, bytes_per_second=20e9, memory_bytes=2e8)


def facts(layers: int = 30, weight_bytes: float = 96_576_768.0) -> ModelFacts:
    return ModelFacts(
        name="m",
        engine="e",
        config=SMOLLM2 | {"num_hidden_layers": layers},
        weight_bytes_per_token=weight_bytes,
        cache_bytes_per_value=2.0,
        file_bytes=int(weight_bytes),
    )


def test_the_bound_by_hand():
    prediction = predict(facts(), Workload(prompt_tokens=256, new_tokens=64), LIMITS)
    # 106.2 M inner weights and a head of 28.3 M; attention 30 layers x 4·9·64·256² (PaLM, in full)
    matmul = 2 * (256 * 106_168_320 + 28_311_552)
    attention = 30 * 4 * 9 * 64 * 256 * 256
    assert prediction.ttft_seconds == pytest.approx((matmul + attention) / 400e9)
    assert prediction.decode_tokens_per_second == pytest.approx(20e9 / (96_576_768 + 23_040 * 288))
    assert prediction.memory_bytes == 96_576_768 + 23_040 * 320
    assert prediction.does_fit is True
    assert prediction.method == "estimated"


def test_fits_only_with_room_for_the_cache():
    long = Workload(prompt_tokens=4000, new_tokens=96)
    assert predict(facts(), long, LIMITS).does_fit is False  # 96.6 + 94.4 MB of 180
    assert predict(facts(), long, Limits(name="?", flops_per_second=None, bytes_per_second=None,
                                         memory_bytes=None)).does_fit is None  # fmt: skip


def test_unknown_stays_unknown():
    unknown = Limits(name="?", flops_per_second=None, bytes_per_second=None, memory_bytes=None)
    prediction = predict(facts(), Workload(prompt_tokens=8, new_tokens=8), unknown)
    assert prediction.ttft_seconds is None
    assert prediction.decode_tokens_per_second is None
    shapeless = ModelFacts(name="m", engine="e", weight_bytes_per_token=1e8)
    assert predict(shapeless, Workload(prompt_tokens=8, new_tokens=8), LIMITS).ttft_seconds is None


def test_a_fit_finds_the_slowdowns_that_made_the_times():
    truth = Slowdown(weights=1.7, cache=4.0, matmul=2.5, attention=6.0)
    seen = []
    for layers in (10, 30):
        for prompt in (256, 2048):
            workload = Workload(prompt_tokens=prompt, new_tokens=64)
            made = predict(facts(layers, 3.2e6 * layers), workload, LIMITS, truth)
            seen.append(
                Observation(facts=facts(layers, 3.2e6 * layers), workload=workload,
                            ttft_seconds=made.ttft_seconds, tpot_seconds=1 / made.decode_tokens_per_second)
            )  # fmt: skip
    found = fitted(seen, LIMITS, "here")
    assert (found.weights, found.cache) == pytest.approx((1.7, 4.0), rel=1e-6)
    assert (found.matmul, found.attention) == pytest.approx((2.5, 6.0), rel=1e-6)
    one = fitted(seen[:1], LIMITS, "here")
    assert one.weights == one.cache  # one number cannot tell two apart


def test_a_device_of_the_table():
    limits = Limits.of_device(device("h100-sxm"))
    assert limits.flops_per_second == pytest.approx(989.4e12)
    assert limits.flops_format == "bf16"
