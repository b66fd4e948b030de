"""What is done with a text task: the teacher's logits captured, a checkpoint's surprise at held-out text."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillmark.backends.rotary import steady_positions
from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.corpus import Corpus, read_corpus
from stillmark.distill.counting import executed_shape
from stillmark.distill.head import OutputHead, checked_output_head
from stillmark.distill.identity import (
    CacheIdentity,
    TokenSequence,
    data_sha256,
    template_sha256,
    tokenizer_sha256,
)
from stillmark.distill.logit_cache import CacheSettings, LogitCache
from stillmark.distill.logit_capture import capture_flops, capture_logits, teacher_hidden_states
from stillmark.distill.objective_teacher import head_forward_flops
from stillmark.distill.processes import Processes
from stillmark.distill.text import IGNORED
from stillmark.distill.vocabulary import num_token_rows
from stillmark.errors import UserError
from stillmark.evaluate.study_benchmarks import questions_of
from stillmark.evaluate.text_quality import Judge, Surprise, TextScorer, hidden_states_of, token_rows
from stillmark.models.build import load_model
from stillmark.models.given import given_tokenizer
from stillmark.models.tensor_files import read_tensors, write_tensors
from stillmark.plan import Job, Plan
from stillmark.records import LedgerEntry, Method, Store, TextScore
from stillmark.sizes import resolved
from stillmark.stages.adopt import final_model, tokenizer_for
from stillmark.stages.quantised import quantised_backend
from stillmark.study.schema import Text

HIDDEN_FILE = "hidden_states.safetensors"
SEQUENCES_AT_ONCE = 8  # recorded in one transaction


def corpus_for(plan: Plan, arm: str) -> Corpus:
    """The arm's text, which must be what it was when the run began."""
    task = plan.study.task_of(arm)
    spec = plan.study.tasks[task]
    assert isinstance(spec, Text), task
    study, first, expected = plan.study, plan.study.first_given, resolved(plan.study, arm)
    reader = study.reader_of(arm)
    with_texts = any(study.is_compared(name) and study.reader_of(name) == reader for name in study.arms)
    key = (expected.sha256, study.given_reader(arm).model_dump_json(), with_texts)
    if key not in _corpora:
        tokenizer = tokenizer_for(plan, arm)
        corpus = read_corpus(
            spec, tokenizer, questions_of(study.benchmarks),
            cut_by=None if study.is_first_reader(arm) else given_tokenizer(first.checkpoint, first.revision),
            with_texts=with_texts,
        )  # fmt: skip
        if corpus.resolved(expected.vocab_size, tokenizer) != expected:
            raise UserError(f"tasks.{task}: its files have changed since the run began",
                            hint="run the study in another folder")  # fmt: skip
        _corpora[key] = corpus
    return _corpora[key]


_corpora: dict[tuple[str, str, bool], Corpus] = {}  # of this process: its jobs share it


def layers_flops(shape: ModelShape, sequence: TokenSequence) -> int:
    """Of a sequence read without the output head."""
    return forward_flops(shape, tokens=len(sequence.token_ids), scored_tokens=0)


