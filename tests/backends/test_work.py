"""What the engine says it ran, against torch's counter over the same calls. Exactly."""

import pytest
from tests.backends.tiny import LONGROPE, char_tokenizer, tiny_model, without_fused_kernels
from torch.utils.flop_counter import FlopCounterMode

from stillmark.backends.protocol import Sampling
from stillmark.backends.transformers import TransformersBackend
from stillmark.compute.flops import generate_flops
from stillmark.compute.shapes import shape_from_config

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

FEW_SHOT = "3 + 4? It is 7.\n5 + 1? It is 6.\n2 + 2? It is 4.\n"
PROMPTS = [FEW_SHOT + f"{a} + {b}? It is" for a in range(4) for b in (1, 12)]
CHOICES = [(prompt, text) for prompt in PROMPTS for text in (" 7.", " 12.", " 1.", " a number")]


@pytest.fixture(autouse=True)
def seen_by_torch(monkeypatch: pytest.MonkeyPatch):
    without_fused_kernels(monkeypatch)


def engine(model_type: str, **options) -> TransformersBackend:
    model = tiny_model(model_type)
    model.set_attn_implementation("eager")
    backend = TransformersBackend(model, char_tokenizer(), **options)
    if backend._packed is None:  # the engine tries a model once, which is no part of its work
        assert backend._plain_ways.uses_cache
        backend.loglikelihood([("a", "b")])
    return backend


def ran(backend: TransformersBackend, call) -> tuple[int, int]:
    """FLOPs by the engine's word and by torch's counter."""
    before = backend.work
    with FlopCounterMode(display=False) as counter:
        call()
    shape = shape_from_config(backend.model.config.to_dict())
    return (backend.work - before).flops(shape), counter.get_total_flops()


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {"path": "packed"}),
        ("llama", {"path": "packed", "max_batch_tokens": 96, "max_rows": 5}),
        ("llama", {"path": "plain"}),
        ("gemma2", {"path": "packed"}),
        ("gpt2", {"path": "packed"}),
    ],
)
def test_flops_of_writing_are_torchs(model_type: str, options: dict):
    backend = engine(model_type, **options)
    for temperature, num_samples in ((0.0, 4), (1.0, 1), (1.0, 9)):
        sampling = Sampling(max_new_tokens=12, temperature=temperature, num_samples=num_samples)
        ours, torchs = ran(backend, lambda: backend.generate([*PROMPTS, PROMPTS[0]], sampling))  # noqa: B023
        assert ours == torchs, (temperature, num_samples)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {"path": "packed"}),
        ("llama", {"path": "packed", "max_batch_tokens": 96}),
        ("llama", {"path": "plain", "max_batch_tokens": 300}),
        ("mistral", {"path": "packed"}),
        ("mistral", {"path": "plain"}),
        ("gpt2", {"path": "packed"}),
    ],
)
def test_flops_of_scoring_choices_after_a_shared_prefix_are_torchs(model_type: str, options: dict):
    backend = engine(model_type, **options)
    ours, torchs = ran(backend, lambda: backend.loglikelihood([*CHOICES, CHOICES[0]]))
    assert ours == torchs


def test_a_sequence_that_runs_by_itself_is_work_too():
    model = tiny_model("phi3", **LONGROPE)
    model.set_attn_implementation("eager")
    backend = TransformersBackend(model, char_tokenizer())
    assert backend._steady_positions == 32
    assert backend._plain_ways.uses_cache
    ours, torchs = ran(backend, lambda: backend.loglikelihood([("a short one", " b"), (FEW_SHOT, " 7.")]))
    assert ours == torchs
    prompts = ["a short one", FEW_SHOT]
    ours, torchs = ran(backend, lambda: backend.generate(prompts, Sampling(max_new_tokens=5)))
    assert ours == torchs


def test_tokens_are_of_the_rows_that_were_run_and_positions_of_what_went_through_the_layers():
    backend = engine("llama")
    before = backend.work
    [[first, *_], _] = backend.generate(["abcd", "abcd"], Sampling(max_new_tokens=6, num_samples=3))
    work = backend.work - before
    assert work.tokens == 4 + first.generated_tokens  # one of six replies was written
    assert work.positions == 4 + first.generated_tokens - 1  # the last token is not read
    shape = shape_from_config(backend.model.config.to_dict())
    alone = generate_flops(shape, prompt_tokens=4, new_tokens=first.generated_tokens)
    assert work.flops(shape) == alone - 2 * work.spared_products

    before = backend.work
    backend.loglikelihood([("abcd", "ef"), ("abcd", "g"), ("abcd", "g")])
    work = backend.work - before
    assert (work.tokens, work.positions, work.scored) == (6 + 5, 5, 2)


def test_the_trial_of_a_model_is_no_work():
    assert engine("llama").work.positions == 0
