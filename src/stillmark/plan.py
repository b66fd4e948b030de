"""What a study will run: jobs in order, each keyed by its content, with predicted FLOPs.

A job's key is a hash of everything that its result depends on: its own settings and the keys of the jobs that it
reads. So a changed study re-runs what the change touches and nothing else, and two arms that need the same job
share it. Needs no torch: `stillmark check` prints the plan on any machine.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stillmark.added_arms import with_controls, with_variants
from stillmark.benchmark_plan import askings
from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError
from stillmark.profile_plan import (
    profile_inputs,
    profiled_arms,
    refuse_impossible_formats,
    refuse_impossible_profiles,
)
from stillmark.records import canonical
from stillmark.sizes import Sizes, compared, evenly_spaced, replies_flops, resolved
from stillmark.study.profile import Profile
from stillmark.study.schema import ControlArm, GivenModel, PrunedModel, QuantisedArm, Study, Text

HELD_OUT_FACTS = ("sha256", "test_sequences", "test_tokens", "test_loss_tokens", "dropped_documents")
METHOD_VERSION = 4  # of how stages are carried out: raised when code changes what a stage would record


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage of one arm and seed. `inputs` and `needs` make its key."""

    key: str
    stage: str  # adopt | train | generate | capture | evaluate | benchmark | profile
    arm: str
    seed: int
    inputs: dict[str, Any]
    needs: tuple[str, ...]
    checkpoint: int | None
    predicted_flops: int
    predicted_tokens: int

    def row(self) -> dict[str, Any]:
        """What the store keeps of it."""
        names = ("key", "stage", "arm", "seed", "needs", "checkpoint", "predicted_flops", "predicted_tokens")
        return {name: getattr(self, name) for name in names}


