"""Metrics against times worked out by hand, quantiles against scipy's binomial."""

import pytest
from scipy.stats import binom
from tests.paths import ROOT

from stillmark.compute.flops import decode_flops, prefill_flops
from stillmark.compute.inference import work_of
from stillmark.profiling import metrics
from stillmark.profiling.definitions import METRICS, metrics_page
from stillmark.profiling.quantiles import median_interval, outliers, quantile, upper_bound
from stillmark.profiling.roofline import Ceilings
from stillmark.profiling.workload import Batch, ModelFacts, Timeline, Workload

LINE = Timeline(prompt_tokens=100, token_seconds=(0.5, 0.6, 0.8, 1.1), end_seconds=1.2, first_answer_token=2)
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip


def test_one_request_by_hand():
    assert metrics.ttft_seconds(LINE) == 0.5
    assert metrics.ttfa_seconds(LINE) == 0.8
    assert metrics.tpot_seconds(LINE) == pytest.approx((1.1 - 0.5) / 3)  # LoadGen: first token excluded
    assert metrics.gaps_seconds(LINE) == pytest.approx([0.1, 0.2, 0.3])
    batch = Batch(timelines=(LINE,))
    assert metrics.prefill_tokens_per_second(batch) == pytest.approx(200)
    assert metrics.decode_tokens_per_second(batch) == pytest.approx(3 / 0.6)
    assert metrics.output_tokens_per_second(batch) == pytest.approx(4 / 1.2)


def test_a_batch_is_as_slow_as_its_slowest():
    later = Timeline(prompt_tokens=100, token_seconds=(0.9, 1.0, 1.3, 1.5), end_seconds=1.5)
    batch = Batch(timelines=(LINE, later))
    assert metrics.slowest_ttft_seconds(batch) == 0.9
    assert metrics.prefill_tokens_per_second(batch) == pytest.approx(200 / 0.9)
    assert metrics.decode_tokens_per_second(batch) == pytest.approx(6 / (1.5 - 0.5))


def test_what_cannot_be_known_is_left_out():
    one = Timeline(prompt_tokens=0, token_seconds=(0.5,), end_seconds=0.5, first_answer_token=None)
    assert metrics.tpot_seconds(one) is None
    values = metrics.values_of([Batch(timelines=(one,))])
    assert not {
        "tpot_seconds",
        "ttfa_seconds",
        "decode_tokens_per_second",
        "prefill_tokens_per_second",
    } & set(values)
    none = Timeline(prompt_tokens=5, token_seconds=(), end_seconds=0.1, error="no token")
    assert metrics.ttft_seconds(none) is None


def test_work_is_counted_by_the_formula_and_weights_are_read_once_a_step():
    facts = ModelFacts(name="m", engine="e", config=SMOLLM2, weight_bytes_per_token=96_576_768.0,
                       cache_bytes_per_value=2.0)  # fmt: skip
    workload = Workload(prompt_tokens=256, new_tokens=64, batch=4)
    work = work_of(facts, workload)
    assert facts.shape is not None
    assert work.prefill_flops == 4 * prefill_flops(facts.shape, prompt_tokens=256)
    whole = decode_flops(facts.shape, prompt_tokens=256, new_tokens=64)
    assert work.decode_flops_per_step == pytest.approx(4 * whole / 63)
    # 30 layers x 3 KV heads x (64 + 64) x 2 bytes = 23,040 bytes a position; mean context 256 + 32
    assert work.decode_bytes_per_step == 96_576_768 + 4 * 23_040 * 288


def test_roofline_is_the_slower_side():
    ceilings = Ceilings(threads=2, flops_per_second=100.0, bytes_per_second=10.0)
    assert ceilings.bound_seconds(200.0, 5.0) == 2.0
    assert ceilings.bound_seconds(200.0, 50.0) == 5.0
    assert ceilings.bound_seconds(None, 50.0) is None


@pytest.mark.parametrize("n", [6, 7, 10, 15, 16, 40, 101])
def test_the_median_interval_covers_what_it_says(n):
    ordered = list(range(1, n + 1))
    interval = median_interval([float(v) for v in ordered])
    rank = int(interval.low)
    assert interval.high == n + 1 - rank
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95 or rank == (n + 1) // 2  # and is no wider than need be


def test_few_samples_say_what_they_cover():
    interval = median_interval([1.0, 2.0, 9.0])
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 9.0)
    assert interval.confidence == pytest.approx(0.75)
    assert "75%" in interval.note
    assert median_interval([]) is None


def test_a_high_percentile_needs_samples():
    # 0.99**459 < 0.01 <= 0.99**458; 0.9**44 < 0.01 <= 0.9**43
    values = [float(v) for v in range(459)]
    assert upper_bound(values[:458], 0.99) is None
    assert upper_bound(values, 0.99) == 458.0
    assert upper_bound(values[:43], 0.90) is None
    assert upper_bound(values[:44], 0.90) == 43.0
    many = [float(v) for v in range(10_000)]
    assert quantile(many, 0.99) < upper_bound(many, 0.99) < quantile(many, 0.995)


def test_outliers_are_marked_not_removed():
    values = [1.0, 1.1, 0.9, 1.0, 1.05, 7.0]
    assert outliers(values) == [5]
    assert median_interval(values).high == 7.0


def test_the_page_is_written_from_the_definitions():
    assert (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8") == metrics_page()
    assert len(METRICS) > 20
