"""The plan: break-even against arithmetic and a published example; unknown wherever an input is unknown."""

import json
from dataclasses import replace

import pytest

from stillmark.compute.convert import utilisation_of
from stillmark.compute.fit import TrainingSetup, fit
from stillmark.compute.hardware import Device, device
from stillmark.compute.memory import PRECISIONS, Sharding
from stillmark.compute.plan_costs import Cost, Hardware
from stillmark.compute.plan_report import plan_as_dict
from stillmark.compute.planned_model import planned_model
from stillmark.compute.planner import Choice, PlanInputs, break_even, make_plan
from stillmark.compute.prices import shipped_prices
from stillmark.compute.shapes import shape_from_config
from stillmark.compute.workloads import Distillation, PlannedModel

H100 = device("h100-sxm")
HARDWARE = Hardware(
    device=H100,
    train=utilisation_of(H100, dtype="bf16", mfu=0.4, basis="assumed"),
    generate=utilisation_of(H100, dtype="bf16", mfu=0.1, basis="assumed"),
    num_devices=8,
    usd_per_hour=4.0,
    price_basis="a test",
)
STUDENT, TEACHER = planned_model("8b"), planned_model("70b")
DISTILLATION = Distillation(
    student=STUDENT, teacher=TEACHER, samples=100_000, prompt_tokens=200, answer_tokens=1800, epochs=2
)
INPUTS = PlanInputs(
    hardware=HARDWARE,
    student=STUDENT,
    teacher=TEACHER,
    distillation=DISTILLATION,
    pretrain_tokens=1e12,
    api=shipped_prices().api("gpt-4o-mini"),
    query_prompt_tokens=500,
    query_answer_tokens=1500,
    region="USA",
)


def choice(name, fixed, each):
    hardware = {"name": name, "what": "", "answer_tokens": 1.0}
    stage = () if fixed == 0 else (_stage(fixed),)
    return Choice(**hardware, stages=stage, per_query=Cost(flops=each, usd=each))


def _stage(usd):
    from stillmark.compute.planner import StageCost
    from stillmark.compute.workloads import Stage, Work

    work = Stage(name="s", work=Work.TRAIN, model=None, flops=usd, tokens_read=0, tokens_written=0)
    return StageCost(stage=work, cost=Cost(flops=usd, usd=usd))


def test_break_even_is_where_the_totals_are_equal():
    plan = make_plan(INPUTS)
    for even in plan.break_evens:
        if even.verdict == "after":
            one, other = plan.choice(even.choice), plan.choice(even.against)
            at, after = even.queries, 2 * even.queries
            assert getattr(one.total(at), even.unit) == pytest.approx(getattr(other.total(at), even.unit))
            assert getattr(one.total(after), even.unit) < getattr(other.total(after), even.unit)


@pytest.mark.parametrize(
    ("one", "other", "winner", "verdict", "queries"),
    [
        ((100, 1), (0, 2), "distil", "after", 100),
        ((0, 2), (100, 1), "api", "after", 100),
        ((0, 1), (100, 1), "distil", "always", 0),
        ((50, 1), (100, 2), "distil", "always", 0),
        ((7, 1), (7, 1), "distil", "equal", None),
    ],
)
def test_break_even_verdicts(one, other, winner, verdict, queries):
    even = break_even(choice("distil", *one), choice("api", *other), "usd")
    assert (even.choice, even.verdict, even.queries) == (winner, verdict, queries)


def test_lifetime_cost_as_in_beyond_chinchilla_optimal():
    # Sardana et al., arXiv:2401.00448: for 13B quality and 2T tokens of inference, a 7B trained on more data
    # takes 17% less compute over its life. Loss by Chinchilla's law, E + A/N^0.336 + B/D^0.283.
    alpha, beta, a, b = 0.336, 0.283, 406.4, 410.7
    scale = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    tokens_13b = (13e9 / scale) ** ((alpha + beta) / beta) / 13e9
    loss = a / 13e9**alpha + b / tokens_13b**beta
    tokens_7b = (b / (loss - a / 7e9**alpha)) ** (1 / beta)

    def lifetime_flops(size, tokens):
        inputs = PlanInputs(
            hardware=HARDWARE,
            student=planned_model(size),
            pretrain_tokens=tokens,
            query_prompt_tokens=0,
            query_answer_tokens=1000,
        )
        return make_plan(inputs).choice("pretrain").total(2e12 / 1000).flops

    saved = 1 - lifetime_flops("7b", tokens_7b) / lifetime_flops("13b", tokens_13b)
    assert saved == pytest.approx(0.17, abs=0.01)


