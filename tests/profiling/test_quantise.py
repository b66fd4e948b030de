"""GGUF variants: against the definition of each format, and the text that two engines write from one model."""

import json

import numpy as np
import pytest

from stillmark.compute.gguf_file import read_gguf
from stillmark.errors import UserError
from stillmark.profiling.convert_hf import paired, splitting_rule
from stillmark.profiling.quantise import format_of, quantise

gguf = pytest.importorskip("gguf")
BITS = {"Q8_0": 8.5, "Q5_1": 6.0, "Q5_0": 5.5, "Q4_1": 5.0, "Q4_0": 4.5, "F16": 16.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny Llama with random weights and a byte-level BPE trained on one line."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("hf") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ran after the cat"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|end|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, eos_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder


def test_sizes_are_those_of_the_formats(directory, tmp_path):
    for format, bits in BITS.items():
        made = quantise(directory, tmp_path / f"{format}.gguf", format)
        assert not made.was_quantised
        file = read_gguf(made.path)
        matrix = "blk.0.ffn_up.weight"
        assert file.tensor_bytes[matrix] == 64 * 96 * bits / 8
        assert file.tensor_formats[matrix] == format == file.weight_format
        assert file.tensor_formats["blk.0.attn_norm.weight"] == "F32"
        assert file.tensor_formats["token_embd.weight"] == ("F16" if format == "F16" else "Q8_0")


def test_the_header_gives_the_shape_of_the_config(directory, tmp_path):
    from stillmark.compute.shapes import load_shape

    quantise(directory, tmp_path / "x.gguf", "F32")
    file = read_gguf(tmp_path / "x.gguf")
    from stillmark.compute.shapes import shape_from_config

    assert shape_from_config(file.config) == load_shape(directory)
    assert file.weight_bytes_per_token == 4 * load_shape(directory).params  # tied: the table is the head


def test_q4_0_rounds_by_its_definition(directory, tmp_path):
    """Blocks of 32: d = the value of largest size / -8 in float16, q = round(x/d) + 8 in 0..15."""
    quantise(directory, tmp_path / "f.gguf", "F32")
    quantise(tmp_path / "f.gguf", tmp_path / "q.gguf", "Q4_0")
    whole = {t.name: t for t in gguf.GGUFReader(str(tmp_path / "f.gguf")).tensors}["blk.1.attn_v.weight"]
    small = {t.name: t for t in gguf.GGUFReader(str(tmp_path / "q.gguf")).tensors}["blk.1.attn_v.weight"]
    blocks = np.asarray(whole.data, dtype=np.float32).reshape(-1, 32)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1, keepdims=True), 1)
    scale = largest / -8
    codes = np.clip(np.trunc(blocks / scale + 8.5), 0, 15)
    expected = (codes - 8) * scale.astype(np.float16).astype(np.float32)
    got = gguf.quants.dequantize(small.data, small.tensor_type).reshape(-1, 32)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_quantising_twice_says_so(directory, tmp_path):
    quantise(directory, tmp_path / "a.gguf", "Q4_0")
    again = quantise(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0")
    assert again.was_quantised
    assert read_gguf(tmp_path / "b.gguf").metadata["general.name"] == "tiny"


def test_a_k_quant_of_a_directory_runs_in_llama_cpp(directory, tmp_path):
    pytest.importorskip("xllamacpp")
    from stillmark.profiling.remote import RemoteEngine
    from stillmark.profiling.workload import EngineSpec, Workload

    made = quantise(directory, tmp_path / "k.gguf", "Q4_K_M")
    # 64 wide: no block of 256 fits, so llama.cpp's rule gives Q5_0, and Q8_0 where a mix asks for Q6_K
    formats = read_gguf(made.path).tensor_formats
    assert {formats["blk.0.ffn_up.weight"], formats["token_embd.weight"]} == {"Q5_0", "Q8_0"}
    remote = RemoteEngine(EngineSpec(engine="llamacpp", model=str(made.path), threads=1, context_tokens=64))
    line = remote.run(Workload(prompt_tokens=8, new_tokens=4), 0).timelines[0]
    remote.close()
    assert (line.error, line.prompt_tokens, line.new_tokens) == (None, 8, 4)


def test_llama_cpp_and_transformers_write_the_same_text(directory, tmp_path):
    pytest.importorskip("xllamacpp")
    from stillmark.profiling.remote import RemoteEngine
    from stillmark.profiling.workload import EngineSpec

    quantise(directory, tmp_path / "f.gguf", "F32")
    texts = []
    for engine, model in (("llamacpp", str(tmp_path / "f.gguf")), ("transformers", str(directory))):
        remote = RemoteEngine(EngineSpec(engine=engine, model=model, threads=1, context_tokens=64))
        line = remote.answer("the cat sat on", 12)
        remote.close()
        assert line.error is None
        texts.append((line.prompt_tokens, line.text))
    assert texts[0] == texts[1]


def test_pairs_and_halves():
    rows = np.array([0, 1, 2, 10, 11, 12])  # one head: x0 x1 x2 y0 y1 y2
    assert paired(rows, 1).tolist() == [0, 10, 1, 11, 2, 12]


def test_what_is_not_known_is_refused(directory, tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        quantise(directory, tmp_path / "x.gguf", "IQ4_XS")
    with pytest.raises(UserError, match="splitting rule"):
        splitting_rule({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Whitespace"}})
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UserError, match="not converted to GGUF here"):
        quantise(other, tmp_path / "x.gguf", "Q8_0")
    assert (
        format_of("blk.0.ffn_up.weight", (48, 64), "Q4_0", is_tied=True) == "F16"
    )  # 48 is no multiple of 32