def capture(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """The teacher reads a split once: its logits on the training text, or its hidden states on the held-out one."""
    if store.ledger(job.key):
        return  # killed between its entry and the mark that the job is finished
    corpus = corpus_for(plan, job.arm)
    is_training = job.inputs["split"] == "train"
    is_resumed = is_training and capture_folder(store, job.key).exists()
    with processes.stretch() as stretch:
        read = read_training if is_training else read_held_out
        flops, sequences = read(job, plan, store, report, corpus, processes.device)
    took = stretch.row()
    if is_resumed:  # what a killed capture took is lost
        took = dict.fromkeys(took) | {"joules_source": "the capture was stopped and begun again"}
    with store.transaction():
        store.add(
            LedgerEntry(
                job_key=job.key, part="capture", index=0, flops=flops, flops_method=Method.COUNTED,
                tokens=sum(len(sequence.token_ids) for sequence in sequences), positions=None,
                device=processes.device_name, **took,
            )
        )  # fmt: skip


def read_training(
    job: Job, plan: Plan, store: Store, report: Any, corpus: Corpus, device: torch.device
) -> tuple[int, Sequence[TokenSequence]]:
    """Logits of each token on the training text, kept; the FLOPs and what was read."""
    sequences = corpus.train
    settings = settings_of(job.inputs["logit_cache"], job)
    vocab_size = num_token_rows(tokenizer_for(plan, job.arm))
    teacher = final_model(store, job.needs[0]).to(device)
    hidden_states, head = teacher_hidden_states(teacher)
    num_rows = sum(sequence.num_loss_tokens for sequence in sequences)
    done = 0

    def observed(part: Any) -> Any:
        nonlocal done
        done += sum(sequence.num_loss_tokens for sequence in part)
        report(done / num_rows)
        return hidden_states(part)

    capture_logits(
        capture_folder(store, job.key), observed, head, sequences,
        identity=cache_identity_of(job.needs[0], plan, store, job.arm), settings=settings, vocab_size=vocab_size,
    )  # fmt: skip
    shape = executed_shape(teacher, plan.shape(job.arm))
    steady = steady_positions(teacher)
    return capture_flops(shape, sequences, settings, vocab_size=vocab_size, steady=steady), sequences


def read_held_out(
    job: Job, plan: Plan, store: Store, report: Any, corpus: Corpus, device: torch.device
) -> tuple[int, Sequence[TokenSequence]]:
    """Hidden states on the held-out text, kept; the FLOPs and what was read."""
    sequences = [held_out.sequence for held_out in corpus.test]
    teacher = final_model(store, job.needs[0]).to(device)
    states = {}
    for index, sequence in enumerate(sequences):
        states[str(index)] = hidden_states_of(teacher, sequence).cpu()
        report((index + 1) / len(sequences))
    folder = capture_folder(store, job.key)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / HIDDEN_FILE, states, {"teacher": store.checkpoints(job.needs[0])[-1].sha256})
    shape = executed_shape(teacher, plan.shape(job.arm))
    return sum(layers_flops(shape, sequence) for sequence in sequences), sequences


def capture_folder(store: Store, key: str) -> Path:
    return store.folder / "captures" / key


def settings_of(logit_cache: dict[str, Any], job: Job) -> CacheSettings:
    return CacheSettings(
        kind=logit_cache["keep"], k=logit_cache["k"], temperature=job.inputs["temperature"], seed=job.seed
    )


def cache_identity_of(teacher_key: str, plan: Plan, store: Store, arm: str) -> CacheIdentity:
    """What a capture depends on: the teacher's weights by the hash of their file."""
    tokenizer = tokenizer_for(plan, arm)
    return CacheIdentity(
        teacher=store.checkpoints(teacher_key)[-1].sha256,
        tokenizer=tokenizer_sha256(tokenizer),
        template=template_sha256(tokenizer),
        data=data_sha256(corpus_for(plan, arm).train),
    )


def open_cache(job: Job, plan: Plan, store: Store) -> LogitCache:
    """The captured logits that the job's arm learns from."""
    teacher = plan.study.arms[job.arm].teacher
    assert teacher is not None, job.arm
    identity = cache_identity_of(plan.train_keys[teacher, job.seed], plan, store, job.arm)
    return LogitCache(capture_folder(store, plan.capture_keys[job.arm, job.seed]), identity)


def evaluate_text(job: Job, plan: Plan, store: Store, report: Any, processes: Processes) -> None:
    """A checkpoint on the held-out sequences, from the first that is not recorded."""
    corpus = corpus_for(plan, job.arm)
    done = len(store.text_scores(job.key))
    with score_of(job, plan, store, processes.device) as score:
        for start in range(done, len(corpus.test), SEQUENCES_AT_ONCE):
            rows, judge_flops = [], 0
            with processes.stretch() as stretch:
                for index in range(start, min(start + SEQUENCES_AT_ONCE, len(corpus.test))):
                    held_out, began = corpus.test[index], time.perf_counter()
                    scored = score(index, held_out.sequence)
                    judge_flops += scored.judge_flops
                    rows.append(
                        TextScore(
                            job_key=job.key, index=index, nats=-scored.surprise.nats,
                            tokens=held_out.sequence.num_loss_tokens, num_bytes=held_out.num_bytes,
                            truncated_tokens=0, seconds=time.perf_counter() - began,
                            flops=scored.flops, source=held_out.source,
                            teacher_kl_nats=scored.surprise.teacher_kl_nats,
                        )
                    )  # fmt: skip
            entry = LedgerEntry(
                job_key=job.key, part="evaluate", index=start // SEQUENCES_AT_ONCE,
                flops=sum(row.flops or 0 for row in rows) + judge_flops, flops_method=Method.COUNTED,
                tokens=sum(len(corpus.test[row.index].sequence.token_ids) for row in rows), positions=None,
                device=processes.device_name, **stretch.row(),
            )  # fmt: skip
            with store.transaction():
                store.add(*rows, entry)
            report(min(1.0, (start + SEQUENCES_AT_ONCE) / len(corpus.test)))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One held-out sequence, and what it took."""

    surprise: Surprise
    flops: int
    """Of the model alone."""
    judge_flops: int = 0
    """Of the judge's head, on the hidden states that were captured."""


