"""The study behind `stillmark distill`: one student, one teacher, data files, and a control where asked for."""

from dataclasses import dataclass
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.study.load import checked_study
from stillmark.study.schema import Study

METHODS: dict[str, dict[str, Any]] = {
    "sft": {"loss": "cross_entropy"},  # on the file's text: a teacher's traces, say
    "forward_kl": {"loss": "forward_kl"},
    "reverse_kl": {"loss": "reverse_kl"},
    "jsd": {"loss": "jsd"},
    "skew_kl": {"loss": "skew_kl"},
    "skew_reverse_kl": {"loss": "skew_reverse_kl"},
    "total_variation": {"loss": "total_variation"},
    "uld": {"loss": "uld"},  # from a teacher with another tokenizer, arXiv:2402.12030
    "gkd": {"loss": "jsd", "on_policy": {"fraction": 0.5}},  # arXiv:2306.13649
    "on_policy": {
        "loss": "reverse_kl",
        "on_policy": {"fraction": 1.0},
    },  # reverse KL on the student's own replies
}
HELD_OUT_SHARE = 0.05
MIN_STEPS = 4  # the first checkpoint comes after a quarter of them, and not within a step


@dataclass(frozen=True, kw_only=True)
class DistillRequest:
    """What is asked for on the command line. Of `student` and a pruned shape, one is given."""

    teacher: str
    data: tuple[str, ...]
    test: tuple[str, ...] = ()
    student: str | None = None
    num_hidden_layers: int | None = None
    intermediate_size: int | None = None
    hidden_size: int | None = None
    prompt: str | None = None
    response: str | None = None
    text: str | None = None
    method: str = "forward_kl"
    learning_rate: float = 3e-4
    batch_samples: int = 8
    context_tokens: int = 512
    held_out_share: float | None = None  # of `data`; 0.05, and nothing where there are files to test on
    seed: int = 0
    checkpoints: int = 3
    logit_cache_k: int | None = None
    lora_rank: int | None = None
    control: str | None = None
    threads: int | None = None
    track: tuple[str, ...] = ()


def distill_study(request: DistillRequest, train_flops: float, train_samples: int | None = None) -> Study:
    """The request as a study, with a budget in samples and what it is predicted to take. UserError with every fault."""
    if request.method not in METHODS:
        raise UserError(f"unknown method `{request.method}`: {', '.join(METHODS)}",
                        did_you_mean(request.method, METHODS))  # fmt: skip
    sizes = {
        name: value
        for name in ("num_hidden_layers", "intermediate_size", "hidden_size")
        if (value := getattr(request, name)) is not None
    }
    if bool(request.student) == bool(sizes):
        raise UserError(
            "say what the student is: `--student DIR`, or the sizes that are kept of the teacher (`--layers`, "
            "`--intermediate`, `--hidden`), and not both"
        )
    recipe: dict[str, Any] = {
        "text": "corpus", **METHODS[request.method], "train_flops": train_flops, "train_samples": train_samples,
        "learning_rate": request.learning_rate, "batch_samples": request.batch_samples,
        "warmup_samples": 10 * request.batch_samples, "checkpoints": request.checkpoints,
        "first_checkpoint": 1 / MIN_STEPS,
    }  # fmt: skip
    if request.logit_cache_k:
        recipe["logit_cache"] = {"k": request.logit_cache_k}
    if request.lora_rank:
        recipe["lora"] = {"rank": request.lora_rank}
    if "on_policy" in recipe:
        recipe["on_policy"] = {**recipe["on_policy"], "max_new_tokens": max(1, request.context_tokens // 2)}
    is_distilled = request.method != "sft"
    student: dict[str, Any] = {
        "kind": "distilled" if is_distilled else "vanilla", "model": "student", "recipe": recipe,
    }  # fmt: skip
    if is_distilled:
        student["teacher"] = "teacher"
    if not request.student:
        student["base"] = "teacher"
    if request.control:
        student["control"] = {"match": request.control}
    raw: dict[str, Any] = {
        "name": "distill",
        "seeds": [request.seed],
        "tasks": {"data": {"kind": "text", **text_files(request), "context_tokens": request.context_tokens}},
        "models": {
            "teacher": {"checkpoint": request.teacher},
            "student": {"checkpoint": request.student} if request.student else {"pruned_from": "teacher", **sizes},
        },
        "arms": {"teacher": {"kind": "teacher", "model": "teacher"}, "student": student},
    }  # fmt: skip
    if request.track:
        raw["track"] = list(request.track)
    if request.threads:
        raw["threads"] = request.threads
    if request.control and is_distilled:
        raw["conclusion"] = {"students": ["student"], "vanilla": []}
    study = checked_study(raw, "stillmark distill")
    assert isinstance(study, Study)
    return study


def text_files(request: DistillRequest) -> dict[str, list[dict[str, Any]]]:
    """The files to train and to test on. Fields are those of JSONL files; so is the share that is held out, unless
    there is text alone."""
    share = request.held_out_share
    if share is None:
        share = 0.0 if request.test else HELD_OUT_SHARE
    if not share and not request.test:
        raise UserError("there is nothing to test on: --held-out is 0 and no --test is given",
                        "give held-out text as --test FILE, or a share above 0")  # fmt: skip
    fields = {name: value for name in ("prompt", "response", "text") if (value := getattr(request, name))}
    if fields and not any(map(is_jsonl, (*request.data, *request.test))):
        raise UserError(f"--{next(iter(fields))} names a field of .jsonl files, and no file is one")
    shared = any(map(is_jsonl, request.data))
    train = [
        {"file": file}
        | (fields if is_jsonl(file) else {})
        | ({"held_out_share": share} if is_jsonl(file) == shared else {})
        for file in request.data
    ]
    return {
        "train": train,
        "test": [{"file": file} | (fields if is_jsonl(file) else {}) for file in request.test],
    }


def is_jsonl(file: str) -> bool:
    return file.endswith(".jsonl")