def test_hours_money_and_energy_of_a_stage():
    plan = make_plan(INPUTS)
    training = plan.choice("distil").stages[1]
    flops = 6 * 8e9 * 100_000 * 2000 * 2
    hours = flops / (989.4e12 * 0.4 * 3600)
    assert training.cost.flops == flops
    assert training.cost.device_hours == pytest.approx(hours)
    assert training.cost.usd == pytest.approx(4 * hours)
    assert training.cost.joules == pytest.approx(700 * 3600 * hours)
    assert HARDWARE.wall_hours(hours) == pytest.approx(hours / 8)
    assert plan.carbon_kilograms(training.cost.joules) == pytest.approx(0.7 * hours * 0.369473)


def test_traces_that_are_bought_are_priced_by_tokens():
    api = shipped_prices().api("deepseek-reasoner")
    usd = (200 * 0.55 + 1800 * 2.19) / 1e6 * 100_000
    known = make_plan(replace(INPUTS, teacher_api=api)).choice("distil")
    assert known.stages[0].cost.usd == pytest.approx(usd)
    assert known.stages[0].cost.flops == 2 * 70e9 * 2000 * 100_000
    behind = replace(INPUTS, teacher_api=api, teacher=None, distillation=replace(DISTILLATION, teacher=None))
    unknown = make_plan(behind).choice("distil")
    assert unknown.stages[0].cost.usd == pytest.approx(usd)
    assert unknown.fixed.flops is None
    assert unknown.fixed.usd is not None


def test_unknown_peak_price_and_tdp_stay_unknown():
    new = Device(name="new", kind="gpu")
    plan = make_plan(replace(INPUTS, hardware=Hardware(device=new, train=None, generate=None)))
    fixed = plan.choice("distil").fixed
    assert fixed.flops is not None
    assert (fixed.device_hours, fixed.usd, fixed.joules) == (None, None, None)
    assert plan.carbon_kilograms(fixed.joules) is None
    verdicts = {even.verdict for even in plan.break_evens if even.unit == "usd"}
    assert verdicts == {"unknown"}
    assert any("peak of new is not known" in line for line in plan.assumptions)


def test_ones_own_device_costs_its_electricity():
    own = replace(HARDWARE, usd_per_hour=None, usd_per_kilowatt_hour=0.3)
    training = make_plan(replace(INPUTS, hardware=own)).choice("distil").stages[1].cost
    assert training.usd == pytest.approx(0.3 * training.joules / 3.6e6)


def test_weights_that_cannot_fit_are_said():
    plan = make_plan(replace(INPUTS, teacher=planned_model("671b-a37b")))
    assert any("1,342 GB in 16 bits, the 8 device(s) have 640 GB" in line for line in plan.assumptions)


def test_as_json():
    model = shaped_8b()
    setup = TrainingSetup(precision=PRECISIONS["mixed"], sequence_tokens=2000)
    data = json.loads(json.dumps(plan_as_dict(make_plan(INPUTS), fit(model, setup, H100), 1e6)))
    assert [c["name"] for c in data["choices"]] == ["distil", "pretrain", "teacher", "api"]
    assert data["choices"][3]["per_query"]["flops"] is None
    assert data["choices"][0]["total"]["queries"] == 1e6
    assert data["training_memory"]["fits"] is False
    assert data["training_memory"]["smallest_num_devices_fully_sharded"] == 4


def shaped_8b():
    shape = shape_from_config(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128_256,
            "tie_word_embeddings": False,
        }
    )
    return PlannedModel(name="l", params=shape.params, active_params=shape.params, basis="", shape=shape)


def test_fit_is_three_valued():
    setup = TrainingSetup(precision=PRECISIONS["mixed"], sequence_tokens=2048)
    assert fit(STUDENT, setup, H100).fits is False  # 128 GB of states: sure without the activations
    sharded = replace(setup, sharding=Sharding.FULL, num_devices=8)
    assert fit(STUDENT, sharded, H100).fits is None  # 16 GB of states, activations unknown
    assert fit(shaped_8b(), sharded, H100).fits is True
    assert fit(shaped_8b(), sharded, Device(name="x", kind="gpu")).fits is None
