"""Prefill and decode against what transformers executes as it generates with a KV cache. Exact."""

from typing import Any

import pytest
from tests.compute.architectures import CONFIGS

from stillmark.compute.flops import decode_flops, generate_flops, prefill_flops
from stillmark.compute.shapes import shape_from_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


def counted(config: dict[str, Any], prompt_tokens: int, new_tokens: int) -> int:
    """FLOPs that `generate` executes, eager, one sequence."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config),
        attn_implementation="eager",
        experts_implementation="batched_mm",
    ).eval()
    prompt = torch.randint(3, 190, (1, prompt_tokens))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return int(counter.get_total_flops())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(5, 1), (5, 8), (1, 4)])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen3", "phi", "qwen2_moe", "cohere"])
def test_generation_is_what_transformers_executes(model_type: str, prompt_tokens: int, new_tokens: int):
    config = {"model_type": model_type, **CONFIGS[model_type][0]}
    shape = shape_from_config(config)
    formula = generate_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    assert counted(config, prompt_tokens, new_tokens) == formula


@pytest.mark.filterwarnings("ignore")
def test_window_layers_read_their_window_in_decode():
    # With a rolling cache, one decode step reads at most the window: the formula as it is, no mask to undo.
    config = {"model_type": "mistral", **CONFIGS["mistral"][1]}
    shape = shape_from_config(config)
    assert shape.layers[0].attention.window == 7
    for prompt_tokens in (3, 7, 12):
        more = counted(config, prompt_tokens, 9) - counted(config, prompt_tokens, 1)
        assert more == decode_flops(shape, prompt_tokens=prompt_tokens, new_tokens=9)


@pytest.mark.filterwarnings("ignore")
def test_transformers_expands_the_latent_cache_again_at_every_step():
    # transformers 5 caches the compressed key-values and applies kv_b_proj to the whole context in each step.
    # The formula expands each token once (with_latent_cache() absorbs the expansion, as engines do).
    config = {"model_type": "deepseek_v3", **CONFIGS["deepseek_v3"][0]}
    shape = shape_from_config(config)
    prompt_tokens, new_tokens = 5, 8
    expansion = sum(
        2 * m.matmul_params for layer in shape.layers for m in layer.matmuls if m.name == "kv_b_proj"
    )
    again = sum(expansion * (prompt_tokens + step - 1) for step in range(1, new_tokens))
    formula = generate_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    assert counted(config, prompt_tokens, new_tokens) == formula + again


def test_absorbed_latent_attention():
    # DeepSeek-V3: 128 heads; scores over 512 + 64, values over 512, instead of 192 and 128; no other change.
    shape = shape_from_config(
        {
            "model_type": "deepseek_v3",
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "num_hidden_layers": 61,
            "num_attention_heads": 128,
            "vocab_size": 129280,
        }
    )
    served = shape.with_latent_cache()
    assert served.matmul_params == shape.matmul_params
    assert served.layers[0].attention.flops_per_key == 2 * 128 * (512 + 64 + 512)
    assert shape.layers[0].attention.flops_per_key == 2 * 128 * (192 + 128)
    more = decode_flops(served, prompt_tokens=1000, new_tokens=2) - decode_flops(
        shape, prompt_tokens=1000, new_tokens=2
    )
    assert more == 61 * 1001 * 2 * 128 * (1088 - 320)


def test_nothing_written_costs_nothing_and_one_token_is_the_prefill():
    shape = shape_from_config({"model_type": "llama", **CONFIGS["llama"][0]})
    assert generate_flops(shape, prompt_tokens=9, new_tokens=0) == 0
    assert generate_flops(shape, prompt_tokens=9, new_tokens=1) == prefill_flops(shape, prompt_tokens=9)
    more = prefill_flops(shape, prompt_tokens=9, scored_tokens=9) - prefill_flops(shape, prompt_tokens=9)
    assert more == 8 * 2 * 48 * 199
