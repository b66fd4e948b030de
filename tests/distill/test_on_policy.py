"""The student's own text: transformers' greedy search, torch's FLOP counter, and the teacher that it is to come near."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.distill.small_training import STUDENT, TASK, TOKENIZER, WORDS, addmm_in_place_flop
from torch.utils.flop_counter import FlopCounterMode

from stillmark.backends import attention
from stillmark.backends.transformers import TransformersBackend
from stillmark.compute.shapes import shape_from_config
from stillmark.configs import model_config
from stillmark.distill import on_policy
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.on_policy import OnPolicyText, evaluating, prompt_of
from stillmark.distill.spent import SAVED_COUNTS, Spent
from stillmark.distill.text import IGNORED, Row, TaskText
from stillmark.distill.train import Training
from stillmark.errors import UserError
from stillmark.models.build import build_model
from stillmark.models.tensor_files import read_tensors
from stillmark.study.recipe import OnPolicy, Recipe

END = WORDS.index("<eos>")
CONFIG = {**model_config(STUDENT, len(WORDS)), "attn_implementation": "eager"}


def peaked_model(seed: int):
    """Random weights with next tokens far from ties and from uniform."""
    model = build_model(CONFIG, seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(40 if "lm_head" in name else 8)
    return model


def training(seed: int = 0, *, student_seed: int = 0, **settings: object) -> Training:
    temperature = settings.pop("temperature", 1.0)
    changes = {name: settings.pop(name) for name in ("learning_rate", "loss", "lora") if name in settings}
    on_policy = OnPolicy.model_construct(
        **{**OnPolicy(max_new_tokens=12, **settings).__dict__, "temperature": temperature}
    )
    recipe = Recipe.model_validate(
        {"text": "solutions", "loss": "reverse_kl", "train_flops": 1e12, "learning_rate": 1e-3, "batch_samples": 6,
         "warmup_samples": 0, **changes}
    )  # fmt: skip
    model, spent, shape = peaked_model(student_seed).train(), Spent(), shape_from_config(CONFIG)
    return Training(
        model=model,
        shape=shape,
        tokenizer=TOKENIZER,
        source=OnPolicyText(
            TaskText(TASK, "solutions", seed, TOKENIZER), model=model, shape=shape, tokenizer=TOKENIZER,
            settings=on_policy, batch_samples=6, seed=seed, spent=spent,
        ),
        recipe=recipe,
        objective=Objective(recipe, LiveTeacher(model=peaked_model(7).eval(), shape=shape)),
        spent=spent,
    )  # fmt: skip


def reply_of(row: Row) -> list[int]:
    return [target for target in row.sequence.targets if target != IGNORED]


def test_greedy_replies_are_transformers_own_with_the_weights_of_the_moment():
    run = training(student_seed=3, temperature=0.0)
    for _ in range(4):
        run.step()
    rows = run.source.rows(range(24, 30))
    plain = run.source.source.rows(range(24, 30))
    ends = set()
    for row, from_task in zip(rows, plain, strict=True):
        prompt = prompt_of(from_task)
        inputs = torch.tensor([prompt])
        with evaluating(run.model), torch.no_grad():
            output = run.model.generate(
                inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=12, do_sample=False, eos_token_id=END
            )[0].tolist()  # fmt: skip
        assert [*row.sequence.token_ids, row.sequence.targets[-1]] == output
        assert row.sequence.targets == [IGNORED] * (len(prompt) - 1) + output[len(prompt) :]
        ends.add(output[-1] == END)
        # Where it was cut, the end is no target
        assert (END in reply_of(row)) == (output[-1] == END)
    assert ends == {True, False}


@pytest.mark.parametrize("path", ["packed", "plain"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_of_the_head_that_stand_for_no_token_are_never_written(
    path: str, temperature: float, monkeypatch: pytest.MonkeyPatch
):
    """As of Qwen's heads, of 151,936 rows for 151,665 tokens: here each is likelier than any token."""
    model, made = build_model({**CONFIG, "vocab_size": 3 * len(WORDS)}, 0), []
    tokens = 40 * model.lm_head.weight.detach()[: len(WORDS)]
    model.lm_head.weight.data = torch.cat([tokens, 3 * tokens, -3 * tokens])

    def backend(*given: object, **settings: object) -> TransformersBackend:
        made.append(TransformersBackend(*given, **settings, path=path))
        return made[0]

    monkeypatch.setattr(on_policy, "TransformersBackend", backend)
    text = OnPolicyText(
        TaskText(TASK, "solutions", 0, TOKENIZER), model=model, shape=shape_from_config(CONFIG), tokenizer=TOKENIZER,
        settings=OnPolicy.model_construct(
            **{**OnPolicy(max_new_tokens=12).__dict__, "temperature": temperature}
        ),
        batch_samples=6, seed=0, spent=Spent(),
    )  # fmt: skip
    written = [token for row in text.rows(range(6)) for token in reply_of(row)]
    assert len(written) > 6
    assert max(written) < len(WORDS)
    made[0].num_tokens, text.written_step = None, None  # what it would have written otherwise
    assert max(token for row in text.rows(range(6)) for token in reply_of(row)) >= len(WORDS)


