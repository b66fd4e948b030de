"""Conclusions made up for tests: the form of `conclude_study`'s, with curves that look like real ones."""

from typing import Any

BOUNDARIES = ("student", "generation", "teacher", "base", "everything")
# arm, kind, params, budget, (floor, ceiling, half-way FLOPs), text, loss, base, costs beyond its own by boundary
ARMS: list[tuple[Any, ...]] = [
    ("vanilla-50k", "vanilla", 50_000, 6e11, (0.2, 0.42, 9e10), "answers", "cross_entropy", None, (0, 0, 0)),
    (
        "vanilla-150k",
        "vanilla",
        150_000,
        1.5e12,
        (0.2, 0.52, 2e11),
        "answers",
        "cross_entropy",
        None,
        (0, 0, 0),
    ),
    (
        "vanilla-600k",
        "vanilla",
        600_000,
        6e12,
        (0.2, 0.63, 8e11),
        "answers",
        "cross_entropy",
        None,
        (0, 0, 0),
    ),
    ("teacher", "teacher", 300_000, 3.4e12, (0.2, 1.0, 6e11), "solutions", "cross_entropy", None, (0, 0, 0)),
    (
        "solutions-50k",
        "vanilla",
        50_000,
        6e11,
        (0.2, 0.93, 1.2e11),
        "solutions",
        "cross_entropy",
        None,
        (0, 0, 0),
    ),
    (
        "traces-50k",
        "distilled",
        50_000,
        6e11,
        (0.2, 0.94, 1.1e11),
        "traces",
        "cross_entropy",
        None,
        (4e11, 3.4e12, 0),
    ),
    (
        "traces-50k-from-base",
        "distilled",
        50_000,
        6e11,
        (0.25, 0.97, 7e10),
        "traces",
        "cross_entropy",
        "vanilla-50k",
        (4e11, 3.4e12, 6e11),
    ),
    (
        "logits-50k",
        "distilled",
        50_000,
        6e11,
        (0.2, 0.99, 6e10),
        "traces",
        "forward_kl",
        None,
        (7e11, 3.4e12, 0),
    ),
    (
        "logits-50k-from-base",
        "distilled",
        50_000,
        6e11,
        (0.25, 0.98, 5e10),
        "traces",
        "forward_kl",
        "vanilla-50k",
        (7e11, 3.4e12, 6e11),
    ),
]


def interval(value: float, half: float = 0.03, method: str = "Wilson, items and seeds") -> dict[str, Any]:
    return {
        "value": value,
        "low": max(0.0, value - half),
        "high": min(1.0, value + half * 0.8),
        "confidence": 0.95,
        "method": method,
        "note": None,
    }


def synthetic_arm(row: tuple[Any, ...], num_checkpoints: int = 7) -> dict[str, Any]:
    name, kind, params, budget, (floor, ceiling, half), text, loss, base, extra = row
    own = [budget / 32 * 32 ** (k / (num_checkpoints - 1)) for k in range(num_checkpoints)]
    shares = [floor + (ceiling - floor) / (1 + (half / x) ** 2.2) for x in own]
    sums = [0.0, extra[0], extra[0] + extra[1], extra[0] + extra[2], sum(extra)]
    curve = {
        boundary: [
            {"flops": x + more, "accuracy": y, "low": max(0, y - 0.04), "high": min(1, y + 0.035)}
            for x, y in zip(own, shares, strict=True)
        ]
        for boundary, more in zip(BOUNDARIES, sums, strict=True)
    }
    final = shares[-1]
    num_correct = round(600 * final)
    reasons = text != "answers"
    return {
        "arm": name,
        "kind": kind,
        "model": f"m{params}",
        "params": params,
        "matmul_params": params - 2000,
        "text": text,
        "loss": loss,
        "learning_rate": 0.004,
        "teacher": "teacher" if kind == "distilled" else None,
        "base": base,
        "accuracy": interval(final),
        "accuracy_by_seed": {"0": interval(final), "1": interval(final)},
        "accuracy_by_level": [
            {"level": level, "accuracy": interval(final if reasons else max(0.2, 1 - 0.16 * level), 0.06)}
            for level in range(1, 7)
        ],
        "outcomes": {"correct": num_correct, "wrong": 590 - num_correct, "truncated": 10},
        "num_items": 300,
        "flops": {b: budget + more for b, more in zip(BOUNDARIES, sums, strict=True)},
        "cpu_seconds": {b: (budget + more) / 2e10 for b, more in zip(BOUNDARIES, sums, strict=True)},
        "prompt_tokens": 24.0,
        "generated_tokens": 33.5 if reasons else 3.0,
        "answer_flops": params * 2.0 * (57 if reasons else 27),
        "traces": {"correct": 9000, "wrong": 700} if text == "traces" else {},
        "curve": curve,
    }


def ratio(
    at: str,
    boundary: str,
    accuracy: float,
    value: float | None,
    low: float | None,
    high: float | None,
    censored: str | None = None,
    bound: float | None = None,
) -> dict[str, Any]:
    text = "unknown" if value is None and bound is None else f"{value or bound:.3g}x"
    notes = ["two seeds show the variance between seeds only roughly: vanilla-50k"]
    return {
        "at": at,
        "boundary": boundary,
        "accuracy": accuracy,
        "text": f"{censored or ''} {text}".strip(),
        "value": value,
        "low": low,
        "high": high,
        "censored": censored,
        "bound": bound,
        "vanilla_flops": None if value is None else 1e12 * value,
        "student_flops": 1e12,
        "reached_by": None if value is None else "vanilla-600k",
        "method": "counted over counted",
        "notes": notes,
    }


