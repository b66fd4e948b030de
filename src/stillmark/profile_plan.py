"""What a plan asks of inference: which arms are measured in which formats, and what no format or window can hold."""

from collections.abc import Callable, Mapping
from typing import Any

from stillmark.errors import UserError
from stillmark.study.profile import FLOAT_FORMATS, Profile
from stillmark.study.schema import QuantisedArm, Study

ConfigOf = Callable[[str], dict[str, Any]]  # the Hugging Face config of an arm's model
GGUF_BLOCK = (
    32  # weights of a row that are rounded together; K-quants fall back to this where 256 do not divide it
)


def refuse_impossible_formats(study: Study, config: ConfigOf) -> None:
    """Models of which a format would round nothing: their rows do not divide into its blocks."""
    for name, arm in study.arms.items():
        if not isinstance(arm, QuantisedArm) or arm.format in FLOAT_FORMATS:
            continue
        width = config(name)["hidden_size"]
        if width % GGUF_BLOCK:
            raise UserError(
                f"arms.{arm.parent}.quantise: {arm.format} rounds {GGUF_BLOCK} weights of a row together, and "
                f"models.{arm.model}.hidden_size is {width}: its matrices would stay float",
                hint=f"make hidden_size a multiple of {GGUF_BLOCK}, or leave {arm.format} out",
            )


def refuse_impossible_profiles(study: Study, profile: Profile, config: ConfigOf) -> None:
    """Given lengths that a model's window does not hold."""
    if profile.prompt_tokens is None or profile.new_tokens is None:
        return
    asked = profile.prompt_tokens + profile.new_tokens
    for name in profiled_arms(study, profile):
        window = config(name).get("max_position_embeddings")
        if window is not None and asked > window:
            raise UserError(
                f"profile: {profile.prompt_tokens} + {profile.new_tokens} tokens are over the window of arm "
                f"`{name}`, {window}"
            )


def profiled_arms(study: Study, profile: Profile) -> list[str]:
    """The arms that are loaded; a quantised one is measured as a format of its parent."""
    return profile.arms or [name for name, arm in study.arms.items() if not isinstance(arm, QuantisedArm)]


def profile_inputs(
    study: Study, profile: Profile, made_by: Mapping[str, str], answers_of: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """(inputs, needs) of the job that measures the arms' last checkpoints, of the first seed: seeds differ in weights,
    not in speed.

    One job for all arms, which takes them in turn: machines drift, and what is measured together drifts together.
    `made_by`, `answers_of`: the keys of the jobs that made each arm and evaluated its last checkpoint.
    """
    arms: list[dict[str, Any]] = []
    needs: list[str] = []
    for name in profiled_arms(study, profile):
        arm = study.arms[name]
        engines: dict[str, list[str]] = {engine: list(formats) for engine, formats in profile.engines.items()}
        for format in arm.quantise:
            known = engines.setdefault("llamacpp", [])
            known += [] if format in known else [format]
        entry = {"arm": name, "made_by": made_by[name], "checkpoint": arm.checkpoints - 1, "engines": engines}
        needs.append(made_by[name])
        if profile.prompt_tokens is None:
            entry["answers_of"] = answers_of[name]
            needs.append(answers_of[name])
        arms.append(entry)
    inputs = profile.model_dump(exclude={"arms", "engines", "memory_caps"}) | {
        "arms": arms,
        "threads": profile.threads or study.threads,
        "memory_cap_bytes": profile.cap_bytes,
    }
    return inputs, list(dict.fromkeys(needs))
