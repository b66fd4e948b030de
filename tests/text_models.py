"""A model of seconds that exists on disk, with a real byte-level tokenizer: what a text study starts from."""

import json
from pathlib import Path

PARAGRAPHS = [
    "The lobster lives on the sea floor. It is blue while it lives, and red when it is cooked — über-red.\n",
    "A sum of two numbers is found digit by digit, from the right, carrying one where ten is reached.\n",
    "Rivers carry sand to the sea; the sea carries it back as beaches, and the wind makes dunes of them.\n",
    "Old maps show islands that were never there: sailors saw clouds, and cartographers believed sailors.\n",
]


def write_given_model(folder: Path, *, seed: int = 0, hidden_size: int = 32, vocab_size: int = 300) -> Path:
    """A Hugging Face directory: a Llama with tied embeddings and random weights, and a BPE tokenizer of so many tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(PARAGRAPHS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(
        folder
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=2 * hidden_size, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_held_out(folder: Path) -> Path:
    """A text file that no training text has."""
    path = folder / "other_pages.txt"
    path.write_text("".join(reversed(PARAGRAPHS)), encoding="utf-8")
    return path


def write_documents(folder: Path) -> tuple[Path, Path]:
    """(a text file, a JSONL file of prompts with responses)."""
    text, pairs = folder / "pages.txt", folder / "pairs.jsonl"
    text.write_text("".join(PARAGRAPHS) * 4, encoding="utf-8")
    rows = [
        {
            "question": f"What is {a} + {b}?",
            "answers": [f"{a} + {b} = {a + b}.", f"It is {a + b}, naturally."],
        }
        for a in range(5)
        for b in range(5)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return text, pairs