class Plan:
    """The jobs of a study. Raises UserError for budgets that cannot be met, all at once."""

    def __init__(self, study: Study) -> None:
        self.study = with_variants(with_controls(study))
        self.sizes = Sizes(self.study)
        self.tasks = self.sizes.tasks
        self.jobs: dict[str, Job] = {}  # in an order in which each comes after its needs
        self.train_keys: dict[tuple[str, int], str] = {}
        self.generate_keys: dict[tuple[str, int], str] = {}
        self.capture_keys: dict[tuple[str, int], str] = {}  # of the teacher's logits that an arm learns from
        self.evaluation_keys: dict[tuple[str, int, int], str] = {}  # by arm, seed and checkpoint
        # By arm, seed, the benchmark's name and checkpoint (None: of a model that is no arm)
        self.benchmark_keys: dict[tuple[str, int, str, int | None], str] = {}
        self.profile_key: str | None = None  # one job measures all arms
        self._refuse_impossible_budgets()
        refuse_impossible_formats(self.study, self.config)
        for seed in study.seeds:
            for arm in self.arms_in_order:
                self._add_arm(arm, seed)
        if study.benchmarks:
            for one in askings(self.study, study.benchmarks, self.shape):
                needs = [] if one.checkpoint is None else [self.train_keys[one.model, one.seed]]
                self.benchmark_keys[one.model, one.seed, one.name, one.checkpoint] = self._add(
                    "benchmark", one.model, one.seed, one.inputs, needs,
                    checkpoint=one.checkpoint, flops=one.flops, tokens=one.tokens,
                )  # fmt: skip
        if study.profile:
            refuse_impossible_profiles(self.study, study.profile, self.config)
            self._add_profile(study.profile)

    @cached_property
    def arms_in_order(self) -> list[str]:
        """Each arm after those that are made before it."""
        order: list[str] = []

        def visit(name: str) -> None:
            for needed in filter(None, self.study.arms[name].arms_before):
                visit(needed)
            if name not in order:
                order.append(name)

        for name in [*filter(None, [self.judge]), *self.study.arms]:
            visit(name)
        return order

    def is_judged(self, arm: str) -> bool:
        """Whether the arm's distributions are compared with the judge's: both must be over the same tokens, and
        llama.cpp hands over the probability of a token and not of all."""
        return (
            self.judge is not None
            and not isinstance(self.study.arms[arm], QuantisedArm)
            and self.study.reader_of(arm) == self.study.reader_of(self.judge)
        )

    @cached_property
    def judge(self) -> str | None:
        """The teacher that a text study's models are compared with (KL): its first; None in a study of questions."""
        teachers = [name for name, arm in self.study.arms.items() if arm.kind == "teacher"]
        return teachers[0] if self.study.is_text and teachers else None

    def shape(self, arm: str) -> ModelShape:
        return self.sizes.shape(arm)

    def config(self, arm: str) -> dict[str, Any]:
        return self.sizes.config(arm)

    def task_key(self, arm: str, *, with_held_out: bool = False) -> dict[str, Any]:
        """The settings of an arm's task that training depends on; of a text task also what its held-out text is."""
        name = self.study.task_of(arm)
        spec = self.study.tasks[name]
        if not isinstance(spec, Text):
            return self.tasks[name].training_key()
        facts = resolved(self.study, arm).model_dump(exclude_defaults=True)
        if facts.get("train_sha256") and not with_held_out:
            facts = {name: value for name, value in facts.items() if name not in HELD_OUT_FACTS}
        return {"kind": spec.kind, **facts, "context": spec.context_tokens}

    def _refuse_impossible_budgets(self) -> None:
        faults = []
        for name, arm in self.study.arms.items():
            if arm.recipe is None or isinstance(arm, QuantisedArm):
                continue
            step = self.sizes.sample_flops(name) * arm.recipe.batch_samples
            first = evenly_spaced(arm.recipe, arm.recipe.train_flops)[0]
            if arm.recipe.train_flops < step:
                faults.append(
                    f"arms.{name}.recipe.train_flops: {arm.recipe.train_flops:.3g} is less than one step of "
                    f"{arm.recipe.batch_samples} samples takes, {step:.3g}"
                )
            elif first < step:
                faults.append(
                    f"arms.{name}.recipe.first_checkpoint: falls at {first:.3g} FLOPs, before the end of the first "
                    f"step at {step:.3g}"
                )
        if faults:
            raise UserError("\n".join([f"study `{self.study.name}`: impossible budgets", *faults]))

    def _add(
        self, stage: str, arm: str, seed: int, inputs: dict[str, Any], needs: list[str], *,
        flops: int, tokens: int, checkpoint: int | None = None,
    ) -> str:  # fmt: skip
        content = {"version": METHOD_VERSION, "stage": stage, "inputs": inputs, "needs": needs}
        key = hashlib.sha256(canonical(content).encode()).hexdigest()[:24]
        job = Job(key=key, stage=stage, arm=arm, seed=seed, inputs=inputs, needs=tuple(needs),
                  checkpoint=checkpoint, predicted_flops=flops, predicted_tokens=tokens)  # fmt: skip
        self.jobs.setdefault(key, job)
        return key

    def _add_arm(self, name: str, seed: int) -> None:
        """What makes the arm's model, then its evaluations."""
        arm = self.study.arms[name]
        if isinstance(arm, QuantisedArm):
            for keys in (self.train_keys, self.generate_keys, self.capture_keys):
                if (arm.parent, seed) in keys:
                    keys[name, seed] = keys[arm.parent, seed]
        else:
            make = self._add_training if arm.recipe else self._add_adoption
            self.train_keys[name, seed] = make(name, seed)
        for checkpoint in arm.evaluated:
            self._add_evaluation(name, seed, self.train_keys[name, seed], checkpoint)

    def _add_adoption(self, name: str, seed: int) -> str:
        """A given model is taken as it is: once for all seeds."""
        spec = self.study.models[self.study.arms[name].model]
        assert isinstance(spec, GivenModel), name
        inputs = {"weights_sha256": spec.weights_sha256, "model": self.config(name)}
        return self._add("adopt", name, seed, inputs, [], flops=0, tokens=0)

    def _add_training(self, name: str, seed: int) -> str:
        arm, recipe = self.study.arms[name], self.study.arms[name].training
        needs, capture = [], None
        if arm.teacher and recipe.text == "traces":
            self.generate_keys[name, seed] = self._add_generation(name, seed)
            needs.append(self.generate_keys[name, seed])
        if arm.teacher and recipe.logit_cache:
            capture = self.capture_keys[name, seed] = self._add_capture(name, seed)
            needs.append(capture)
        needs += [self.train_keys[needed, seed] for needed in (arm.teacher, arm.base) if needed]
        spec = self.study.models[arm.model]
        num_samples = self.sizes.num_samples(name)
        said = recipe.model_dump(exclude={"traces"}, exclude_defaults=True)
        if recipe.hidden_states:  # whole, as what is matched by default has changed once
            said["hidden_states"] = recipe.hidden_states.model_dump()
        inputs = {
            "seed": seed, "model": self.config(name), "recipe": said,
            "task": self.task_key(name), "teacher": bool(arm.teacher), "base": bool(arm.base),
        }  # fmt: skip
        if isinstance(arm, ControlArm) or recipe.train_samples:
            del said["train_flops"]  # predicted: the budget is another
        if isinstance(arm, ControlArm):
            inputs["match"] = arm.match  # what it comes to is in the records of these
            student, kinds = (arm.student, seed), (self.train_keys, self.generate_keys, self.capture_keys)
            needs += [keys[student] for keys in kinds if student in keys]
        if self.study.is_compared(name):
            inputs["compared"] = compared(self.study, name).model_dump()
        if isinstance(spec, PrunedModel):
            inputs["pruned"] = spec.model_dump()
        if isinstance(spec, GivenModel):
            inputs["weights_sha256"] = spec.weights_sha256
        return self._add(
            "train", name, seed, inputs, needs,
            flops=int(recipe.train_flops) + self.sizes.teacher_forward_flops(name) + self.sizes.own_text_flops(name),
            tokens=num_samples * self.sizes.sample(name).read,
        )  # fmt: skip

    def _add_generation(self, name: str, seed: int) -> str:
        arm = self.study.arms[name]
        assert arm.teacher is not None, name
        assert arm.training.traces is not None, name
        traces, lengths = arm.training.traces, self.sizes.lengths[self.study.task_of(name)]
        inputs = {
            "seed": seed, "traces": traces.model_dump(exclude={"max_per_prompt"}),
            "task": self.task_key(name),
        }  # fmt: skip
        num_traces = traces.prompts * traces.samples_per_prompt
        tokens = num_traces * (lengths.prompt + lengths.response["solutions"])
        return self._add("generate", arm.teacher, seed, inputs, [self.train_keys[arm.teacher, seed]],
                         flops=self.sizes.generation_flops(name), tokens=tokens)  # fmt: skip

    def _add_capture(self, name: str, seed: int) -> str:
        """The teacher reads the training text and its logits are kept: once for all arms that ask for the same."""
        arm = self.study.arms[name]
        assert arm.teacher is not None, name
        assert arm.training.logit_cache is not None, name
        inputs = {
            "task": self.task_key(name), "split": "train", "temperature": arm.training.temperature,
            "logit_cache": arm.training.logit_cache.model_dump(),
        }  # fmt: skip
        tokens = resolved(self.study, name).train_tokens
        return self._add("capture", arm.teacher, seed, inputs, [self.train_keys[arm.teacher, seed]],
                         flops=self.sizes.capture_flops(name), tokens=tokens)  # fmt: skip

    def _add_evaluation(self, name: str, seed: int, train_key: str, checkpoint: int) -> None:
        task_name = self.study.task_of(name)
        spec = self.study.tasks[task_name]
        arm = self.study.arms[name]
        inputs: dict[str, Any] = {"task": self.task_key(name, with_held_out=True), "checkpoint": checkpoint}
        if isinstance(arm, QuantisedArm):
            inputs |= {"engine": "llamacpp", "format": arm.format}
        if isinstance(spec, Text):
            self._add_text_evaluation(name, seed, train_key, inputs)
            return
        lengths, new_tokens = self.sizes.lengths[task_name], self.sizes.response_tokens(name)
        num_samples = spec.test_samples if self.study.evaluate_on == "test" else spec.validation_samples
        flops = num_samples * replies_flops(
            self.shape(name), prompt_tokens=lengths.prompt, new_tokens=new_tokens
        )
        inputs |= {
            "split": self.study.evaluate_on, "num_samples": num_samples,
            "max_new_tokens": self.study.max_new_tokens,
        }  # fmt: skip
        self.evaluation_keys[name, seed, checkpoint] = self._add(
            "evaluate", name, seed, inputs, [train_key], checkpoint=checkpoint,
            flops=flops, tokens=num_samples * (lengths.prompt + new_tokens),
        )  # fmt: skip

    def _add_text_evaluation(self, name: str, seed: int, train_key: str, inputs: dict[str, Any]) -> None:
        """How surprised a checkpoint is by the held-out sequences, and how far from the judge."""
        found = resolved(self.study, name)
        needs = [train_key]

        def reading_flops(arm: str) -> int:
            mean = round(found.test_tokens / found.test_sequences)
            scored = round(found.test_loss_tokens / found.test_sequences)
            return found.test_sequences * forward_flops(self.shape(arm), tokens=mean, scored_tokens=scored)

        if self.judge and self.is_judged(name):
            judged = {"task": inputs["task"], "split": "test"}
            needs.append(self._add("capture", self.judge, seed, judged, [self.train_keys[self.judge, seed]],
                                   flops=reading_flops(self.judge), tokens=found.test_tokens))  # fmt: skip
        self.evaluation_keys[name, seed, inputs["checkpoint"]] = self._add(
            "evaluate", name, seed, inputs, needs, checkpoint=inputs["checkpoint"],
            flops=reading_flops(name), tokens=found.test_tokens,
        )  # fmt: skip

    def _add_profile(self, profile: Profile) -> None:
        """One job for all arms. No FLOPs are predicted: how often the work is repeated is decided while it is done."""
        seed = self.study.seeds[0]
        names = profiled_arms(self.study, profile)
        inputs, needs = profile_inputs(
            self.study, profile, {name: self.train_keys[name, seed] for name in names},
            {name: self.evaluation_keys[name, seed, self.study.arms[name].checkpoints - 1] for name in names},
        )  # fmt: skip
        label = names[0] if len(names) == 1 else f"{len(names)} arms"
        self.profile_key = self._add("profile", label, seed, inputs, needs, flops=0, tokens=0)

    @property
    def predicted_flops(self) -> int:
        return sum(job.predicted_flops for job in self.jobs.values())
