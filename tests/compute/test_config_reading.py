"""Reading config.json: defaults and names as transformers has them, windows as it masks, refusals, files."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.compute.architectures import CASES, CONFIGS

from stillmark.compute.shapes import FAMILIES, load_shape, shape_from_config
from stillmark.errors import UserError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ALL = [pytest.param(config, id=name) for config, name in CASES]
FIRST = [pytest.param({"model_type": name, **variants[0]}, id=name) for name, variants in CONFIGS.items()]


def full_config(config: dict[str, Any]) -> Any:
    return transformers.AutoConfig.for_model(**config)


@pytest.mark.parametrize("config", ALL)
def test_the_file_that_transformers_writes_is_read_alike(config: dict[str, Any]):
    written = json.loads(full_config(config).to_json_string(use_diff=True))
    assert shape_from_config(written) == shape_from_config(config)


@pytest.mark.parametrize("config", FIRST)
def test_a_missing_key_is_what_transformers_takes_it_to_be(config: dict[str, Any]):
    for key in config.keys() - {"model_type", "vocab_size"}:
        less = {name: value for name, value in config.items() if name != key}
        try:
            mine = shape_from_config(less)
        except UserError:
            continue  # refused, not guessed
        try:
            theirs = full_config(less).to_dict()
        except Exception:
            continue  # transformers has no such model either
        assert mine == shape_from_config(theirs), key


@pytest.mark.parametrize("config", FIRST)
def test_sizes_are_never_guessed(config: dict[str, Any]):
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if key in config:
            less = {name: value for name, value in config.items() if name != key}
            with pytest.raises(UserError, match="has no"):
                shape_from_config(less)


WINDOWED = [
    pytest.param(config, id=name)
    for config, name in CASES
    if any(layer.attention.window for layer in shape_from_config(config).layers)
    and 7 in (config.get("sliding_window"), config.get("window_size"))
]


@pytest.mark.parametrize("config", WINDOWED)
def test_windows_are_where_transformers_masks(config: dict[str, Any]):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        full_config(config), attn_implementation="eager", experts_implementation="eager"
    )
    tokens = 11
    with torch.no_grad():
        out = model.eval()(torch.randint(3, 190, (1, tokens)), output_attentions=True, use_cache=False)
    read = [int((weights[0, 0, -1] > 0).sum()) for weights in out.attentions]
    assert read == [layer.attention.keys_read(tokens) for layer in shape_from_config(config).layers]


def test_two_thirds_of_the_windows_are_looked_at():
    assert len(WINDOWED) > 25


@pytest.mark.parametrize(
    "model_type", ["mamba", "jamba", "gemma3n_text", "qwen3_next", "llama4_text", "lfm2", "minimax", "dbrx"]
)
def test_other_architectures_are_refused_with_the_list_of_those_checked(model_type: str):
    with pytest.raises(UserError, match=r"checked: .*llama.*qwen3") as caught:
        shape_from_config({"model_type": model_type})
    assert "count_flops" in str(caught.value)


def test_no_other_causal_language_model_is_read():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert set(FAMILIES) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    for model_type in set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(FAMILIES):
        with pytest.raises(UserError, match="no FLOPs formula was checked"):
            shape_from_config({**CONFIGS["llama"][0], "model_type": model_type})


def test_a_spelling_is_suggested():
    with pytest.raises(UserError, match="did you mean `gpt_neox`"):
        shape_from_config({"model_type": "gptneox"})


@pytest.mark.parametrize(
    ("model_type", "change", "message"),
    [
        ("qwen3", {"layer_types": ["linear_attention"] * 5}, "linear_attention"),
        ("olmo3", {"layer_types": ["full_attention"]}, "a list of 5 layers"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("mixtral", {"num_experts_per_tok": 9}, "at most the 5 experts"),
        ("llama", {"per_layer_config": {"0": {"intermediate_size": 5}}}, "per_layer_config"),
        ("llama", {"hidden_size": "48"}, "a whole number"),
        ("llama", {"num_hidden_layers": 0}, "a whole number"),
        ("gpt2", {"hidden_size": 64}, "two values"),
        ("ctrl", {"n_head": 7}, "a multiple of the 7 heads"),
    ],
)
def test_features_without_a_checked_formula_are_refused(
    model_type: str, change: dict[str, Any], message: str
):
    with pytest.raises(UserError, match=message):
        shape_from_config({"model_type": model_type, **CONFIGS[model_type][0], **change})


def test_a_multimodal_config_points_to_its_text_part():
    text = {"model_type": "gemma3_text", **CONFIGS["gemma3_text"][0]}
    with pytest.raises(UserError, match="text_config"):
        shape_from_config({"model_type": "gemma3", "text_config": text})


def test_from_a_directory_or_a_file(tmp_path: Path):
    config = {"model_type": "llama", **CONFIGS["llama"][0]}
    full_config(config).save_pretrained(tmp_path)
    assert load_shape(tmp_path) == load_shape(tmp_path / "config.json") == shape_from_config(config)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"no config\.json at"):
        load_shape(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_shape(tmp_path)

    def no_hub(*args: Any, **kwargs: Any) -> str:
        raise OSError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_hub)
    with pytest.raises(UserError, match=r"could not be had from the hub: no connection"):
        load_shape("someone/some-model")
