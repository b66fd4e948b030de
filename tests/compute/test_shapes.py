"""Shapes and formulas against transformers itself, on the meta device.

What both count must be equal to the digit: parameters, forward FLOPs, and forward + backward FLOPs.
What the counter counts and the formula does not: keys outside a sliding window, which eager attention
computes and masks; hence `without_windows()`. What the formula counts and the counter does not: nothing.
"""

from typing import Any

import pytest
from tests.compute.architectures import CASES, CONFIGS

from stillmark.compute.flops import forward_flops, train_flops
from stillmark.compute.shapes import FAMILIES, shape_from_config

transformers = pytest.importorskip("transformers")
from stillmark.models.count import count_model, meta_model  # noqa: E402

TOKENS = 11


ALL = [pytest.param(config, id=name) for config, name in CASES]
FIRST_FAST = [
    pytest.param(config, id=name, marks=[] if name.endswith("-0") else [pytest.mark.slow])
    for config, name in CASES
]


@pytest.mark.parametrize("config", ALL)
def test_parameters_are_those_that_transformers_makes(config: dict[str, Any]):
    model = meta_model(config)
    shape = shape_from_config(config)
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    assert shape == shape_from_config(model.config.to_dict()), "with and without defaults"


@pytest.mark.parametrize("config", FIRST_FAST)
def test_formula_is_what_the_meta_device_counts(config: dict[str, Any]):
    executed = shape_from_config(config).without_windows()
    assert count_model(meta_model(config), TOKENS) == (
        forward_flops(executed, tokens=TOKENS),
        train_flops(executed, tokens=TOKENS),
    )


def test_every_architecture_is_checked():
    assert set(CONFIGS) == set(FAMILIES)
