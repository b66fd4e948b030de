"""Training FLOPs against autograd on the meta device: frozen parts, adapters, recomputation. Exact."""

from typing import Any

import pytest
from tests.compute.architectures import CONFIGS

from stillmark.compute.backward import lora_params
from stillmark.compute.flops import Frozen, Lora, Recompute, forward_flops, train_flops
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError

torch = pytest.importorskip("torch")
from stillmark.distill.counting import recompute_of  # noqa: E402
from stillmark.models.count import count_model, meta_model  # noqa: E402

TOKENS = 11
ARCHITECTURES = ["llama", "gpt2", "olmo2", "cohere"]
MORE = [
    "olmo",
    "phi",
    "qwen2_moe",
    "deepseek_v3",
    "falcon",
    "nanochat",
    "gpt_neox",
    "opt",
    "bloom",
    "exaone4",
]


def config_of(model_type: str) -> dict[str, Any]:
    return {"model_type": model_type, **CONFIGS[model_type][0]}


def freeze(model: Any, frozen: Frozen) -> None:
    """The same on the module: embeddings (BLOOM has a norm on them), first layers, head with its norm."""
    body = getattr(model.base_model, "decoder", model.base_model)
    parts = dict(body.named_children())
    layers = next(name for name, part in parts.items() if isinstance(part, torch.nn.ModuleList))
    embeddings = {name for name, part in parts.items() if isinstance(part, torch.nn.Embedding)}
    embeddings |= {"word_embeddings_layernorm"} & parts.keys()
    for layer in parts[layers][: frozen.layers]:
        layer.requires_grad_(False)
    if frozen.embedding:
        for name in embeddings:
            parts[name].requires_grad_(False)
    if frozen.head:
        model.get_output_embeddings().requires_grad_(False)
        for name in parts.keys() - embeddings - {layers}:
            parts[name].requires_grad_(False)


@pytest.mark.parametrize(
    "model_type", [*ARCHITECTURES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
@pytest.mark.parametrize(
    "frozen",
    [
        Frozen(embedding=True),
        Frozen(embedding=True, layers=2),
        Frozen(layers=3),
        Frozen(embedding=True, layers=5),
        Frozen(embedding=True, head=True),
        Frozen(embedding=True, layers=1, head=True),
    ],
    ids=str,
)
def test_frozen_parts(model_type: str, frozen: Frozen):
    config = config_of(model_type)
    model = meta_model(config)
    freeze(model, frozen)
    shape = shape_from_config(config).without_windows()
    assert count_model(model, TOKENS)[1] == train_flops(shape, tokens=TOKENS, frozen=frozen)


LORA_TARGETS = [
    ("llama", ("q_proj", "v_proj")),
    ("llama", ("k_proj",)),
    ("llama", ("v_proj",)),
    ("llama", ("o_proj", "down_proj")),
    ("llama", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    ("gpt2", ("c_attn",)),
    ("gpt2", ("c_proj",)),
    ("phi3", ("qkv_proj", "gate_up_proj")),
    ("cohere", ("up_proj",)),
    ("gpt_neox", ("dense_h_to_4h",)),
    ("falcon", ("query_key_value", "dense")),
    ("deepseek_v3", ("q_a_proj", "kv_b_proj")),
    ("deepseek_v3", ("kv_a_proj_with_mqa",)),
    ("qwen2_moe", ("q_proj", "v_proj")),
]


@pytest.mark.parametrize(("model_type", "targets"), LORA_TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_lora_is_what_peft_does(model_type: str, targets: tuple[str, ...]):
    peft = pytest.importorskip("peft")
    config = config_of(model_type)
    base = meta_model(config)
    adapted = peft.get_peft_model(
        base,
        peft.LoraConfig(r=3, target_modules=list(targets), fan_in_fan_out=model_type == "gpt2"),
        low_cpu_mem_usage=True,
    )
    shape, lora = shape_from_config(config).without_windows(), Lora(rank=3, targets=targets)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == lora_params(shape, lora)
    assert count_model(adapted, TOKENS)[1] == train_flops(shape, tokens=TOKENS, lora=lora)


@pytest.mark.parametrize("targets", [("q_porj",), ("gate_proj",), ("experts.gate_up_proj",), ("gate",)])
def test_lora_on_what_was_not_checked_is_refused(targets: tuple[str, ...]):
    shape = shape_from_config(config_of("deepseek_v3"))
    with pytest.raises(UserError, match="LoRA target"):
        train_flops(shape, tokens=TOKENS, lora=Lora(rank=3, targets=targets))


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "deepseek_v3", "olmo2"])
def test_gradient_checkpointing(model_type: str):
    config = config_of(model_type)
    model = meta_model(config)
    shape = shape_from_config(config).without_windows()
    whole = train_flops(shape, tokens=TOKENS, recompute=Recompute.LAYERS)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    assert count_model(model, TOKENS)[1] == whole
    # The other kind, transformers' default, stops when all it needs is there: the last product of a layer is
    # left out, unless something that keeps it (a dropout, a norm) comes after. The formula counts the layer.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    last = sum(2 * TOKENS * layer.matmuls[-1].matmul_params for layer in shape.layers)
    stops_early = model_type in ("llama", "deepseek_v3")
    assert count_model(model, TOKENS)[1] == whole - last * stops_early
    kind = Recompute.LAYERS_BUT_LAST_PRODUCT if stops_early else Recompute.LAYERS
    assert train_flops(shape, tokens=TOKENS, recompute=kind) == whole - last * stops_early
    assert recompute_of(config, shape) is kind


def test_selective_recomputation_adds_scores_and_values():
    shape = shape_from_config(config_of("llama"))
    attention = forward_flops(shape, tokens=TOKENS) - 2 * TOKENS * shape.matmul_params
    more = train_flops(shape, tokens=TOKENS, recompute=Recompute.ATTENTION) - train_flops(
        shape, tokens=TOKENS
    )
    assert more == attention


def test_a_tied_head_is_not_frozen_alone():
    shape = shape_from_config(config_of("gpt2"))
    with pytest.raises(UserError, match="tied"):
        train_flops(shape, tokens=TOKENS, frozen=Frozen(head=True))
