"""Prices: each dated and sourced, the user's before ours, amounts against published bills."""

import datetime

import pytest

from stillmark.compute.hardware import devices
from stillmark.compute.prices import load_prices, shipped_prices
from stillmark.errors import UserError


def test_every_price_has_a_day_and_an_address():
    prices = shipped_prices()
    assert len(prices.gpu_hours) > 20
    for price in [*prices.gpu_hours, *prices.api_tokens]:
        assert datetime.date(2024, 1, 1) < price.read_on <= datetime.date(2026, 11, 25)
        assert price.source.startswith("https://"), price
    for price in prices.gpu_hours:
        assert price.device in devices()
        assert str(price.read_on) in str(price)


def test_a_published_bill():
    # The 4.310B kept tokens of R1's distillation data at R1's list price: about $9.4K.
    price = shipped_prices().api("deepseek-reasoner")
    assert price.answer_usd(input_tokens=0, output_tokens=4.310e9) == pytest.approx(9.4e3, rel=0.01)


def test_offers_are_sorted_and_the_middle_is_one_of_them():
    prices = shipped_prices()
    offers = prices.gpu_hour("h100-sxm")
    assert [o.usd for o in offers] == sorted(o.usd for o in offers)
    assert prices.middle_gpu_hour("h100-sxm") in offers
    assert prices.middle_gpu_hour("apple-m3") is None
    assert {o.provider for o in prices.gpu_hour("h100-sxm", "lambda")} == {"Lambda"}
    with pytest.raises(UserError, match="known: AWS, Azure"):
        prices.gpu_hour("h100-sxm", "Nobody")


def test_the_users_file_replaces_ours_for_what_it_names(tmp_path, monkeypatch):
    file = tmp_path / "prices.yaml"
    file.write_text(
        "gpu_hours:\n- {device: h100-sxm, provider: us, usd: 1.5, read_on: 2026-11-01, source: contract}\n"
        "api_tokens:\n- {model: In-House, vendor: us, input: 1, output: 2, read_on: 2026-11-01, source: us}\n"
        "electricity_usd_per_kilowatt_hour: 0.21\n"
    )
    monkeypatch.setenv("STILLMARK_PRICES", str(file))
    prices = load_prices()
    assert [p.usd for p in prices.gpu_hour("h100-sxm")] == [1.5]
    assert prices.gpu_hour("a100-sxm-80gb") == shipped_prices().gpu_hour("a100-sxm-80gb")
    assert prices.api("in-house").answer_usd(input_tokens=1e6, output_tokens=1e6) == 3
    assert prices.electricity_usd_per_kilowatt_hour == 0.21


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gpu_hours: [{device: h100-sxm, provider: us, usd: 2, source: us}]", "read_on: Field required"),
        (
            "gpu_hours: [{device: h1000, provider: us, usd: 2, source: us, read_on: 2026-01-01}]",
            "unknown device",
        ),
        (
            "gpu_hours: [{device: t4, provider: us, usd: -2, source: us, read_on: 2026-01-01}]",
            "greater than 0",
        ),
        ("gpu_hour: []", "Extra inputs"),
        ("{", "not readable as YAML"),
    ],
)
def test_a_wrong_price_file_is_refused(tmp_path, text, match):
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=match):
        load_prices(file)


def test_unknown_model_says_what_is_possible():
    with pytest.raises(UserError, match="did you mean `gpt-4o-mini`"):
        shipped_prices().api("gpt4o-mini")
    with pytest.raises(UserError, match="no price file"):
        load_prices("/nowhere/prices.yaml")