Score = Callable[[int, TokenSequence], Scored]  # of the held-out sequence with this index


@contextmanager
def score_of(job: Job, plan: Plan, store: Store, device: torch.device) -> Iterator[Score]:
    """How the job's model is held to a sequence: in transformers, beside the judge; a quantised one in llama.cpp.

    The FLOPs are of what runs: in transformers a window's whole context, and the head's rows that stand for a token; in
    llama.cpp windows, and all rows.
    """
    shape = plan.shape(job.arm)
    if "format" in job.inputs:
        with quantised_backend(job, plan, store) as backend:

            def quantised(index: int, sequence: TokenSequence) -> Scored:
                wanted = [None if target == IGNORED else target for target in sequence.targets]
                nats = sum(backend.token_nats(sequence.token_ids, wanted))
                tokens, scored = len(sequence.token_ids), sequence.num_loss_tokens
                return Scored(
                    surprise=Surprise(nats=nats, teacher_kl_nats=None),
                    flops=forward_flops(shape, tokens=tokens, scored_tokens=scored),
                )

            yield quantised
        return
    record = store.checkpoints(job.needs[0])[job.inputs["checkpoint"]]
    vocab_size = num_token_rows(tokenizer_for(plan, job.arm))
    model = load_model(store.folder / record.path, record.sha256).to(device)
    scorer = TextScorer(model, vocab_size)
    judges = judge_once(job.needs[1], plan, store, vocab_size, device) if plan.is_judged(job.arm) else None
    executed = executed_shape(scorer.model, shape)

    def beside_judge(index: int, sequence: TokenSequence) -> Scored:
        def head_flops(head: OutputHead) -> int:
            return head_forward_flops(head, sequence.num_loss_tokens, None)

        return Scored(
            surprise=scorer.score(sequence, judges.of(index) if judges else None),
            flops=layers_flops(executed, sequence) + head_flops(scorer.head),
            judge_flops=head_flops(judges.head) if judges else 0,
        )

    yield beside_judge


_judges: dict[tuple[Path, str], "HeldOutJudge"] = {}  # of this process: loading a teacher takes seconds


def judge_once(
    capture_key: str, plan: Plan, store: Store, vocab_size: int, device: torch.device
) -> "HeldOutJudge":
    key = (store.folder, capture_key)
    if key not in _judges:
        _judges[key] = HeldOutJudge(capture_key, plan, store, vocab_size, device)
    return _judges[key]


class HeldOutJudge:
    """The teacher's hidden states on the held-out sequences, as they were captured."""

    def __init__(
        self, capture_key: str, plan: Plan, store: Store, vocab_size: int, device: torch.device
    ) -> None:
        assert plan.judge is not None
        job = plan.jobs[capture_key]
        teacher = store.checkpoints(job.needs[0])[-1]
        model = load_model(store.folder / teacher.path, teacher.sha256).to(device)
        self.head, self.device = token_rows(checked_output_head(model), vocab_size), device
        path = capture_folder(store, capture_key) / HIDDEN_FILE
        self.states, metadata = read_tensors(path)
        if metadata["teacher"] != teacher.sha256:
            raise UserError(f"{path}: was captured with another teacher")

    def of(self, index: int) -> Judge:
        return Judge(hidden_LE=self.states[str(index)].to(self.device), head=self.head)
