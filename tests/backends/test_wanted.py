"""The last layer run for wanted positions alone, and groups of tokens attended to one by one: against the model itself."""

import random

import pytest
import torch
from tests.backends.test_engine import brute_force, random_text
from tests.backends.tiny import PACKED, char_tokenizer, tiny_model
from torch.utils.flop_counter import FlopCounterMode

from stillmark.backends import packed_check, wanted
from stillmark.backends.packed import PackedModel
from stillmark.backends.pass_plan import PassPlan
from stillmark.backends.transformers import TransformersBackend
from stillmark.backends.work import Work
from stillmark.compute.flops import spared_prefill_flops
from stillmark.compute.shapes import shape_from_config

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def letters_after_long_items() -> list[tuple[str, str]]:
    """A prefix and items of more tokens than a group needs to be attended to by itself."""
    rng = random.Random(3)
    prefix = random_text(rng, 70)
    items = [prefix + random_text(rng, rng.randrange(33, 60)) for _ in range(5)]
    return [(item, letter) for item in items for letter in "AB"] + [(items[0], " as a whole text")]


@pytest.mark.parametrize("model_type", PACKED)
def test_long_items_have_the_models_own_likelihoods(model_type):
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    backend = TransformersBackend(
        model, tokenizer, max_batch_tokens=160
    )  # so that items run after their prefix
    requests = letters_after_long_items()
    assert backend.path_reason is None
    for result, request in zip(backend.loglikelihood(requests), requests, strict=True):
        total, is_greedy = brute_force(model, tokenizer, *request)
        assert result.loglikelihood == pytest.approx(total, abs=2e-4 * max(1, abs(total)))
        assert result.is_greedy == is_greedy


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt2"])
def test_flops_are_those_that_torch_counts(model_type):
    """Of linear layers: torch counts causal attention as it likes."""
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    backend = TransformersBackend(model, tokenizer)
    before = backend._packed.work
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backend.loglikelihood([(prompt, "A") for prompt, _ in letters_after_long_items()])
    work = backend._packed.work - before
    counts = counter.get_flop_counts()["Global"]
    linear = sum(count for op, count in counts.items() if op.__name__.split(".")[0] in ("mm", "addmm"))
    without_pairs = Work(positions=work.positions, scored=work.scored, spared_products=work.spared_products)
    assert linear == without_pairs.flops(shape_from_config(model.config.to_dict()))
    assert (work.spared_products > 0) == (model_type != "gpt2")  # its linear layers are of another class


def test_what_is_spared_of_one_prompt_is_as_predicted():
    model = tiny_model("llama")
    backend = TransformersBackend(model, char_tokenizer())
    before = backend._packed.work
    backend.loglikelihood([("a prompt of 23 letters.", "A")])
    spared = (backend._packed.work - before).spared_products
    shape = shape_from_config(model.config.to_dict())
    assert 2 * spared == spared_prefill_flops(shape, prompt_tokens=23) > 0


def test_the_trial_leaves_tokens_out_in_the_prefix_and_after_it(monkeypatch):
    """Else it would hold nothing of this to the model's own log-likelihoods."""
    depths, logits = [], PackedModel.logits

    def noted(self, tokens, positions, at, plan):
        if isinstance(plan, PassPlan) and 0 < len(at) <= wanted.MAX_SHARE * len(tokens):
            depths.append(plan._step.depth)
        return logits(self, tokens, positions, at, plan)

    monkeypatch.setattr(PackedModel, "logits", noted)
    monkeypatch.setattr(
        packed_check, "_written_greedily", lambda packed, prompts, limits: [()] * len(prompts)
    )
    TransformersBackend(tiny_model("llama"), char_tokenizer())
    assert min(depths) == 0
    assert max(depths) > 0


def test_adapters_are_left_as_they_are():
    """Their weights are not among the model's own, of which FLOPs are counted."""
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(target_modules=["q_proj", "up_proj"]))
    layer = adapted.get_base_model().model.layers[-1]
    assert wanted.last_layer_modules(adapted.get_base_model()) == [layer.self_attn.o_proj]


def test_a_layer_that_is_not_the_last_is_found_out(monkeypatch):
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    monkeypatch.setattr(wanted, "last_layer_modules", lambda model: [model.model.layers[0].mlp])
    backend = TransformersBackend(model, tokenizer)
    assert backend.path_reason is None
    assert not backend._packed.rows.modules
    [result] = backend.loglikelihood([("a prompt", "B")])
    assert result.loglikelihood == pytest.approx(brute_force(model, tokenizer, "a prompt", "B")[0], abs=1e-3)


def test_the_layers_are_put_back_also_after_an_error():
    model = tiny_model("llama")
    model.model.layers[-1].mlp.forward = someone_elses = lambda hidden: hidden
    rows = wanted.WantedRows(model)

    def fail() -> None:
        with rows.in_place():
            assert model.model.layers[-1].mlp.forward is not someone_elses
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.model.layers[-1].mlp.forward is someone_elses
    assert "forward" not in vars(model.model.layers[-1].self_attn.q_proj)
