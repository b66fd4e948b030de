"""The Hugging Face configs of a study's models: of those that it makes, and of those that it prunes."""

from typing import Any

from stillmark.errors import UserError
from stillmark.study.schema import ModelSpec, PrunedModel


def model_config(spec: ModelSpec, vocab_size: int) -> dict[str, Any]:
    """The Hugging Face config of a study's model."""
    return {
        "model_type": spec.architecture,
        "vocab_size": vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.num_key_value_heads or spec.num_attention_heads,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def require_prunable(model: str, spec: PrunedModel, config: dict[str, Any]) -> None:
    """Refuses sizes above those of the model that is pruned, and one whose sizes have other names."""
    for size in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_key_value_heads"):
        if size not in config:
            raise UserError(f"models.{model}: {spec.pruned_from} cannot be pruned, as a {config['model_type']} has no "
                            f"`{size}`", hint="prune a Llama, Qwen, Mistral or one built like them")  # fmt: skip
        asked = getattr(spec, size)
        if asked is not None and asked > config[size]:
            raise UserError(
                f"models.{model}.{size}: is {asked:,}, but {spec.pruned_from} has {config[size]:,}"
            )


def pruned_config(spec: PrunedModel, config: dict[str, Any]) -> dict[str, Any]:
    """A given model's config with the sizes that are kept (`models/prune.py` makes the model itself)."""
    groups = spec.num_key_value_heads or config["num_key_value_heads"]
    heads_per_group = config["num_attention_heads"] // config["num_key_value_heads"]
    layers = spec.num_hidden_layers or config["num_hidden_layers"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    pruned = {
        **config,
        "num_hidden_layers": layers,
        "hidden_size": spec.hidden_size or config["hidden_size"],
        "intermediate_size": spec.intermediate_size or config["intermediate_size"],
        "num_key_value_heads": groups,
        "num_attention_heads": groups * heads_per_group,
        "head_dim": head_dim,
    }
    if pruned.get("layer_types"):
        pruned["layer_types"] = pruned["layer_types"][:layers]
    return pruned
