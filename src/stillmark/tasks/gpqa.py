"""GPQA-Diamond: 198 questions by doctoral students, four choices (Rein et al., arXiv:2311.12022).

The data set lists the right answer first, so the choices are shuffled: by a hash of the question, the same in every
run. It asks that its questions not be published, so none is in this repository.
"""

import random

from stillmark.tasks.arc import choice_row
from stillmark.tasks.benchmark import Benchmark, Row
from stillmark.tasks.choice_scorer import ChoiceScorer
from stillmark.tasks.forms import letter_forms
from stillmark.tasks.sources import Hub, RawRow, Source


def read(raw: RawRow) -> Row:
    question = raw["Question"].strip()
    right = raw["Correct Answer"].strip()
    choices = [right, *(raw[f"Incorrect Answer {number}"].strip() for number in (1, 2, 3))]
    order = list(range(4))
    random.Random(question).shuffle(order)
    return choice_row(question, [choices[index] for index in order], order.index(0))


GPQA_DIAMOND = Benchmark(
    name="gpqa_diamond",
    source=Source(
        files=("gpqa/gpqa_diamond.csv", "gpqa_diamond.csv", "gpqa_diamond.jsonl"),
        # Gated; no revision was to be had here, so the one that is resolved is recorded
        hub=Hub(repository="Idavidrein/gpqa", configs=("gpqa_diamond",), split="train", revision=None),
    ),
    read=read,
    scorer=ChoiceScorer(),
    forms=letter_forms("generation", max_new_tokens=4096),
)