def test_a_reply_that_ends_has_the_end_as_its_last_target():
    run = training(temperature=1.0)
    replies = [
        reply_of(row)
        for step in range(30)
        for row in run.source.write(range(6 * step, 6 * step + 6)).values()
    ]
    ended = [reply for reply in replies if END in reply]
    assert ended, "some of 180 replies end within 12 tokens"
    assert all(reply.index(END) == len(reply) - 1 for reply in ended)
    assert {len(reply) for reply in replies if END not in reply} == {12}


def test_each_sample_has_a_reply_of_its_own_that_depends_on_nothing_else():
    run, other = training(), training()
    whole = run.source.write(range(6))
    halves = other.source.write(range(3)) | other.source.write(range(3, 6))
    assert {place: row.sequence for place, row in whole.items()} == {
        place: row.sequence for place, row in halves.items()
    }
    assert reply_of(training(seed=1).source.write(range(6))[0]) != reply_of(whole[0])
    prompt = TASK.training_sample(0, 0).prompt
    same = training()
    same.source.source = FixedText(prompt)
    assert len({tuple(reply_of(row)) for row in same.source.write(range(6)).values()}) > 1


class FixedText:
    """One prompt, whatever the index."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt

    def rows(self, indices):
        from stillmark.distill.text import TextPair, rows_of

        return rows_of([TextPair(prompt=self.prompt, response="red")] * len(indices), TOKENIZER)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_steps_of_both_kinds_come_at_the_expected_count(fraction: float):
    source = training(fraction=fraction).source
    count = sum(source.is_on_policy(step) for step in range(4000))
    assert abs(count - 4000 * fraction) < 4 * math.sqrt(4000 * fraction * (1 - fraction))


def test_a_step_reads_its_own_text_or_the_sources():
    run = training(fraction=0.5)
    kinds = []
    for step in range(20):
        before = run.spent.generate_flops
        indices = range(6 * step, 6 * step + 6)
        rows, plain = run.source.rows(indices), run.source.source.rows(indices)
        assert [prompt_of(row) for row in rows] == [prompt_of(row) for row in plain]
        kinds.append(run.spent.generate_flops > before)
        assert kinds[-1] == (rows != plain) == run.source.is_on_policy(step)
    assert 3 < sum(kinds) < 17


def test_replies_are_read_again_by_as_many_steps_as_asked_for():
    """With fraction 1 and reuse 3, steps 0 to 2 read one text, 3 to 5 the next."""
    run = training(reuse=3)
    texts = []
    for step in range(7):
        texts.append([row.sequence for row in run.source.rows(range(6 * step, 6 * step + 6))])
        assert [row.sequence for row in run.source.rows(range(6 * step, 6 * step + 6))] == texts[-1]
        run.step()
    assert texts[0] == texts[1] == texts[2]
    assert texts[3] == texts[4] == texts[5]
    assert len({str(text) for text in texts}) == 3


@pytest.mark.parametrize(("path", "max_batch_tokens"), [("packed", 1024), ("packed", 48), ("plain", 1024)])
def test_counted_flops_are_those_that_torch_counts(
    path: str, max_batch_tokens: int, monkeypatch: pytest.MonkeyPatch
):
    """Whole steps: generation, the student's forward and backward, the teacher's forward. Exactly.

    torch's counter does not see the CPU's fused attention: the engine is told to do without it. In passes of few
    tokens, prompts come after the prefix that they share, and in groups padded to one length.
    """
    monkeypatch.setattr(attention, "has_cpu_kernels", lambda states: False)
    monkeypatch.setattr("stillmark.backends.pass_plan.causal_block", lambda *args, **options: None)
    run = training(fraction=0.7)
    with evaluating(run.model):
        run.source._backend = TransformersBackend(
            run.model, TOKENIZER, path=path, max_batch_tokens=max_batch_tokens
        )
        if path == "plain":  # the engine tries its ways with a model once, which is no part of a step
            assert run.source._backend._plain_ways.uses_cache
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place_flop}
    ) as counter:
        for _ in range(4):
            run.step()
    spent = run.spent
    assert counter.get_total_flops() == spent.train_flops + spent.teacher_flops + spent.generate_flops
    assert spent.generate_flops > 0
    if path == "packed":
        assert spent.generate_positions < spent.generate_tokens  # nothing is padded, and <bos> is read once


@pytest.mark.parametrize("path", ["packed", "plain"])
@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"]])
def test_adapters_that_write_are_counted(
    targets: list[str] | None, path: str, monkeypatch: pytest.MonkeyPatch
):
    """They are not merged while the student trains, so torch counts their products too."""
    pytest.importorskip("peft")
    monkeypatch.setattr(attention, "has_cpu_kernels", lambda states: False)
    monkeypatch.setattr("stillmark.backends.pass_plan.causal_block", lambda *args, **options: None)
    run = training(lora={"rank": 4, "target_modules": targets})
    with evaluating(run.model):
        run.source._backend = TransformersBackend(run.model, TOKENIZER, path=path)
        if path == "plain":
            assert run.source._backend._plain_ways.uses_cache
    with FlopCounterMode(display=False) as counter:
        run.source.write(range(6))
    assert run.spent.generate_flops == counter.get_total_flops()


def test_tokens_and_seconds_are_kept_apart():
    run = training(reuse=2)
    run.step()
    tokens = sum(len(prompt_of(row)) + len(reply_of(row)) for row in run.source.replies.values())
    assert run.spent.generate_tokens == tokens
    seconds = run.spent.generate_seconds
    assert seconds > 0
    run.step()  # reads the buffer
    assert (run.spent.generate_tokens, run.spent.generate_seconds) == (tokens, seconds)


def test_the_model_is_in_eval_mode_while_it_writes_and_then_as_it_was(monkeypatch: pytest.MonkeyPatch):
    run = training()
    run.model.model.norm.eval()  # such as a part that is frozen
    seen = []
    write = TransformersBackend.write

    def watched(self, *args):
        seen.append([module.training for module in self.model.modules()])
        return write(self, *args)

    monkeypatch.setattr(TransformersBackend, "write", watched)
    run.step()
    run.step()
    assert [any(modes) for modes in seen] == [False, False]
    training_parts = [module for module in run.model.modules() if not module.training]
    assert training_parts == [run.model.model.norm]


@pytest.mark.parametrize("loss", ["reverse_kl", "jsd"])
def test_a_student_comes_nearer_to_its_teacher_on_its_own_words(loss: str):
    """Reverse KL on fresh samples of the student, dense in float64, before and after: less than half."""
    run = training(student_seed=2, loss=loss, learning_rate=3e-3)
    before = own_reverse_kl(run)
    for _ in range(60):
        run.step()
    after = own_reverse_kl(run)
    assert after < before / 2, (before, after)


def own_reverse_kl(run: Training) -> float:
    """Mean nats a token of KL(student || teacher) on replies that training does not read."""
    total, count = 0.0, 0
    for row in run.source.write(range(10**6, 10**6 + 30)).values():
        inputs = torch.tensor([row.sequence.token_ids])
        at = torch.tensor(row.sequence.targets) != IGNORED
        with torch.no_grad():
            ours, theirs = (
                model(input_ids=inputs).logits[0, at].double().log_softmax(-1)
                for model in (run.model, run.objective.teacher.model)
            )
        total += float((ours.exp() * (ours - theirs)).sum())
        count += int(at.sum())
    return total / count


def test_resumed_training_is_bit_for_bit_the_same(tmp_path: Path):
    """Stopped between a writing and a reading of the buffer."""
    settings = {"fraction": 0.7, "reuse": 3}
    whole, first = training(**settings), training(**settings)
    for _ in range(11):
        whole.step()
    steps = 0
    while not (steps >= 4 and first.source.replies and not first.source.is_stale(steps)):
        first.step()
        steps += 1
    assert steps < 11
    first.save(tmp_path / "state.safetensors")
    second = training(**settings)
    second.load(tmp_path / "state.safetensors", {name: getattr(first.spent, name) for name in SAVED_COUNTS})
    assert {place: row.sequence for place, row in second.source.replies.items()} == {
        place: row.sequence for place, row in first.source.replies.items()
    }
    for _ in range(11 - steps):
        second.step()
    assert_same(second, whole)


def test_the_buffers_of_several_processes_are_saved_together():
    """Each of two processes writes every second sample; either can go on with the replies of both."""
    first, second, alone = (training(reuse=2).source for _ in range(3))
    first.rows(range(0, 6, 2))
    second.rows(range(1, 6, 2))
    whole = alone.rows(range(6))
    gathered: list[list[int]] = []
    first.state(lambda own: gathered.append(list(own)) or [own])
    tensors = second.state(lambda own: [*gathered, list(own)])
    again = training(reuse=2).source
    again.load_state(tensors)
    assert [row.sequence for row in again.rows(range(6, 12))] == [row.sequence for row in whole]
    assert training().source.rows([]) == []


def assert_same(one: Training, other: Training) -> None:
    for mine, theirs in zip(one.parameters + one.average, other.parameters + other.average, strict=True):
        assert torch.equal(mine, theirs)
    for name in SAVED_COUNTS:
        assert getattr(one.spent, name) == getattr(other.spent, name), name


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.distill.test_on_policy import training
from stillmark.backends.decoding import Decoder
run = training(fraction=0.7, reuse=2)
for step in range(12):
    if step == 8:
        Decoder._step = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # in the middle of a reply
    run.step()
    run.save(Path(sys.argv[1]))
"""


def test_killed_while_it_writes_it_goes_on_bit_for_bit(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], cwd=root, check=False,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL
    counts = {name: int(value) for name, value in read_tensors(path)[1].items()}
    assert 8 <= counts["step"] < 12
    whole, second = training(fraction=0.7, reuse=2), training(fraction=0.7, reuse=2)
    for _ in range(14):
        whole.step()
    second.load(path, counts)
    for _ in range(14 - counts["step"]):
        second.step()
    assert_same(second, whole)


def test_a_prompt_that_fills_the_window_is_refused():
    run = training()
    run.source.source = FixedText("red " * 1100)
    with pytest.raises(UserError, match="1101 tokens, and the student's window is 1024"):
        run.step()
