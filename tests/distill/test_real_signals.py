"""ULD and hidden-state matching on real input: SmolLM2-135M-Instruct teaches on WikiText-2, a few minutes in all.

What they reach is printed (`pytest -s`) and noted in benchmarks/distillation.md. Needs a Hugging Face directory of
SmolLM2-135M-Instruct in STILLMARK_SMOLLM2 (benchmarks/evaluation.md says how).
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.paths import SHARED

from stillmark.compute.shapes import shape_from_config
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.spent import Spent
from stillmark.distill.text import Row, TextPair, TraceText, micro_batches, rows_of
from stillmark.distill.train import Training
from stillmark.evaluate.text_quality import Judge, TextScorer, hidden_states_of, token_rows
from stillmark.models.given import given_model, given_tokenizer
from stillmark.models.prune import PrunedShape, prune
from stillmark.study.recipe import Recipe

MODEL = os.environ.get("STILLMARK_SMOLLM2", "/tmp/smollm2/hf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(SHARED is None, reason="the shared data are not here"),
    pytest.mark.skipif(not os.path.isdir(MODEL), reason="STILLMARK_SMOLLM2 names no directory"),
]


def pairs_of(name: str, number: int, characters: int = 120) -> list[TextPair]:
    """Stretches of WikiText-2: 40 characters to read, the rest to learn."""
    assert SHARED is not None
    text = (SHARED / "data/text_wikitext2" / name).read_text(encoding="utf-8")[: number * characters]
    cuts = [text[start : start + characters] for start in range(0, len(text), characters)]
    return [TextPair(prompt=cut[:40], response=cut[40:]) for cut in cuts]


TRAIN, HELD_OUT = "valid.txt", "test.txt"


@pytest.fixture(scope="module")
def teacher() -> LiveTeacher:
    model = given_model(MODEL)
    return LiveTeacher(model=model, shape=shape_from_config(model.config.to_dict()))


def recipe_of(**fields: Any) -> Recipe:
    common = {"text": "solutions", "train_flops": 1e15, "batch_samples": 4, "warmup_samples": 16}
    return Recipe.model_validate({**common, **fields})


def bits_per_byte(model: Any, rows: list[Row], pairs: list[TextPair], vocab_size: int) -> float:
    scorer = TextScorer(model, vocab_size)
    nats = sum(scorer.score(row.sequence).nats for row in rows)
    return nats / math.log(2) / sum(len(pair.response.encode()) for pair in pairs)


def kl_per_token(model: Any, teacher: Any, rows: list[Row], vocab_size: int) -> float:
    scorer, head = TextScorer(model, vocab_size), token_rows(TextScorer(teacher, vocab_size).head, vocab_size)
    kl = tokens = 0.0
    for row in rows:
        judge = Judge(hidden_LE=hidden_states_of(teacher, row.sequence), head=head)
        kl += scorer.score(row.sequence, judge).teacher_kl_nats or 0.0
        tokens += row.sequence.num_loss_tokens
    return kl / tokens


@torch.no_grad()
def objective_loss(objective: Objective, model: Any, rows: list[Row]) -> float:
    """The objective's mean loss on rows that training does not read."""
    total = sum(row.sequence.num_loss_tokens for row in rows)
    batches = micro_batches(rows, 0, max_positions=1024)
    return sum(float(objective.loss(model, batch, total, Spent())) for batch in batches)


def trained(
    run: Training, steps: int, measure: Callable[[], dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """What is measured before and after so many steps, printed."""
    started, before = time.perf_counter(), measure()
    losses = []
    for _ in range(steps):
        before_sum, before_tokens = run.spent.loss_sum, run.spent.loss_tokens
        run.step()
        losses.append((run.spent.loss_sum - before_sum) / (run.spent.loss_tokens - before_tokens))
    after = measure()
    fifth = max(1, steps // 5)
    first, last = sum(losses[:fifth]) / fifth, sum(losses[-fifth:]) / fifth
    print(f"\n{run.recipe.loss}, {steps} steps, {run.spent.tokens:,} tokens, {time.perf_counter() - started:.0f} s: "
          f"training loss {first:.3f} -> {last:.3f}; before {before}; after {after}")  # fmt: skip
    assert last < first
    return before, after


def test_uld_teaches_a_student_with_a_tokenizer_of_its_own(teacher: LiveTeacher, tmp_path: Path):
    """A Llama of 1.2M weights over a BPE of 2,000 tokens; SmolLM2 tells 49,152 apart."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    assert SHARED is not None
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=["<eos>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    backend.train([str(SHARED / "data/text_wikitext2" / TRAIN)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=344, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    student = LlamaForCausalLM(config)

    def objective(share: float) -> Objective:
        recipe = recipe_of(loss="uld", learning_rate=4e-3, cross_entropy_weight=share, batch_samples=6)
        made = Objective(
            recipe, teacher, student_tokenizer=tokenizer, teacher_tokenizer=given_tokenizer(MODEL)
        )
        made.bind(student)
        return made

    held_out = pairs_of(HELD_OUT, 12)
    rows, uld = rows_of(held_out, tokenizer), objective(0.0)
    run = Training(
        model=student.train(), shape=shape_from_config(config.to_dict()), tokenizer=tokenizer,
        source=TraceText(pairs_of(TRAIN, 144), 0, tokenizer), recipe=objective(0.5).recipe, objective=objective(0.5),
    )  # fmt: skip

    def measure() -> dict[str, float]:
        values = {
            "bits_per_byte": bits_per_byte(student, rows, held_out, 2000),
            "uld": objective_loss(uld, student, rows),
        }
        student.train()
        return values

    before, after = trained(run, 24, measure)
    assert after["uld"] < before["uld"]
    assert after["bits_per_byte"] < 0.9 * before["bits_per_byte"]


def test_hidden_states_bring_a_pruned_student_back_to_its_teacher(teacher: LiveTeacher):
    """24 of 30 layers and 448 of 576 channels, so that projectors carry the student's states to the teacher's width.

    By cosine: the mean square of SmolLM2's states is so large that it drowns the divergence, which then rises.
    """
    tokenizer = given_tokenizer(MODEL)
    training_rows = rows_of(pairs_of(TRAIN, 16), tokenizer)
    calibration = [torch.tensor([row.sequence.token_ids]) for row in training_rows]
    student = prune(teacher.model, PrunedShape(num_layers=24, hidden_size=448), calibration).model
    recipe = recipe_of(
        loss="forward_kl",
        learning_rate=3e-4,
        batch_samples=4,
        warmup_samples=16,
        hidden_states={"weight": 0.5, "match": "cosine"},
    )
    objective = Objective(recipe, teacher, student_tokenizer=tokenizer, teacher_tokenizer=tokenizer)
    run = Training(
        model=student.train(), shape=shape_from_config(student.config.to_dict()), tokenizer=tokenizer,
        source=TraceText(pairs_of(TRAIN, 48), 0, tokenizer), recipe=recipe, objective=objective,
    )  # fmt: skip
    held_out = pairs_of(HELD_OUT, 8)
    rows, vocab_size = rows_of(held_out, tokenizer), len(tokenizer)

    def measure() -> dict[str, float]:
        values = {
            "kl_nats_per_token": kl_per_token(student, teacher.model, rows, vocab_size),
            "bits_per_byte": bits_per_byte(student, rows, held_out, vocab_size),
            "kl_and_match": objective_loss(objective, student, rows),
        }
        student.train()
        return values

    before, after = trained(run, 12, measure)
    for name, value in before.items():
        assert after[name] < value, name
