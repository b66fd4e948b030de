"""llama.cpp and transformers on one GGUF file: a tiny random Llama in float32, written here."""

from pathlib import Path

import numpy as np
import pytest

from stillmark.backends.llamacpp import LlamaCppBackend
from stillmark.backends.protocol import Sampling, StopReason
from stillmark.backends.transformers import load_backend
from stillmark.errors import UserError

pytest.importorskip("xllamacpp", reason="needs the extra `llamacpp`")
gguf = pytest.importorskip("gguf")

WIDTH, FFN, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 4, 2
pytestmark = pytest.mark.filterwarnings("ignore")


def byte_characters() -> list[str]:
    """The printable stand-ins for the 256 bytes in GPT-2's byte-level vocabularies."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    stands = {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [stands[byte] for byte in range(256)]


def write_tiny_gguf(path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = [*byte_characters(), "ab", "Ġa", "<eos>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)

    def add(name: str, *shape: int) -> None:
        is_norm = "norm" in name
        data = np.ones(shape) if is_norm else rng.normal(0, 0.25, shape)
        writer.add_tensor(name, data.astype(np.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    kv_width = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        shapes = {
            "attn_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (kv_width, WIDTH),
            "attn_v": (kv_width, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (FFN, WIDTH),
            "ffn_up": (FFN, WIDTH),
            "ffn_down": (WIDTH, FFN),
        }
        for name, shape in shapes.items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return LlamaCppBackend(path, num_threads=1, window_tokens=256), load_backend(str(path))


def test_loglikelihoods_are_those_of_transformers(both):
    ours, theirs = both
    requests = [
        ("abc d", " abx"),
        ("abc d", " efg"),
        ("abc d", "Z"),
        ("abc d ", "y"),
        ("", "ab c"),
        ("abc", "é🦞"),
    ]
    for a, b in zip(ours.loglikelihood(requests), theirs.loglikelihood(requests), strict=True):
        # llama.cpp keeps keys and values in float16
        assert a.loglikelihood == pytest.approx(b.loglikelihood, abs=0.02)
        assert (a.is_greedy, a.prompt_tokens, a.continuation_tokens) == (
            b.is_greedy,
            b.prompt_tokens,
            b.continuation_tokens,
        )


def test_greedy_texts_are_those_of_transformers(both):
    ours, theirs = both
    sampling = Sampling(max_new_tokens=12)
    prompts = ["abc", "Hello there", "1 + 1 ="]
    for [a], [b] in zip(ours.generate(prompts, sampling), theirs.generate(prompts, sampling), strict=True):
        assert a.text == b.text
        assert (a.stop_reason, a.prompt_tokens, a.generated_tokens) == (
            b.stop_reason,
            b.prompt_tokens,
            b.generated_tokens,
        )
    [[full]] = ours.generate(["abc"], sampling)
    stop = next(c for c in full.text[2:] if c.isascii())
    [[cut]] = ours.generate(["abc"], Sampling(max_new_tokens=12, stop=(stop,)))
    assert cut.text == full.text[: full.text.find(stop)]
    assert cut.stop_reason == StopReason.STOP


def test_samples_are_repeatable_and_differ(both):
    ours, _ = both
    sampling = Sampling(max_new_tokens=10, temperature=1.0, num_samples=3, seed=1)
    [first] = ours.generate(["abc"], sampling)
    assert [r.text for r in ours.generate(["x", "abc"], sampling)[1]] == [r.text for r in first]
    assert len({reply.text for reply in first}) == 3


def test_mistakes_are_told(both, tmp_path):
    ours, _ = both
    [[reply]] = ours.generate(["ab" * 2000], Sampling(max_new_tokens=4))
    assert reply.stop_reason == StopReason.ERROR
    assert reply.error
    with pytest.raises(UserError, match="no GGUF file"):
        LlamaCppBackend(tmp_path / "none.gguf")
