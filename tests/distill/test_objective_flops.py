"""FLOPs of every objective against torch's own counter: student, heads, projectors and teacher, exactly."""

import pytest
import torch
from tests.distill.tiny_objective import V, bound, gradients, piece_tokenizer, recipe, rows, teacher_of, tiny
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from stillmark.compute.flops import train_flops
from stillmark.compute.shapes import shape_from_config
from stillmark.distill import fused, objective_teacher
from stillmark.distill.identity import CacheIdentity
from stillmark.distill.logit_cache import CacheSettings
from stillmark.distill.logit_capture import capture_flops, capture_logits, teacher_hidden_states
from stillmark.distill.spent import Spent, batch_flops
from stillmark.distill.text import TextPair, micro_batches, rows_of

IDENTITY = CacheIdentity(teacher="a", tokenizer="b", template="c", data="d")


def addmm_in_place_flop(self_shape, first_shape, second_shape, *args, **kwargs) -> int:  # type: ignore[no-untyped-def]
    return mm_flop(first_shape, second_shape)


def counter():
    """torch's, told of the in-place addmm_ that sums the head's gradient."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place_flop})


def counted_by_the_loop(student, chosen, max_positions):
    """What `Training.count` adds: forward and backward, the head on each loss token."""
    shape = shape_from_config(student.config.to_dict())
    batches = micro_batches(chosen, 0, max_positions=max_positions)
    sizes = [(*batch.input_ids_BT.shape, batch.num_loss_tokens) for batch in batches]
    return sum(batch_flops(train_flops, shape, *size) for size in sizes)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"loss": "jsd"},
        {"loss": "forward_kl", "cross_entropy_weight": 0.5, "temperature": 2.0},
        {"loss": "forward_kl", "cross_entropy_weight": 1.0},
        {"hidden_states": {}},
        {"loss": "reverse_kl", "hidden_states": {"match": "cosine"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_every_product_is_counted_once(fields, model_type):
    wanted, student = recipe(**fields), tiny(model_type, dtype=torch.float32)
    teacher = None
    if wanted.needs_logits:
        teacher = teacher_of(tiny(model_type, seed=7, width=12, layers=3, dtype=torch.float32))
    objective, spent = bound(wanted, student, teacher), Spent()
    with counter() as counted:
        gradients(objective, student, max_positions=30, spent=spent)
    by_loop = counted_by_the_loop(student, rows(), 30)
    assert counted.get_total_flops() == by_loop + spent.train_flops + spent.teacher_flops
    hears = fields.get("cross_entropy_weight", 0) < 1 and bool(fields)
    assert (spent.teacher_flops > 0) == hears
    assert (spent.train_flops > 0) == ("hidden_states" in fields)


def test_rows_of_a_head_that_stand_for_no_token_are_not_counted():
    tokenizer = piece_tokenizer(".", ["abcd"])
    student = tiny(dtype=torch.float32)
    teacher = teacher_of(tiny(seed=7, width=12, vocab_size=V + 7, dtype=torch.float32))
    options = {"student_tokenizer": tokenizer, "teacher_tokenizer": tokenizer}
    spent, chosen = Spent(), rows(vocab_size=len(tokenizer))
    objective = bound(recipe(loss="jsd"), student, teacher, **options)
    with counter() as counted:
        gradients(objective, student, chosen, spent=spent)
    by_loop = counted_by_the_loop(student, chosen, 10_000)
    assert counted.get_total_flops() == by_loop + spent.train_flops + spent.teacher_flops
    assert spent.train_flops < 0  # the loop counts a head of V rows


@pytest.mark.parametrize("vocab_size", [None, V - 4])
def test_a_capture_is_counted_with_its_padding(tmp_path, vocab_size):
    teacher = teacher_of(tiny("llama", seed=7, dtype=torch.float32))
    data = [row.sequence for row in rows(23)]
    settings = CacheSettings(k=5, rows_per_chunk=40)
    source, head = teacher_hidden_states(teacher.model, tokens_per_batch=30)
    with counter() as counted:
        capture_logits(
            tmp_path, source, head, data, identity=IDENTITY, settings=settings, vocab_size=vocab_size
        )
    assert counted.get_total_flops() == capture_flops(
        teacher.shape, data, settings, vocab_size=vocab_size, tokens_per_batch=30
    )


def test_speed_is_of_the_time_since_the_last_checkpoint():
    spent = Spent()
    assert spent.flops_per_second is None
    spent.train_flops, spent.train_seconds = 600, 2.0
    assert spent.flops_per_second == 300
    spent.reset_segment()
    assert spent.flops_per_second is None
    spent.train_flops, spent.train_seconds = 700, 0.5
    assert spent.flops_per_second == 200


class ProductClock:
    """Stands for `time`: a second goes by for each FLOP of a product, and for nothing else."""

    def __init__(self, counted):
        self.perf_counter = self.process_time = lambda: float(counted.get_total_flops())


@pytest.mark.parametrize("chunk_bytes", [1, 2**26], ids=["many chunks", "one chunk"])
@pytest.mark.parametrize(
    "fields",
    [{"loss": "jsd"}, {"loss": "forward_kl", "cross_entropy_weight": 0.5}, {"hidden_states": {}}, {"loss": "uld"}],
    ids=str,
)  # fmt: skip
def test_the_teachers_seconds_are_those_of_the_products_that_are_counted_as_its_own(
    fields, chunk_bytes, monkeypatch
):
    monkeypatch.setattr(fused, "CHUNK_BYTES", chunk_bytes)
    student, teacher = tiny(dtype=torch.float32), teacher_of(tiny(seed=7, width=12, dtype=torch.float32))
    options, chosen = {}, rows()
    if fields.get("loss") == "uld":
        tokenizer = piece_tokenizer(".", ["abcdefgh"])
        options = {"student_tokenizer": tokenizer, "teacher_tokenizer": tokenizer}
        chosen = rows_of([TextPair(prompt="abc", response="defgh" * 5)] * 3, tokenizer)
    objective, spent = bound(recipe(**fields), student, teacher, **options), Spent()
    with counter() as counted:
        monkeypatch.setattr(objective_teacher, "time", ProductClock(counted))
        gradients(objective, student, chosen, max_positions=30, spent=spent)
    assert spent.teacher_flops > 0
    assert spent.teacher_seconds == spent.teacher_cpu_seconds == spent.teacher_flops


def test_chunks_on_a_gpu_are_timed_by_its_events_and_waited_for_at_the_end(monkeypatch):
    waited, gpu_now = [], iter([0.0, 2.0, 5.0, 9.0])  # ms: when the stream comes to each event

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert not waited
            self.at = next(gpu_now)

        def synchronize(self):
            waited.append(self)

        def elapsed_time(self, end):
            assert end in waited
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    spent = Spent()
    with objective_teacher.teacher_chunks(spent, torch.device("cuda")) as clock:
        for _ in range(2):
            with clock():
                pass
    assert spent.teacher_seconds == pytest.approx((2 + 4) / 1000)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("sliding_window", [None, 4])
def test_a_teacher_with_a_window_is_counted_as_its_kernel_runs_it(kernel, sliding_window):
    """Eager attention, which torch's counter sees, multiplies all positions; so does SDPA, which it may not see."""
    model = tiny("mistral", sliding_window=sliding_window, dtype=torch.float32)
    with counter() as counted:
        model.base_model(input_ids=torch.ones(2, 9, dtype=torch.long), use_cache=False)
    model.set_attn_implementation(kernel)
    teacher, spent = teacher_of(model), Spent()
    teacher.run({"input_ids": torch.ones(2, 9, dtype=torch.long)}, spent, num_tokens=18)
    assert spent.teacher_flops == counted.get_total_flops()
