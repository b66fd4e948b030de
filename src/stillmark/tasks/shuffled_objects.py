"""Who holds what after a number of swaps: BIG-Bench Hard's "tracking shuffled objects", generated.

Each person begins with an object, pairs swap one after another, and the answer is what each holds at the end, in
the order of the people. That is a product of permutations: reached by writing the state after each swap, one easy
step at a time, and hard to reach in one go for a network of fixed depth (with 5 objects the group is not solvable;
Liu et al., arXiv:2210.10749). So a worked solution helps, a small model that answers directly struggles, and short
questions keep it measurable. reasoning-gym has no such task with worked solutions.

Held out by construction: a hash of the prompt decides its split, so no test question can be drawn in training.
"""

import hashlib
import math
import random
from typing import Any, Literal

from stillmark.errors import UserError
from stillmark.records import Outcome
from stillmark.study.schema import ShuffledObjects
from stillmark.tasks.task import Sample, Split

PEOPLE = ("Alice", "Bob", "Claire", "Dave", "Eve", "Fred", "Gertrude")  # the names of BIG-Bench's task
OBJECTS = ("red", "blue", "green", "pink", "white", "black", "orange")
MAX_DRAWS = 1000  # for one sample, before the space of questions is taken to be used up
BUCKETS: dict[Split, range] = {"test": range(0, 2), "validation": range(2, 3), "train": range(3, 16)}


class ShuffledObjectsTask:
    """The task at one setting of objects and swaps; level = number of swaps."""

    kind = "shuffled_objects"

    def __init__(self, settings: ShuffledObjects) -> None:
        self.settings = settings
        self.people = PEOPLE[: settings.objects]
        self.levels = range(settings.min_swaps, settings.max_swaps + 1)

    @property
    def chance(self) -> float:
        return 1 / math.factorial(len(self.people))

    def training_key(self) -> dict[str, Any]:
        return self.settings.model_dump(include={"kind", "objects", "min_swaps", "max_swaps"})

    def words(self) -> list[str]:
        return [";", ":", "?", *self.people, *OBJECTS]

    def training_sample(self, seed: int, index: int) -> Sample:
        stream = random.Random(f"{self.kind} train {seed} {index}")
        return self.draw(stream, stream.choice(self.levels), "train")

    def held_out_samples(self, split: Literal["validation", "test"]) -> list[Sample]:
        """As many as the settings say, the levels in turn, all different."""
        wanted = self.settings.test_samples if split == "test" else self.settings.validation_samples
        stream = random.Random(f"{self.kind} {split}")
        samples: dict[str, Sample] = {}
        for _ in range(wanted * MAX_DRAWS):
            level = self.levels[len(samples) % len(self.levels)]
            sample = self.draw(stream, level, split)
            samples.setdefault(sample.prompt, sample)
            if len(samples) == wanted:
                return list(samples.values())
        raise self.too_few(split)

    def draw(self, stream: random.Random, level: int, split: Split) -> Sample:
        """A question of a level, drawn again until its hash falls in the split."""
        for _ in range(MAX_DRAWS):
            sample = self.compose(stream, level)
            digest = hashlib.sha256(sample.prompt.encode()).digest()
            if digest[0] % 16 in BUCKETS[split]:
                return sample
        raise self.too_few(split)

    def too_few(self, split: Split) -> UserError:
        return UserError(
            f"shuffled_objects with {len(self.people)} objects and {self.levels[0]} swaps or more has too few "
            f"different questions for its {split} samples",
            hint="ask for fewer samples, or raise `objects` or `min_swaps`",
        )

    def compose(self, stream: random.Random, level: int) -> Sample:
        held = dict(zip(self.people, stream.sample(OBJECTS, len(self.people)), strict=True))
        question = [f"{person} {thing} ;" for person, thing in held.items()]
        steps = []
        for _ in range(level):
            first, second = stream.sample(self.people, 2)
            held[first], held[second] = held[second], held[first]
            question.append(f"{first} {second} ;")
            steps.append(f"{first} {second} : {' '.join(held.values())}")
        answer = " ".join(held.values())
        return Sample(
            prompt=" ".join([*question, "?"]),
            target=answer,
            answer=answer,
            solution=" ; ".join(steps) or answer,
            level=level,
        )

    def score(self, reply: str, target: str, stop_reason: str) -> Outcome:
        """The last words are the answer; a reply cut off has none, one that ends in other words is unparsed."""
        if stop_reason == "error":
            return Outcome.ERROR
        if stop_reason == "length":
            return Outcome.TRUNCATED
        answer = reply.split()[-len(self.people) :]
        if len(answer) < len(self.people) or not set(answer) <= set(OBJECTS):
            return Outcome.UNPARSED
        return Outcome.CORRECT if answer == target.split() else Outcome.WRONG
