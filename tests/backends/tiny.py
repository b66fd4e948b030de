"""Tiny random models of many classes, and a character tokenizer: the whole engine on a CPU in seconds."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from stillmark.backends import attention

ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?!\n0123456789+-=*"
VOCAB_SIZE = 3 + len(ALPHABET)  # so that each token that a model may write has a text

SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}

# Model type -> what is special about it
PACKED = {
    "llama": {},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 7},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 5, "query_pre_attn_scalar": 8},
    "phi3": {"sliding_window": None},
    "gpt_neox": {"rotary_pct": 0.5},
    "olmo2": {},
    "cohere": {"logit_scale": 0.5},
    "gpt_oss": {"sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo3": {"sliding_window": 6},
    "smollm3": {"use_sliding_window": True, "sliding_window": 6, "no_rope_layer_interval": 2},
    "cohere2": {"sliding_window": 6},
}
LONGROPE = {  # beyond 32 positions the frequencies of the whole sequence are others
    "original_max_position_embeddings": 32,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
    },
}
PLAIN = {
    "mamba": {"state_size": 4, "num_hidden_layers": 2},
    "bloom": {"n_layer": 2, "n_head": 4},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "stablelm": {},
    "phimoe": {"sliding_window": 16, "num_local_experts": 4},  # wider than the trial of packed rows is long
    "falcon": {"alibi": True, "head_dim": None},
    "rwkv": {
        "attention_hidden_size": 32,
        "num_hidden_layers": 2,
    },  # in batches, transformers' rows change one another
}


def tiny_model(model_type: str, seed: int = 0, scale: float = 0.3, **more):
    """A random model whose next tokens are far from ties."""
    options = {**SMALL, **PACKED.get(model_type, {}), **PLAIN.get(model_type, {}), **more}
    if options["head_dim"] is None:
        del options["head_dim"]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **options)).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "A_log" not in name:
            parameter.data.normal_(0, scale)
    return model


def char_tokenizer(*, adds_bos: bool = False):
    """One token a character; 0 is padding, 1 the end, 2 the beginning."""
    vocab = {"<pad>": 0, "<eos>": 1, "<bos>": 2} | {c: i + 3 for i, c in enumerate(ALPHABET)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def without_fused_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's FLOP counter sees neither the CPU's fused attention nor oneDNN's products: the engine does without."""
    monkeypatch.setattr(attention, "has_cpu_kernels", lambda states: False)
    monkeypatch.setattr("stillmark.backends.pass_plan.causal_block", lambda *args, **options: None)
    monkeypatch.setattr("stillmark.backends.kernels.is_onednn_faster", lambda: False)
