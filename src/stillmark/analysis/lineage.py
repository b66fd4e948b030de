"""What each arm's model took to make, at each checkpoint and within each boundary, from plan and records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stillmark.analysis.curves import Curve, CurvePoint
from stillmark.compute.ledger import NOTHING, Amount, Boundary, Part, total, within
from stillmark.plan import Job, Plan
from stillmark.records import LedgerEntry, Outcome, Store
from stillmark.study import GivenModel, Study

STUDENT_PARTS = ("train", "prune", "generate_student")  # what an arm's own job does to make its model
GIVEN = "given"  # stands for the making of weights that no job made
UNKNOWN = Amount(flops=None, seconds=None, cpu_seconds=None, tokens=None, methods=frozenset())

Shares = Mapping[str, float]  # of jobs, by key


@dataclass(frozen=True, kw_only=True)
class CheckpointCost:
    """One checkpoint of one arm and seed: what was spent up to it, part by part."""

    index: int
    parts: dict[Part, Amount]
    making: Amount
    """Of teacher and base: less than both parts together where one job stands behind both, as it was done once."""

    def within(self, boundary: Boundary) -> Amount:
        if boundary is not Boundary.EVERYTHING:
            return within(boundary, self.parts)
        return within(Boundary.GENERATION, self.parts) + self.making


class Lineage:
    """The records of a finished study, by arm and seed."""

    def __init__(self, store: Store) -> None:
        text, resolved, _, self.provenance = store.study()
        self.store, self.text = store, text
        self.plan = Plan(Study.model_validate(resolved))
        self.study = self.plan.study  # with the controls and quantised arms that it asks for
        self.finished = store.finished_keys()
        self._costs: dict[tuple[str, int], list[CheckpointCost]] = {}
        self._took: dict[str, Amount] = {}  # by job

    @cached_property
    def students_per_teacher(self) -> int:
        return self.study.conclusion.students_per_teacher if self.study.conclusion else 1

    @property
    def unfinished(self) -> list[Job]:
        """Jobs of the plan that are not recorded whole."""
        return [job for job in self.plan.jobs.values() if job.key not in self.finished]

    def evaluation(self, arm: str, seed: int, checkpoint: int) -> Job:
        return self.plan.jobs[self.plan.evaluation_keys[arm, seed, checkpoint]]

    def checkpoint_costs(self, arm: str, seed: int) -> list[CheckpointCost]:
        """Spending up to each checkpoint that is recorded, in order."""
        if (arm, seed) not in self._costs:
            self._costs[arm, seed] = self._add_up(arm, seed)
        return self._costs[arm, seed]

    def _add_up(self, arm: str, seed: int) -> list[CheckpointCost]:
        spec = self.study.arms[arm]
        entries = self.store.ledger(self.plan.train_keys[arm, seed])
        teacher, base = self.shares_of_teacher(arm, seed), self.shares_of_base(arm, seed)
        makings = {Part.TEACHER: self.amount(teacher), Part.BASE: self.amount(base)}
        making = self.amount(larger_shares(teacher, base))
        generation = self.generation(arm, seed)
        costs = []
        for checkpoint in self.store.checkpoints(self.plan.train_keys[arm, seed]):
            if checkpoint.index not in spec.evaluated:
                continue
            until = [entry for entry in entries if entry.index <= checkpoint.index]
            parts = {
                Part.STUDENT: total(entry for entry in until if entry.part in STUDENT_PARTS)
                if spec.recipe
                else UNKNOWN,
                Part.GENERATION: generation + total(only(until, "teacher_forward")),
                **makings,
            }
            costs.append(CheckpointCost(index=checkpoint.index, parts=parts, making=making))
        return costs

    def generation(self, arm: str, seed: int) -> Amount:
        """The traces that the arm learns from, accepted or not, and the teacher's captured logits."""
        return self.amount(dict.fromkeys(self.generation_keys(arm, seed), 1.0))

    def generation_keys(self, arm: str, seed: int) -> list[str]:
        keys = [keys.get((arm, seed)) for keys in (self.plan.generate_keys, self.plan.capture_keys)]
        return [key for key in keys if key]

    def shares(self, arm: str, seed: int) -> Shares:
        """All that stands behind an arm's final model: its own jobs, those of its teacher and those of its base."""
        own = dict.fromkeys([self.plan.train_keys[arm, seed], *self.generation_keys(arm, seed)], 1.0)
        return larger_shares(own, self.shares_of_teacher(arm, seed), self.shares_of_base(arm, seed))

    def shares_of_teacher(self, arm: str, seed: int) -> Shares:
        """Of the making of the arm's teacher one of k shares falls to the arm."""
        teacher = self.study.arms[arm].teacher
        shares = self.shares(teacher, seed) if teacher else {}
        return {key: share / self.students_per_teacher for key, share in shares.items()}

    def shares_of_base(self, arm: str, seed: int) -> Shares:
        spec = self.study.arms[arm]
        if isinstance(self.study.models[spec.model], GivenModel):
            return {GIVEN: 1.0}
        return self.shares(spec.base, seed) if spec.base else {}

    def amount(self, shares: Shares) -> Amount:
        """What so large shares of jobs took together; of a model that was given nobody knows."""
        amount = NOTHING
        for key, share in shares.items():
            amount += self.took(key).share(share)
        return amount

    def took(self, key: str) -> Amount:
        """All that a job took; read once, as it may stand behind every arm."""
        if key not in self._took:
            self._took[key] = UNKNOWN if key == GIVEN else total(self.store.ledger(key))
        return self._took[key]

    def traces(self, arm: str, seed: int) -> dict[Outcome, int]:
        """How the teacher's traces for an arm ended, by outcome; empty where it has none."""
        key = self.plan.generate_keys.get((arm, seed))
        outcomes = self.store.outcomes(key) if key else []
        return {outcome: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes}

    def curve(self, arm: str, seed: int) -> Curve | None:
        """Correctness per item at each checkpoint over the arm's own train FLOPs; None where none is recorded."""
        points = []
        for cost in self.checkpoint_costs(arm, seed):
            if self.evaluation(arm, seed, cost.index).key not in self.finished:
                continue
            flops = cost.parts[Part.STUDENT].flops
            assert flops is not None, "training is counted"
            rows = self.store.sample_columns(self.evaluation(arm, seed, cost.index).key, "outcome")
            points.append(CurvePoint(flops=flops, correct=correctness(outcome for (outcome,) in rows)))
        return Curve(arm=arm, seed=seed, points=tuple(points)) if points else None

    def curve_of(
        self, arm: str, seed: int, values: Sequence[npt.NDArray[np.float64]],
        weights: npt.NDArray[np.float64] | None = None,
    ) -> Curve:  # fmt: skip
        """Values of each item at each checkpoint, more being better, over the arm's own train FLOPs."""
        points = [
            CurvePoint(flops=float(cost.parts[Part.STUDENT].flops or 0), correct=row, weights=weights)
            for cost, row in zip(self.checkpoint_costs(arm, seed), values, strict=True)
        ]
        return Curve(arm=arm, seed=seed, points=tuple(points))

    def extra_flops(self, boundary: Boundary) -> "ExtraCost":
        return ExtraCost(self, boundary)