def estimate(
    value: float | None,
    low: float | None,
    high: float | None,
    censored: str | None = None,
    bound: float | None = None,
) -> dict[str, Any]:
    return {
        "value": value,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "censored": censored,
        "lower_bound": bound if censored == "more than" else None,
        "upper_bound": bound if censored == "less than" else None,
        "share_censored": 0.0,
        "notes": [],
    }


# (value, low, high, censored, bound) at the final accuracy under each boundary
CENSORED = (
    (None, 9.8, None, "more than", 12.1),
    (None, 5.5, None, "more than", 6.2),
    (None, 1.2, None, "more than", 1.4),
    (None, 5.4, None, "more than", 6.1),
    (None, 1.1, None, "more than", 1.24),
)
SAVES = (
    (12.3, 8.1, 19.0, None, None),
    (6.0, 4.0, 9.0, None, None),
    (2.1, 1.7, 2.6, None, None),
    (5.0, 4.0, 9.0, None, None),
    (2.0, 1.6, 2.5, None, None),
)
DEPENDS = (
    (12.3, 8.1, 19.0, None, None),
    (6.0, 4.0, 9.0, None, None),
    (0.4, 0.3, 0.6, None, None),
    (5.0, 4.0, 9.0, None, None),
    (0.38, 0.3, 0.5, None, None),
)
NOTHING = ((1.1, 0.7, 1.8, None, None),) * 5
REVERSED = ((0.5, 0.3, 0.8, None, None),) * 4 + ((0.1, 0.05, 0.2, None, None),)
UNKNOWN = ((None, None, None, "unknown", None),) * 5


def comparison(arm: dict[str, Any], finals: Any, *, is_control: bool) -> dict[str, Any]:
    final = arm["accuracy"]["value"]
    ratios = [ratio("final", b, final, *numbers) for b, numbers in zip(BOUNDARIES, finals, strict=True)]
    ratios += [
        ratio("shared", b, 0.4, 8.0 / (k + 1), 5.0 / (k + 1), 14.0 / (k + 1))
        for k, b in enumerate(BOUNDARIES)
    ]
    return {
        "arm": arm["arm"],
        "is_control": is_control,
        "vanilla": ["vanilla-50k", "vanilla-150k", "vanilla-600k"],
        "final_accuracy": final,
        "sure_accuracy": final,
        "shared_accuracy": 0.4,
        "ratios": ratios,
        "equivalent_params": {
            **estimate(None, 6e5, None, "more than", 6e5),
            "student_params": arm["params"],
            "student_accuracy": final,
        },
        "capability_density": estimate(None, 12.0, None, "more than", 12.0),
        "params": arm["params"],
    }


def synthetic_conclusion(
    finals: Any = CENSORED, *, unfinished: list[str] | None = None, **changes: Any
) -> dict[str, Any]:
    """A finished study of nine arms; `finals` are the best student's ratios by boundary."""
    arms = [synthetic_arm(row) for row in ARMS]
    students = [arm for arm in arms if arm["kind"] == "distilled"]
    control = next(arm for arm in arms if arm["arm"] == "solutions-50k")
    comparisons = [comparison(arm, finals, is_control=False) for arm in students]
    comparisons.append(comparison(control, finals, is_control=True))
    differences = [
        {
            "first": arm["arm"],
            "second": other,
            "role": role,
            "difference": {**interval(0.05), "low": 0.02, "high": 0.08},
        }
        for arm in students
        for other, role in (("solutions-50k", "control"), ("teacher", "teacher"), ("vanilla-600k", "vanilla"))
    ]
    ledger = [
        {
            "key": f"{index:024x}",
            "stage": stage,
            "part": part,
            "arm": arm["arm"],
            "seed": seed,
            "checkpoint": None,
            "flops": int(arm["flops"]["student"] * share),
            "predicted_flops": int(arm["flops"]["student"] * share),
            "methods": ["counted"],
            "tokens": int(1e6 * share),
            "seconds": 20 * share,
            "cpu_seconds": 19 * share,
            "device": "AMD EPYC, 1 threads",
        }
        for index, arm in enumerate(arms)
        for seed in (0, 1)
        for stage, part, share in (
            ("train", "train", 1.0),
            ("evaluate", "evaluate", 0.05),
            *((("generate", "generate", 0.7),) if arm["teacher"] else ()),
        )
    ]
    return {
        "name": "synthetic",
        "description": "Nine arms that were never trained.",
        "seeds": [0, 1],
        "evaluated_on": "test",
        "boundaries": {
            "student": "training the model itself",
            "generation": "and the teacher's work for it: traces, rejected ones too, and logits",
            "teacher": "and the making of the teacher",
            "base": "training, the teacher's work for it, and the making of the weights it started from",
            "everything": "all of these",
        },
        "students_per_teacher": 1,
        "tasks": {
            "shuffled": {
                "kind": "shuffled_objects",
                "objects": 5,
                "min_swaps": 1,
                "max_swaps": 6,
                "test_samples": 300,
                "validation_samples": 120,
                "chance": 0.2,
                "example": {
                    "prompt": "Alice blue Bob red Claire green ; Claire Bob ; Alice ?",
                    "answer": "Alice blue",
                    "solution": "Claire Bob : blue green red ; Alice blue",
                },
            }
        },
        "arms": arms,
        "comparisons": comparisons,
        "differences": differences,
        "ledger": ledger,
        "unfinished": unfinished or [],
        "bootstrap": {"num_resamples": 2000, "random_seed": 0, "confidence": 0.95},
        "provenance": {
            "stillmark": "0.1.0",
            "commit": None,
            "python": "3.11.7",
            "packages": {"numpy": "2.4.6", "torch": None},
            "system": "Linux",
            "cpu": "AMD EPYC",
            "cores": 2,
            "memory_bytes": 25276502016,
        },
        "study_text": "name: synthetic\n",
        **changes,
    }
