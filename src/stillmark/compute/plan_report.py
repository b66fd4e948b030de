"""A plan as plain data, for `--json` and for whoever draws it."""

from typing import Any

from stillmark.compute.fit import Fit
from stillmark.compute.plan_costs import Cost
from stillmark.compute.planner import Choice, Plan, StageCost


def plan_as_dict(plan: Plan, fit: Fit | None = None, queries: float | None = None) -> dict[str, Any]:
    """Everything in the plan; unknown is null. `queries` adds each choice's total at that number."""
    hardware = plan.inputs.hardware
    return {
        "hardware": {
            "device": hardware.device.name,
            "num_devices": hardware.num_devices,
            "train_mfu": hardware.train.mfu if hardware.train else None,
            "generate_mfu": hardware.generate.mfu if hardware.generate else None,
            "peak_flops_per_second": hardware.train.peak_flops_per_second if hardware.train else None,
            "usd_per_device_hour": hardware.usd_per_hour,
            "price_basis": hardware.price_basis,
            "usd_per_kilowatt_hour": hardware.usd_per_kilowatt_hour,
        },
        "region": plan.inputs.region,
        "choices": [_choice(choice, plan, queries) for choice in plan.choices],
        "break_evens": [
            {
                "choice": even.choice,
                "against": even.against,
                "unit": even.unit,
                "queries": even.queries,
                "verdict": even.verdict,
            }
            for even in plan.break_evens
        ],
        "training_memory": memory_as_dict(fit) if fit else None,
        "assumptions": list(plan.assumptions),
    }


def memory_as_dict(fit: Fit) -> dict[str, Any]:
    """Bytes on one device while the student trains."""
    memory = fit.memory
    return {
        "precision": fit.setup.precision.name,
        "sharding": str(fit.setup.sharding),
        "recompute": str(fit.setup.recompute),
        "num_devices": fit.setup.num_devices,
        "sequence_tokens": fit.setup.sequence_tokens,
        "sequences": fit.setup.sequences,
        "weights_bytes": memory.weights_bytes,
        "gradients_bytes": memory.gradients_bytes,
        "optimizer_bytes": memory.optimizer_bytes,
        "gathered_bytes": memory.gathered_bytes,
        "activations_bytes": memory.activations_bytes,
        "logits_bytes": memory.logits_bytes,
        "teacher_bytes": memory.teacher_bytes,
        "total_bytes": memory.total_bytes,
        "capacity_bytes": fit.capacity_bytes,
        "fits": fit.fits,
        "smallest_num_devices_fully_sharded": fit.smallest_num_devices,
    }


def _choice(choice: Choice, plan: Plan, queries: float | None) -> dict[str, Any]:
    known = {
        "name": choice.name,
        "what": choice.what,
        "answer_tokens": choice.answer_tokens,
        "stages": [_stage(stage, plan) for stage in choice.stages],
        "fixed": {
            **_cost(choice.fixed, plan),
            "wall_hours": plan.inputs.hardware.wall_hours(choice.fixed.device_hours),
        },
        "per_query": _cost(choice.per_query, plan),
    }
    if queries is not None:
        known["total"] = {"queries": queries, **_cost(choice.total(queries), plan)}
    return known


def _stage(stage: StageCost, plan: Plan) -> dict[str, Any]:
    return {
        "name": stage.stage.name,
        "model": stage.stage.model.name if stage.stage.model else None,
        "work": str(stage.stage.work),
        "tokens_read": stage.stage.tokens_read,
        "tokens_written": stage.stage.tokens_written,
        "bought": stage.bought,
        **_cost(stage.cost, plan),
    }


def _cost(cost: Cost, plan: Plan) -> dict[str, float | None]:
    return {
        "flops": cost.flops,
        "device_hours": cost.device_hours,
        "usd": cost.usd,
        "joules_estimated": cost.joules,
        "carbon_kilograms_estimated": plan.carbon_kilograms(cost.joules),
    }