class ExtraCost:
    """What a boundary adds to a checkpoint's own train FLOPs: callable as the curves want it."""

    def __init__(self, lineage: Lineage, boundary: Boundary) -> None:
        self.lineage, self.boundary = lineage, boundary
        self._extra: dict[tuple[str, int, float], float] = {}

    def __call__(self, curve: Curve, point: CurvePoint) -> float:
        key = (curve.arm, curve.seed, point.flops)
        if key not in self._extra:
            for cost in self.lineage.checkpoint_costs(curve.arm, curve.seed):
                own, whole = cost.parts[Part.STUDENT].flops, cost.within(self.boundary).flops
                assert own is not None, "training is counted"
                assert whole is not None, "every stage of a study is counted"
                self._extra[curve.arm, curve.seed, own] = whole - own
        return self._extra[key]


def larger_shares(*several: Shares) -> Shares:
    """Each job once, at its largest share."""
    found: dict[str, float] = {}
    for shares in several:
        found |= {key: max(share, found.get(key, 0.0)) for key, share in shares.items()}
    return found


def only(entries: list[LedgerEntry], part: str) -> list[LedgerEntry]:
    return [entry for entry in entries if entry.part == part]


def correctness(outcomes: Iterable[str]) -> npt.NDArray[np.float64]:
    """1 where correct, 0 where not, NaN where the harness failed. Of outcomes, or as they are written."""
    value: dict[str, float] = {str(outcome): 0.0 for outcome in Outcome}
    value |= {Outcome.CORRECT: 1.0, Outcome.ERROR: float("nan")}
    return np.array([value[outcome] for outcome in outcomes])
