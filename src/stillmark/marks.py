"""When a training writes its checkpoints: at parts of its own budget or, for a control, at what its student took."""

from dataclasses import dataclass
from typing import Literal

from stillmark.errors import UserError
from stillmark.plan import Job, Plan
from stillmark.records import CheckpointRecord, Store
from stillmark.sizes import evenly_spaced
from stillmark.study.schema import ControlArm

OWN_PARTS = ("train", "generate_student")  # of a training's ledger; its start (`prune`) is the control's too


@dataclass(frozen=True, kw_only=True)
class Marks:
    """`unit`: what is counted of a training so far. `amounts`: where its checkpoints are, in order."""

    unit: Literal["train_flops", "samples", "tokens", "step"]
    amounts: tuple[float, ...]

    def reached(self, checkpoint: CheckpointRecord) -> int:
        """How much of the unit a checkpoint has."""
        return checkpoint.samples_seen if self.unit == "samples" else getattr(checkpoint, self.unit)


def marks_of(job: Job, plan: Plan, store: Store) -> Marks:
    """The marks of a `train` job. A control's follow from its student's records, which its job needs.

    UserError where these are not whole, as in records that someone has changed.
    """
    arm = plan.study.arms[job.arm]
    if not isinstance(arm, ControlArm):
        if arm.training.train_samples:
            return Marks(unit="samples", amounts=evenly_spaced(arm.training, arm.training.train_samples))
        return Marks(unit="train_flops", amounts=evenly_spaced(arm.training, arm.training.train_flops))
    checkpoints = store.checkpoints(plan.train_keys[arm.student, job.seed])
    if len(checkpoints) != arm.checkpoints:
        raise UserError(f"arm `{job.arm}`: may spend what `{arm.student}` did, which is not recorded whole")
    if arm.match == "tokens":
        return Marks(unit="tokens", amounts=tuple(row.tokens for row in checkpoints))
    if arm.match == "steps":
        return Marks(unit="step", amounts=tuple(row.step for row in checkpoints))
    budget = matched_flops(arm, job.seed, plan, store)
    return Marks(unit="train_flops", amounts=evenly_spaced(arm.training, budget))


def matched_flops(arm: ControlArm, seed: int, plan: Plan, store: Store) -> int:
    """What a control that is matched on compute may spend, as counted of its student's run."""
    student = arm.student, seed
    parts = {*OWN_PARTS, "teacher_forward"} if arm.match == "compute_with_teacher" else OWN_PARTS
    entries = [entry for entry in store.ledger(plan.train_keys[student]) if entry.part in parts]
    if arm.match == "compute_with_teacher":
        for keys in (plan.generate_keys, plan.capture_keys):
            entries += store.ledger(keys[student]) if student in keys else []
    amounts = [entry.flops for entry in entries]
    assert None not in amounts, "our own engine counts what it runs"
    return sum(filter(None, amounts))
