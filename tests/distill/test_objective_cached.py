"""An objective from cached logits: the live one's loss and gradient, to the codec's accuracy or without bias."""

import pytest
import torch
from tests.distill.tiny_objective import (
    DIVERGENCES,
    V,
    bound,
    gradients,
    piece_tokenizer,
    recipe,
    rows,
    teacher_of,
    tiny,
)

from stillmark.distill.identity import CacheIdentity
from stillmark.distill.logit_cache import CacheSettings, LogitCache
from stillmark.distill.logit_capture import capture_logits, teacher_hidden_states
from stillmark.distill.objective import CachedTeacher, Objective
from stillmark.distill.spent import Spent
from stillmark.distill.text import Row
from stillmark.errors import UserError

IDENTITY = CacheIdentity(teacher="a", tokenizer="b", template="c", data="d")


def cached(folder, teacher, **settings):
    source, head = teacher_hidden_states(teacher.model)
    data = [row.sequence for row in rows()]
    wanted = CacheSettings(rows_per_chunk=20, **settings)
    capture_logits(folder, source, head, data, identity=IDENTITY, settings=wanted)
    return CachedTeacher(cache=LogitCache(folder, IDENTITY))


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize("loss", DIVERGENCES)
def test_the_whole_vocabulary_in_a_cache_is_the_live_teacher(tmp_path, loss):
    """16 bits a log-probability; with 6 the same comparison fails, so that the tolerance is the codec's."""
    student, teacher = tiny(), teacher_of()
    common = {"loss": loss, "temperature": 1.3, "cross_entropy_weight": 0.2}
    value, live = gradients(bound(recipe(**common), student, teacher), student)
    errors = []
    for bits in (16, 6):
        spent = Spent()
        wanted = recipe(**common, logit_cache={"k": V})
        source = cached(tmp_path / str(bits), teacher, k=V, temperature=1.3, code_bits=bits)
        got_value, got = gradients(bound(wanted, student, source), student, max_positions=26, spent=spent)
        errors.append(float((flat(got) - flat(live)).norm() / flat(live).norm()))
        assert spent.teacher_flops == spent.train_flops == 0
        assert got_value == pytest.approx(value, rel=2e-4 if bits == 16 else 0.3)
    assert errors[0] < 3e-4
    assert errors[1] > 10 * errors[0]


@pytest.mark.parametrize("fields", [{"keep": "top_k", "k": 4}, {"keep": "samples", "k": 20}], ids=str)
def test_no_cut_of_the_batch_changes_a_cached_gradient(tmp_path, fields):
    """Rows are found by their place in the corpus, in whatever order and batch they come."""
    student, wanted = tiny(), recipe(loss="forward_kl", logit_cache=fields)
    source = cached(tmp_path, teacher_of(), kind=fields["keep"], k=fields["k"])
    objective = bound(wanted, student, source)
    value, expected = gradients(objective, student)
    for chosen, max_positions in ((rows()[::-1], 10_000), (rows(), 26), (rows()[3:] + rows()[:3], 1)):
        again, got = gradients(objective, student, chosen, max_positions)
        assert again == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-13)


def test_samples_are_without_bias(tmp_path):
    """The mean gradient over 60 caches is the live one within its own standard error, and each alone is far off."""
    student, teacher = tiny(), teacher_of()
    value, live = gradients(bound(recipe(loss="forward_kl"), student, teacher), student)
    wanted = recipe(loss="forward_kl", logit_cache={"keep": "samples", "k": 8})
    values, found = [], []
    for seed in range(60):
        source = cached(tmp_path / str(seed), teacher, kind="samples", k=8, seed=seed)
        got_value, got = gradients(bound(wanted, student, source), student)
        values.append(got_value)
        found.append(flat(got))
    spread = torch.stack(found).var(0).sum().sqrt()
    error = (torch.stack(found).mean(0) - flat(live)).norm()
    assert error < 1.6 * spread / 60**0.5
    assert spread > 4 * error
    mean, deviation = torch.tensor(values).mean(), torch.tensor(values).std()
    assert abs(mean - value) < 4 * deviation / 60**0.5


def test_a_cache_of_something_else_is_refused(tmp_path):
    source = cached(tmp_path, teacher_of(), k=4)
    for fields, message in (
        ({"temperature": 2.0, "logit_cache": {"k": 4}}, "temperature 1.0, not 2.0"),
        ({"logit_cache": {"k": 5}}, "k 4, not 5"),
        ({"logit_cache": {"k": 4, "keep": "samples"}}, "keep top_k, not samples"),
    ):
        with pytest.raises(UserError, match=message):
            Objective(recipe(loss="forward_kl", **fields), source)
    wanted = recipe(loss="forward_kl", logit_cache={"k": 4})
    with pytest.raises(ValueError, match="needs cached logits"):
        Objective(wanted, teacher_of())
    fresh = [Row(sequence=row.sequence) for row in rows()]
    with pytest.raises(UserError, match="new each time"):
        gradients(bound(wanted, tiny(), source), tiny(), fresh)
    with pytest.raises(UserError, match="head has 40 rows, the cache 29"):
        bound(wanted, tiny(vocab_size=40), source)
    tokenizer = piece_tokenizer(".", ["abc"])
    with pytest.raises(UserError, match="capture again with vocab_size=6"):
        bound(wanted, tiny(), source, student_tokenizer=tokenizer, teacher_tokenizer=tokenizer)
