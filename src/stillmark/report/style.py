"""Who is drawn how: one colour and one shape an arm, the same in the figure, on the page and in its tables.

Colours are Okabe and Ito's (colour-blind-safe); role is told by shape as well, so that print in grey still reads.
The vanilla family is blue, darker with size. Each colour has a second tone for dark pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ROLE_WORDS = {
    "vanilla": "vanilla family",
    "student": "distilled student",
    "control": "control without a teacher",
    "teacher": "teacher",
    "quantised": "quantised variant",
    "other": "other",
}
# (light page, dark page)
BLUES = (("#7fb9de", "#2f6f9c"), ("#3a8fc4", "#4a9bd0"), ("#0072b2", "#7cc0ea"), ("#003f66", "#c3e3f8"))
STUDENTS = (("#d55e00", "#f07c2b"), ("#009e73", "#2bc79b"), ("#e69f00", "#f2b632"), ("#b3568c", "#dd8fbd"),
            ("#8a5a00", "#c99545"))  # fmt: skip
CONTROLS = (("#6b6b6b", "#a8a8a8"), ("#9a9a9a", "#d0d0d0"))
TEACHERS = (("#111111", "#f5f5f5"), ("#5b3a8c", "#b79be0"))
QUANTISED = (("#a6761d", "#d9a94a"), ("#7570b3", "#a9a5dc"), ("#66a61e", "#93cf4f"))
OTHERS = (("#b0a38f", "#8d8371"),)
SHAPES = {
    "vanilla": "circle",
    "student": "triangle",
    "control": "cross",
    "teacher": "diamond",
    "quantised": "square",
    "other": "square",
}


@dataclass(frozen=True, kw_only=True)
class ArmStyle:
    arm: str
    role: str
    light: str
    dark: str
    shape: str
    is_dashed: bool

    def row(self) -> dict[str, Any]:
        return asdict(self)


def roles_of(conclusion: Mapping[str, Any]) -> dict[str, str]:
    """What each arm is in the comparison."""
    if conclusion.get("kind") == "text":
        return {arm["arm"]: arm["role"] for arm in conclusion["arms"]}
    roles = {}
    vanilla = {arm for comparison in conclusion["comparisons"] for arm in comparison["vanilla"]}
    chosen = {row["arm"]: "control" if row["is_control"] else "student" for row in conclusion["comparisons"]}
    for arm in conclusion["arms"]:
        name, kind = arm["arm"], arm["kind"]
        by_kind = {"distilled": "student", "teacher": "teacher", "vanilla": "other"}.get(kind, "other")
        if not conclusion["comparisons"] and kind == "vanilla":
            by_kind = "vanilla"
        if arm.get("quantised_from"):
            by_kind = "quantised"
        roles[name] = chosen.get(name) or ("vanilla" if name in vanilla else by_kind)
    return roles


def styles_of(conclusion: Mapping[str, Any]) -> dict[str, ArmStyle]:
    """The style of every arm, in the order in which they are listed: vanilla by size, teacher, controls, students,
    quantised ones.
    """
    roles = roles_of(conclusion)
    params = {arm["arm"]: arm["params"] for arm in conclusion["arms"]}
    styles: dict[str, ArmStyle] = {}
    for role, palette in (("vanilla", BLUES), ("teacher", TEACHERS), ("control", CONTROLS), ("student", STUDENTS),
                          ("quantised", QUANTISED), ("other", OTHERS)):  # fmt: skip
        members = [name for name in roles if roles[name] == role]
        if role == "vanilla":
            members.sort(key=lambda name: params[name])
        for index, name in enumerate(members):
            light, dark = shade(palette, index, len(members), is_ramp=role == "vanilla")
            styles[name] = ArmStyle(arm=name, role=role, light=light, dark=dark, shape=SHAPES[role],
                                    is_dashed=role in ("control", "other"))  # fmt: skip
    return styles


def shade(
    palette: Sequence[tuple[str, str]], index: int, num_members: int, *, is_ramp: bool
) -> tuple[str, str]:
    """A colour of a palette: spread over it for a ramp of sizes, else in turn."""
    if is_ramp and num_members > 1:
        return palette[round(index * (len(palette) - 1) / (num_members - 1))]
    return palette[1 if is_ramp else index % len(palette)]
