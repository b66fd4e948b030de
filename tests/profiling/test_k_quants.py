"""K-quants: which matrix gets which format, beside what llama.cpp's own llama-quantize chose for the same models.

llama_quantize_choices.json was written by `llama_model_quantize` (src/llama-quant.cpp of xllamacpp
2026.10.11549's source, on the wheel's library) on made-up Llamas; one format for all layers is written once.
The bytes of all 268 tensors of the three models were equal to ours in all nine mixes when it was written.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from stillmark.errors import UserError
from stillmark.profiling.k_quants import MIXES, Mix, rounded

CHOICES = json.loads((Path(__file__).parent / "llama_quantize_choices.json").read_text())
MODELS = {  # layers, width, inner, query heads a key head, tied
    "tied, 16 layers, 256 wide, 4 heads a key": (16, 256, 256, 4, True),
    "untied, 9 layers, 256 wide, 2 heads a key": (9, 256, 512, 2, False),
    "tied, 4 layers, 96 wide, inner 256": (4, 96, 256, 3, True),
}
gguf = pytest.importorskip("gguf")


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("model", MODELS)
def test_every_matrix_gets_the_format_that_llama_quantize_gave_it(model, mix):
    layers, width, inner, heads_per_key, is_tied = MODELS[model]
    ours = Mix(name=mix, num_layers=layers, heads_per_key=heads_per_key, is_tied=is_tied)
    for part, theirs in CHOICES[model][mix].items():
        row = inner if part == "ffn_down" else width
        shape = (width,) if "norm" in part else (row, 64)
        if part.endswith("weight"):
            assert ours.format_of(part, shape) == theirs, part
            continue
        expected = theirs.split() if " " in theirs else [theirs] * layers
        got = [ours.format_of(f"blk.{layer}.{part}.weight", shape) for layer in range(layers)]
        assert got == expected, part


def test_llama_cpp_rounds_and_gguf_reads_it_back():
    """Two implementations: written by ggml's C, read by the gguf package's numpy. 6 bits: a step of 1/31 of a
    block's largest weight, so half a step and the float16 scale's own rounding is the most that is lost."""
    pytest.importorskip("xllamacpp")
    weights = np.random.default_rng(0).uniform(-1, 1, (8, 512)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q6_K
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = rounded(weights, "Q6_K", 512 // block * size, int(kind))
    back = gguf.quants.dequantize(data, kind)
    assert back.shape == weights.shape
    assert 0 < np.abs(back - weights).max() < 0.5 / 31 + 0.01


def test_a_library_without_the_quantiser_is_refused(monkeypatch):
    module = type("Module", (), {"__file__": np._core._multiarray_umath.__file__})
    monkeypatch.setattr("importlib.import_module", lambda name: module)
    with pytest.raises(UserError, match="does not export"):
        rounded(np.zeros((1, 256), dtype=np.float32), "Q6_K", 210, 14)


def test_models_with_other_rules_are_refused():
    header = {"general.architecture": "llama", "llama.block_count": 2, "llama.attention.head_count": 4}
    assert Mix.of("Q4_K_M", header, {"output.weight"}).is_tied is False
    with pytest.raises(UserError, match="not written here"):
        Mix.of("Q4_K_M", header, {"blk.0.ffn_up_exps.weight"})
    with pytest.raises(UserError, match="not written here"):
        Mix.of("Q4_K_M", header | {"llama.block_count": 80}, set())
