"""ULD against a dense autograd one, and its alignment against texts read by hand."""

import unicodedata

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from stillmark.distill import fused as machinery
from stillmark.distill.cross_tokenizer import aligned_positions, fused_uld, token_ends


@pytest.mark.parametrize(("student_size", "teacher_size"), [(31, 20), (20, 31), (25, 25)])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_agrees_with_dense_autograd(student_size, teacher_size, temperature, monkeypatch):
    monkeypatch.setattr(machinery, "CHUNK_BYTES", 1)
    g = torch.Generator().manual_seed(0)
    shapes = [(19, 6), (student_size, 6), (19, 4), (teacher_size, 4)]
    hidden, head, teacher_hidden, teacher_head = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes
    )
    hidden.requires_grad_()
    head.requires_grad_()
    p = (hidden @ head.T / temperature).softmax(-1).sort(-1, descending=True).values
    q = (teacher_hidden @ teacher_head.T / temperature).softmax(-1).sort(-1, descending=True).values
    width = max(student_size, teacher_size)
    p, q = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (p, q))
    expected = (p - q).abs().sum() / 30
    result = fused_uld(
        hidden, head, teacher_hidden, teacher_head, num_loss_tokens=30, temperature=temperature
    )
    torch.testing.assert_close(result.loss, expected, rtol=1e-12, atol=0)
    wanted = torch.autograd.grad(expected, [hidden, head])
    got = torch.autograd.grad(result.loss, [hidden, head])
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_permuted_vocabulary_is_no_difference():
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    loss = fused_uld(logits, torch.eye(12), logits, torch.eye(12)[torch.randperm(12)], num_loss_tokens=5)
    assert loss.loss.item() == pytest.approx(0, abs=1e-6)


def test_alignment_by_hand():
    #          the cat's  ->  "the" " cat" "'s"  and  "the" " c" "at'" "s"
    assert aligned_positions([3, 7, 9], [3, 5, 8, 9]) == ([0, 2], [0, 3])
    # One character as three byte tokens: only after the last has all of it been read.
    assert aligned_positions([1, 1, 1, 2], [1, 2]) == ([2, 3], [0, 1])
    assert aligned_positions([2], [1]) == ([], [])


def test_two_tokenizers_of_one_text():
    def tokenizer(pattern):
        backend = Tokenizer(models.WordLevel(vocab={"?": 0}, unk_token="?"))
        backend.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")

    text = "ab cd-ef"
    _, student = token_ends(tokenizer(" "), text)
    _, teacher = token_ends(tokenizer("-"), text)
    assert student == [2, 3, 8]
    assert teacher == [5, 6, 8]
    assert aligned_positions(student, teacher) == ([2], [2])


def byte_level(text, normalizer=None, **options):
    """Trained on the text, so that its words are tokens."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [text], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False, **options)
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("vocab_size", [256, 400], ids=["bytes", "words"])
def test_characters_that_a_normaliser_joins_are_read_together(vocab_size):
    """Against what each has read, decoded: cafe + accent under NFC (Qwen's) beside a tokenizer that keeps it apart."""
    text = "cafe\u0301 the world, e\u0323\u0301e\u0301\u0323 nai\u0308ve x\u0301y"
    plain, composing = (
        byte_level(text, vocab_size=400),
        byte_level(text, normalizers.NFC(), vocab_size=vocab_size),
    )
    (ids, ends), (composed_ids, composed_ends) = token_ends(plain, text), token_ends(composing, text)
    places = list(zip(*aligned_positions(ends, composed_ends), strict=True))
    for mine, theirs in places:
        read = [t.decode(i[: n + 1]) for t, i, n in ((plain, ids, mine), (composing, composed_ids, theirs))]
        assert unicodedata.normalize("NFC", read[0]) == read[1]
    read = {ends[mine] for mine, _ in places}
    assert {5, len(text)} <= read  # after the accent, not before it
    assert not {4, 18, 19, 21, 22} & read


@pytest.mark.parametrize("add_prefix_space", [False, True])
@pytest.mark.parametrize("text", [" ", "  x", "     x", "\n  x", "x  y ", "    return 1"])
def test_spaces_that_offsets_leave_out_are_read(text, add_prefix_space):
    """Against what each token decodes to; both settings of the post-processor that trims offsets (RoBERTa's, Llama 3's)."""
    tokenizer = byte_level("     x = 1\n    return 1", vocab_size=270)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(
        trim_offsets=True, add_prefix_space=add_prefix_space
    )
    ids, ends = token_ends(tokenizer, text)
    assert ends == [len(tokenizer.decode(ids[: n + 1])) for n in range(len(ids))]


def test_a_mark_put_before_the_text_has_read_nothing_of_it():
    backend = Tokenizer(models.BPE({"\u2581": 0, "n": 1, "a": 2, "na": 3, "b": 4}, [("n", "a")]))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    prepending = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert prepending.convert_ids_to_tokens(prepending("nab")["input_ids"]) == ["\u2581", "na", "b"]
    _, ends = token_ends(prepending, "nab")
    assert aligned_positions([1, 2, 3], ends) == ([1, 2], [1, 2])  # n, a, b
