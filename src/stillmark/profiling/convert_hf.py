"""A Hugging Face directory to a float GGUF file: Llama, Mistral, Qwen2 and Qwen3 with byte-level BPE.

What llama.cpp's own converter does, for the models that Stillmark trains. Three things must be right or the
model speaks nonsense: rows of query and key matrices are reordered for Llama (llama.cpp rotates pairs next to
each other, transformers halves); the pre-tokenizer has the name of llama.cpp's own splitting rule; norms stay
float32. What is not known to be right is refused. The end-to-end check is the text: both engines must write
the same (tests/profiling/test_quantise.py).

Models of question studies have whole words for tokens, which no tokenizer of llama.cpp reads. With `is_by_ids` their
vocabulary is written too, as a list without rules: such a file takes and gives token ids, and is for the study alone.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillmark.errors import UserError

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
PERMUTED = ("llama", "mistral")
SPACE = "\u0120"  # how byte-level BPE writes one
NORMAL_TOKEN, CONTROL_TOKEN, USER_TOKEN = 1, 3, 4


def float_gguf_of(source: Path, target: Path, *, is_by_ids: bool = False) -> None:
    """Write `source` with its weights in float32."""
    gguf: Any = importlib.import_module("gguf")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    require_convertible(config, str(source))
    architecture = getattr(gguf.MODEL_ARCH, ARCHITECTURES[config["model_type"]])
    writer = gguf.GGUFWriter(str(target), gguf.MODEL_ARCH_NAMES[architecture])
    _add_parameters(writer, config, source.name)
    _add_tokenizer(gguf, writer, source, int(config["vocab_size"]), is_by_ids=is_by_ids)
    _add_tensors(gguf, writer, source, config, architecture)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def require_convertible(config: Mapping[str, Any], model: str) -> None:
    """Refuses, in a line that names `model`, an architecture that is not known to come out right."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise UserError(
            f"{model}: model_type `{kind}` is not converted to GGUF here (converted: {', '.join(ARCHITECTURES)})",
            hint="make the GGUF file with llama.cpp's convert_hf_to_gguf.py",
        )
    scaling = (
        config.get("rope_scaling") or config.get("rope_parameters") or {}
    )  # the latter since transformers 5
    if (scaling.get("rope_type") or scaling.get("type") or "default") != "default":
        raise UserError(f"{model}: rope scaling `{scaling}` is not converted to GGUF here")


def _add_parameters(writer: Any, config: dict[str, Any], name: str) -> None:
    heads = int(config["num_attention_heads"])
    head_size = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = config.get("rope_parameters") or {}
    writer.add_name(name)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_quantization_version(2)


def _add_tokenizer(gguf: Any, writer: Any, source: Path, vocab_size: int, *, is_by_ids: bool) -> None:
    path = source / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{source} has no tokenizer.json", hint="save a fast tokenizer beside the model")
    described = json.loads(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = dict(described["model"].get("vocab") or {})
    added = {entry["content"]: entry for entry in described.get("added_tokens", [])}
    vocabulary |= {content: int(entry["id"]) for content, entry in added.items()}
    words = {index: word for word, index in vocabulary.items()}
    tokens = [words.get(index, f"[PAD{index}]") for index in range(vocab_size)]
    kinds = []
    for token in tokens:
        entry = added.get(token)
        kinds.append(NORMAL_TOKEN if entry is None else CONTROL_TOKEN if entry["special"] else USER_TOKEN)
    is_words = is_by_ids and described["model"].get("type") == "WordLevel"
    if is_words:
        tokens = [SPACE + token for token in tokens]  # what is written comes out as words with spaces between
        writer.add_token_merges(
            [f"{SPACE} {SPACE}"]
        )  # the loader asks for one; no token of the list comes of it
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2" if is_words else splitting_rule(described))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(source, load_merges=not is_words, n_vocab=vocab_size)
    special.add_to_gguf(writer, quiet=True)
    writer.add_add_bos_token(False)


def splitting_rule(described: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json; a UserError for one not known to be equal."""
    if described["model"].get("type") != "BPE":
        raise UserError(
            f"a tokenizer of type {described['model'].get('type')} is not converted here, only BPE"
        )
    rule = described.get("pre_tokenizer") or {}
    steps = rule.get("pretokenizers") or [rule]
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        pattern = steps[0].get("pattern", {}).get("Regex", "")
        if "\\p{N}{1,3}" in pattern and "(?i:" in pattern:
            return "llama-bpe"
        if "|\\p{N}|" in pattern and "(?i:" in pattern:
            return "qwen2"
    raise UserError(f"no splitting rule of llama.cpp is known to equal this pre-tokenizer: {kinds}")


def _add_tensors(gguf: Any, writer: Any, source: Path, config: dict[str, Any], architecture: Any) -> None:
    import torch
    from safetensors import safe_open

    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise UserError(f"{source} has no safetensors", hint="save the model with save_pretrained")
    names = gguf.get_tensor_name_map(architecture, int(config["num_hidden_layers"]))
    heads = int(config["num_attention_heads"])
    groups = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
    is_permuted = config["model_type"] in PERMUTED
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if ours is None:
                    raise UserError(f"{file}: llama.cpp has no place for the tensor `{name}`")
                tensor = tensors.get_tensor(name).to(torch.float32)
                projection = name.split(".")[-2]
                if is_permuted and projection in groups:
                    tensor = paired(tensor, groups[projection])
                writer.add_tensor(ours, tensor.contiguous().numpy())


def paired(tensor: Any, num_heads: int) -> Any:
    """Rows of each head from halves (x0..xn y0..yn) to pairs (x0 y0 x1 y1 ...), as llama.cpp rotates them."""
    halves = tensor.reshape(num_heads, 2, tensor.shape[0] // num_heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)
