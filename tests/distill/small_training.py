"""A training of a second: a small student, a smaller teacher, and torch's counter that knows the head's sum."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from stillmark.compute.shapes import shape_from_config
from stillmark.configs import model_config
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.processes import Processes
from stillmark.distill.text import TaskText
from stillmark.distill.train import Training
from stillmark.lengths import tokenizer_words
from stillmark.models.build import build_model, word_tokenizer
from stillmark.study.recipe import Recipe
from stillmark.study.schema import ModelSpec, ShuffledObjects
from stillmark.tasks import make_task

TASK = make_task(ShuffledObjects(kind="shuffled_objects", objects=4, min_swaps=1, max_swaps=3))
WORDS = tokenizer_words(TASK)
TOKENIZER = word_tokenizer(WORDS)
STUDENT = ModelSpec(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24
)
TEACHER = ModelSpec(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40)


def training(loss: str = "cross_entropy", processes: Processes | None = None, **changes: object) -> Training:
    """`changes` are fields of the recipe."""
    recipe = Recipe.model_validate(
        {
            "text": "solutions",
            "loss": loss,
            "train_flops": 1e9,
            "learning_rate": 1e-3,
            "batch_samples": 6,
            **changes,
        }
    )
    config, teacher_config = (model_config(spec, len(WORDS)) for spec in (STUDENT, TEACHER))
    weights = build_model({**teacher_config, "attn_implementation": "eager"}, 1).eval()
    teacher = LiveTeacher(model=weights, shape=shape_from_config(teacher_config))
    return Training(
        model=build_model({**config, "attn_implementation": "eager"}, 0).train(),
        shape=shape_from_config(config),
        tokenizer=TOKENIZER,
        source=TaskText(TASK, "solutions", 0, TOKENIZER),
        recipe=recipe,
        objective=Objective(recipe, teacher if loss != "cross_entropy" else None),
        processes=processes or Processes(),
    )


def addmm_in_place_flop(self_shape, first_shape, second_shape, *args, **kwargs) -> int:  # type: ignore[no-untyped-def]
    return mm_flop(first_shape, second_shape)


def flop_counter() -> Any:
    """torch's counter does not know the in-place addmm_ that sums the head's weight gradient: it is told here."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place_flop})
