"""`stillmark flops` on a config as published, against published counts."""

import json
from pathlib import Path

from tests.conftest import run_stillmark

LLAMA_8B = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip


def test_llama_8b_by_formula_and_by_rule_of_thumb(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    counts = json.loads(run_stillmark("flops", tmp_path, "--tokens", "8192", "--json").stdout)
    assert counts["params"] == 8_030_261_248  # the model's own count on the hub
    assert counts["six_nd_flops"] == 6 * 8_030_261_248 * 8192
    # 6 a matmul weight and 12 L D T a token (PaLM, arXiv:2204.02311, appendix B)
    by_hand = 8192 * (6 * (8_030_261_248 - 128256 * 4096 - 65 * 4096) + 12 * 32 * 4096 * 8192)
    assert counts["train_flops"] == by_hand
    assert counts["six_nd_difference"] == counts["six_nd_flops"] / by_hand - 1


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_8B, "model_type": "llama_of_tomorrow"}))
    done = run_stillmark("flops", tmp_path)
    assert done.returncode == 2
    assert "llama_of_tomorrow" in done.stderr
    assert "Traceback" not in done.stderr
