"""Models that exist: whose code is not run, and how what is kept of them is read by transformers."""

import io
import json
from pathlib import Path

import pytest
import torch
from tests.text_models import write_given_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from stillmark.backends.stopping import end_ids_of
from stillmark.errors import UserError
from stillmark.models.build import load_model, save_model
from stillmark.models.given import given_config, given_model, given_tokenizer, loading
from stillmark.stages.adopt import add_ends

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_chat_model(folder: Path) -> Path:
    """Its template ends a reply with a token of its own, as Gemma's; the end token ends a text."""
    write_given_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("load", [given_config, given_model])
def test_code_that_comes_with_a_model_is_never_run_nor_asked_about(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A `y` that waits on standard input, as of `yes | stillmark`, is no leave to run it."""
    write_given_model(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import LlamaConfig as OwnConfig\n"
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "its_own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(UserError, match="brings code of its own, which is not run"):
        load(str(tmp_path))
    assert not ran.exists()


def test_what_is_kept_stops_where_its_chat_ends(tmp_path: Path):
    """At every end that was there and at the template's, in our engine and in transformers' own `generate`."""
    folder = write_chat_model(tmp_path / "given")
    settings = {"eos_token_id": [0, 7], "temperature": 0.6, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, tokenizer = given_model(str(folder)), given_tokenizer(str(folder))
    add_ends(model, tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    save_model(tmp_path / "kept", model, weights, tokenizer)
    assert end_ids_of(load_model(tmp_path / "kept"), tokenizer) == {0, 7, end}
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    assert kept.generation_config.eos_token_id == [0, 7, end]
    assert not kept.generation_config.do_sample
    kept.get_input_embeddings().weight.data.zero_()  # all logits alike but the end's, which is what is written then
    kept.model.norm.weight.data.zero_()
    kept.lm_head = torch.nn.Linear(32, len(tokenizer), bias=True)
    kept.lm_head.bias.data.zero_()[end] = 5.0
    written = kept.generate(torch.tensor([[3, 4]]), max_new_tokens=8)
    assert written[0].tolist() == [3, 4, end]


def test_a_gguf_file_without_its_library_says_what_to_install(tmp_path: Path):
    file = tmp_path / "model.gguf"
    file.touch()
    with pytest.raises(UserError) as raised, loading(str(file)):
        raise ImportError("Please install torch and gguf>=0.10.0")
    assert raised.value.hint == "pip install 'stillmark[llamacpp]'"
    assert "no such folder" not in raised.value.message


def test_a_folder_that_is_not_there_is_not_taken_for_the_hubs_fault():
    said = "there is no such folder here, and from the hub: no connection"
    with pytest.raises(UserError, match=said), loading("models/teecher"):
        raise OSError("no connection")
