"""Tiny models, rows and recipes to hold an objective to; and what a loss is, written out over whole logits."""

import random

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from stillmark.compute.shapes import shape_from_config
from stillmark.distill.identity import TokenSequence
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.spent import Spent
from stillmark.distill.text import IGNORED, Row, micro_batches
from stillmark.study.recipe import Recipe

V = 29
SIZES = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 20}
NO_DROPOUT = {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0, "dropout": 0, "attention_dropout": 0}
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "total_variation")


def tiny(model_type="gpt2", seed=0, dtype=torch.float64, width=8, layers=2, vocab_size=V, **changes):
    """A causal language model whose logits are far from uniform. GPT-2 is float64 throughout, unlike those whose
    norms are computed in float32 (Llama).
    """
    sizes = {"hidden_size": width, "num_hidden_layers": layers, **SIZES}
    if model_type == "gpt2":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": 2}
    options = {"vocab_size": vocab_size, **sizes, **NO_DROPOUT, **changes}
    config = AutoConfig.for_model(model_type, **options)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    return model


def teacher_of(model=None, **changes):
    model = model or tiny(seed=7, width=12, layers=3, **changes)
    config = model.config.to_dict()
    return LiveTeacher(model=model, shape=shape_from_config(config))


def recipe(**changes):
    basis = {"text": "corpus", "train_flops": 1e9, "learning_rate": 1e-3}
    return Recipe.model_validate({**basis, **changes})


def rows(count=7, vocab_size=V):
    """Rows of 4 to 12 tokens, the first few without a loss."""
    made, draw = [], random.Random(3)
    for index in range(count):
        ids = [draw.randrange(vocab_size) for _ in range(5 + index % 9)]
        targets = [IGNORED if place < index % 3 else token for place, token in enumerate(ids[1:])]
        made.append(Row(sequence=TokenSequence(token_ids=ids[:-1], targets=targets), fixed_index=index))
    return made


def bound(wanted, student, teacher=None, **options):
    objective = Objective(wanted, teacher, **options)
    objective.bind(student)
    return objective


def gradients(objective, student, chosen=None, max_positions=10_000, spent=None):
    """(loss, its gradients to the student's and the objective's own weights), over micro-batches."""
    chosen = chosen or rows()
    batches = micro_batches(chosen, 0, max_positions=max_positions)
    total = sum(batch.num_loss_tokens for batch in batches)
    weights = [*student.parameters(), *objective.parameters()]
    for weight in weights:
        weight.grad = None
    spent, value = spent or Spent(), 0.0
    for batch in batches:
        loss = objective.loss(student, batch, total, spent)
        loss.backward()
        value += float(loss.detach())
    return value, [weight.grad for weight in weights if weight.requires_grad]


def logits_of(model, row):
    """The model's own logits at the row's loss positions, the row alone and without padding."""
    keep = torch.tensor(row.sequence.targets) != IGNORED
    return model(input_ids=torch.tensor([row.sequence.token_ids])).logits[0][keep]


def targets_of(row):
    return torch.tensor([target for target in row.sequence.targets if target != IGNORED])


def dense_divergence(kind, z, t, beta=0.5, alpha=0.1):
    """Summed over positions, from p = softmax(z) and q = softmax(t), as the papers write them."""
    p, q = z.softmax(-1), t.softmax(-1)

    def kl(first, second):
        return (first * (first.log() - second.log())).sum()

    mixed = beta * q + (1 - beta) * p
    return {
        "forward_kl": lambda: kl(q, p),
        "reverse_kl": lambda: kl(p, q),
        "jsd": lambda: beta * kl(q, mixed) + (1 - beta) * kl(p, mixed),
        "skew_kl": lambda: kl(q, alpha * q + (1 - alpha) * p),
        "skew_reverse_kl": lambda: kl(p, alpha * p + (1 - alpha) * q),
        "total_variation": lambda: (p - q).abs().sum() / 2,
    }[kind]()


def dense_loss(wanted, student, teacher, chosen=None, num_tokens=None):
    """The recipe's loss without any of the library: one row at a time, all logits."""
    chosen, total = chosen or rows(), 0.0
    for row in chosen:
        z, targets = logits_of(student, row)[:, :num_tokens], targets_of(row)
        weight = 1.0 if wanted.loss == "cross_entropy" else wanted.cross_entropy_weight
        total = total + weight * functional.cross_entropy(z, targets, reduction="sum")
        if weight < 1:
            with torch.no_grad():
                t = logits_of(teacher.model, row)[:, :num_tokens]
            scale = wanted.temperature**2 if wanted.temperature_squared else 1.0
            heat = wanted.temperature
            value = dense_divergence(wanted.loss, z / heat, t / heat, wanted.beta, wanted.alpha)
            total = total + (1 - weight) * scale * value
    return total / sum(row.sequence.num_loss_tokens for row in chosen)


def piece_tokenizer(pattern, texts, *, begins=False, padding=0):
    """A tokenizer whose tokens are the pattern's matches; `begins` puts <s> before a text, and `padding` tokens are
    in no text.
    """
    splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
    pieces = sorted({piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)})
    words = ["<s>", "</s>", "?", *pieces, *(f"<unused{index}>" for index in range(padding))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="?"))
    backend.pre_tokenizer = splitter
    if begins:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", bos_token="<s>", eos_token="</s>")
