"""What a plan asks of benchmarks: which models answer which, and everything that their replies depend on."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stillmark.compute.flops import decode_flops, forward_flops, spared_prefill_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError
from stillmark.study.benchmarks import Benchmarks, FoundBenchmark, OtherModel
from stillmark.study.schema import Arm, ControlArm, QuantisedArm, Study
from stillmark.tasks.thinking import DEFAULT_TAGS


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One model asked one benchmark. `checkpoint`: None of a model that is no arm, which answers once for all seeds."""

    model: str
    seed: int
    name: str
    checkpoint: int | None
    inputs: dict[str, Any]
    flops: int
    tokens: int


def askings(study: Study, asked: Benchmarks, shape: Callable[[str], ModelShape]) -> Iterator[Asking]:
    """All of them. Raises UserError where a model that is no arm has an arm's name, its controls' and variants' too."""
    for other in asked.others:
        if other in study.arms:
            raise UserError(f"benchmarks.others.{other}: an arm has this name", "give the model another name")
    for name in asked.tasks:
        inputs = benchmark_inputs(asked, name)
        for arm in benchmarked_arms(study, asked):
            read = asked.read_by(study.reader_of(arm))
            is_packed = not isinstance(study.arms[arm], QuantisedArm)
            flops, tokens = benchmark_size(found_benchmark(read, name), shape(arm), is_packed=is_packed)
            for checkpoint in asked_checkpoints(asked, study.arms[arm]):
                own = inputs | arm_inputs(read, study.arms[arm], checkpoint)
                for seed in study.seeds:
                    yield Asking(model=arm, seed=seed, name=name, checkpoint=checkpoint, inputs=own, flops=flops,
                                 tokens=tokens)  # fmt: skip
        for other, model in asked.others.items():
            flops, tokens = benchmark_size(found_benchmark(asked, name), None, is_packed=False)
            for seed in study.seeds:
                yield Asking(model=other, seed=seed, name=name, checkpoint=None, inputs=inputs | other_inputs(model),
                             flops=flops, tokens=tokens)  # fmt: skip


def benchmarked_arms(study: Study, asked: Benchmarks) -> list[str]:
    """The arms that answer; with one that is named, its control and the quantised variants of both."""

    def is_asked(name: str) -> bool:
        arm = study.arms[name]
        if isinstance(arm, QuantisedArm):
            return is_asked(arm.parent)
        return name in asked.arms or (isinstance(arm, ControlArm) and arm.student in asked.arms)

    return [name for name in study.arms if not asked.arms or is_asked(name)]


def checkpoints_asked(study: Study, asked: Benchmarks) -> dict[str, list[int | None]]:
    """The models that answer, and at which checkpoints: [None] of one that is no arm."""
    arms: dict[str, list[int | None]] = {
        arm: [*asked_checkpoints(asked, study.arms[arm])] for arm in benchmarked_arms(study, asked)
    }
    return arms | {other: [None] for other in asked.others}


def found_benchmark(asked: Benchmarks, name: str) -> FoundBenchmark:
    if asked.resolved is None or name not in asked.resolved:
        raise UserError(f"benchmarks.tasks: the files of `{name}` have not been read yet")
    return asked.resolved[name]


def label_of(asked: Benchmarks, name: str) -> str:
    """The name that a report shows: of a user's task what its YAML calls it, with the mode where that was chosen."""
    _, at, mode = name.partition("@")
    return found_benchmark(asked, name).task + at + mode


def benchmark_inputs(asked: Benchmarks, name: str) -> dict[str, Any]:
    """What replies to a benchmark depend on, beside who gives them. A file of another content is another job."""
    found = found_benchmark(asked, name)
    return {
        "benchmark": label_of(asked, name),
        "data": found.origin,
        "thinking": asdict(DEFAULT_TAGS),
        **{part: said for part, said in found.without_lengths().items() if part not in ("origin", "chance")},
        **asked.model_dump(include={"limit", "num_fewshot", "shots", "chat", "max_new_tokens"}),
    }


def asked_checkpoints(asked: Benchmarks, arm: Arm) -> list[int]:
    """The arm's checkpoints that answer, in order."""
    return list(arm.evaluated) if asked.checkpoints == "all" else [arm.checkpoints - 1]


def arm_inputs(asked: Benchmarks, arm: Arm, checkpoint: int) -> dict[str, Any]:
    """Which of an arm's models answers, in which format, and the tokenizer that it is asked with."""
    inputs: dict[str, Any] = {"checkpoint": checkpoint, "tokenizer_sha256": asked.tokenizer_sha256}
    return inputs | ({"engine": "llamacpp", "format": arm.format} if isinstance(arm, QuantisedArm) else {})


def other_inputs(other: OtherModel) -> dict[str, Any]:
    """Which model answers: by its files where they are at hand, else by the endpoint and the name that it knows."""
    hidden = {"key_variable", "price_model", "price"} | ({"model", "revision"} if other.sha256 else set())
    return {"other": other.model_dump(exclude=hidden)}


def benchmark_size(found: FoundBenchmark, shape: ModelShape | None, *, is_packed: bool) -> tuple[int, int]:
    """(FLOPs, tokens) of asking all items, predicted: a written answer is taken to be as long as it may be.

    Of a model whose shape is not known no FLOPs are predicted. `is_packed`: by our engine, which reads once what
    prompts share; llama.cpp is accounted by its answers, each by itself.
    """
    prompt, new = found.prompt_tokens, found.new_tokens
    tokens = found.num_items * (prompt + new)
    if shape is None:
        return 0, tokens
    is_written = found.mode == "generation"
    context, scored = (prompt, 1) if is_written else (prompt + new, new)
    read = found.read_tokens if is_packed else None
    one = forward_flops(shape, tokens=read or context, context_tokens=context, scored_tokens=scored)
    if read:
        one -= spared_prefill_flops(shape, prompt_tokens=read - scored + 1)
    if is_written:
        one += decode_flops(shape, prompt_tokens=prompt, new_tokens=new)
    return found.num_items * one, tokens
