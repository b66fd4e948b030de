"""Mistakes that a study's models and tokenizers show before anything is done."""

import json
from pathlib import Path

import pytest
from tests.test_text_study import study_of
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.resolve import resolve
from stillmark.study.load import checked_study


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "given" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tokenizer(folder: Path, change) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "given")
    change(tokenizer)
    tokenizer.save_pretrained(folder / "given")


def without_end(folder: Path, study: dict) -> None:
    change_tokenizer(folder, lambda tokenizer: setattr(tokenizer, "eos_token", None))


def with_more_tokens(folder: Path, study: dict) -> None:
    change_tokenizer(folder, lambda tokenizer: tokenizer.add_tokens(["<more>", "<and more>"]))


def with_few_positions(folder: Path, study: dict) -> None:
    change_config(folder, max_position_embeddings=16)


def keeping_too_much(folder: Path, study: dict) -> None:
    study["arms"]["cached"]["recipe"]["logit_cache"]["k"] = 100_000


def pruned_to_more(folder: Path, study: dict) -> None:
    study["models"]["small"]["num_hidden_layers"] = 9


def of_another_build(folder: Path, study: dict) -> None:
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder / "given")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_end, "models.given: its tokenizer has no end token"),
        (with_more_tokens, "models.given: its tokenizer has the id 301, but the model has 300 rows"),
        (with_few_positions, "context_tokens: is 32, but models.given has 16 positions"),
        (keeping_too_much, "arms.cached.recipe.logit_cache.k: is 100,000, but there are 300 tokens"),
        (pruned_to_more, "models.small.num_hidden_layers: is 9, but given has 3"),
        (of_another_build, "models.small: given cannot be pruned, as a gpt2 has no `num_hidden_layers`"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(tmp_path: Path, spoil, said: str):
    study = study_of(tmp_path)
    spoil(tmp_path, study)
    with pytest.raises(UserError) as fault:
        Plan(resolve(checked_study(study, "study")))
    assert said in str(fault.value)
