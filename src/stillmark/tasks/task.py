"""What a task is: samples, a prompt and a scorer. Tasks need no torch, so stored replies can be scored anywhere."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from stillmark.records import ItemRecord, Outcome

Split = Literal["train", "validation", "test"]
HELD_OUT: tuple[Literal["validation", "test"], ...] = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question of a task. `answer` and `solution` are texts that a model may be trained to write."""

    prompt: str
    target: str  # what the scorer compares with
    answer: str  # the target as a whole reply, without reasoning
    solution: str | None  # a reference worked solution that ends in the answer
    level: int  # of difficulty, from 1

    def item(self, task: str) -> ItemRecord:
        digest = hashlib.sha256(f"{task}\0{self.prompt}".encode()).hexdigest()[:20]
        return ItemRecord(item_id=digest, task=task, level=self.level, prompt=self.prompt, target=self.target)


class Task(Protocol):
    """A source of held-out samples and the judge of replies to them."""

    kind: str

    @property
    def chance(self) -> float | None:
        """Accuracy of a guess among the possible answers; None where there is no such number."""
        ...

    def held_out_samples(self, split: Literal["validation", "test"]) -> list[Sample]:
        """The fixed samples of a split: disjoint from training and from each other by construction."""
        ...

    def score(self, reply: str, target: str, stop_reason: str) -> Outcome:
        """How a reply ended."""
        ...


class TrainableTask(Task, Protocol):
    """A task that can also be learned from: an endless stream of training samples."""

    def training_key(self) -> dict[str, Any]:
        """The settings that training data depends on (and not, say, the number of test samples)."""
        ...

    def words(self) -> list[str]:
        """The words of all its texts, for a word-level tokenizer."""
        ...

    def training_sample(self, seed: int, index: int) -> Sample:
        """Sample `index` of an endless stream that is fixed by the seed."""
        ...


def held_out_prompts(task: Task) -> list[str]:
    """The prompts of every held-out sample: none may be trained on."""
    return [sample.prompt for split in HELD_OUT for sample in task.held_out_samples(split)]
