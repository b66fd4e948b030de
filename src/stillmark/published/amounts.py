"""Published amounts as people read them: 8.03B parameters, 15T tokens, 7.23e23 FLOP, 2 to 3 epochs."""

from stillmark.published.registry import Figure, Score

SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


def amount_text(value: float, unit: str) -> str:
    """One amount, without its unit: scaled for parameters and tokens, in powers of ten for FLOPs."""
    if unit in ("parameters", "tokens"):
        for scale, letter in SCALES:
            if abs(value) >= scale:
                return f"{value / scale:.4g}{letter}"
    if unit.startswith("FLOP") or (value != 0 and abs(value) < 1e-3):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.7g}"


def figure_text(figure: Figure) -> str:
    """A figure's value: a number, a range, or text."""
    if figure.text is not None:
        return figure.text
    if figure.low is None or figure.high is None:
        return "unknown"
    if figure.low != figure.high:
        return f"{amount_text(figure.low, figure.unit)} to {amount_text(figure.high, figure.unit)}"
    return amount_text(figure.low, figure.unit)


def score_text(score: Score) -> str:
    """A score with at least one decimal where it is a percentage."""
    if score.unit == "rating":
        return f"{score.value:,.0f}"
    return f"{score.value:.1f}" if round(score.value, 1) == score.value else f"{score.value:g}"


def ratio_text(ratio: float) -> str:
    """A ratio to three or four figures: 1,740; 98.4; 7.06; 0.999."""
    if ratio >= 1e6:
        return f"{ratio / 1e6:.3g}M"
    if ratio >= 100:
        return f"{ratio:,.0f}"
    if ratio >= 10:
        return f"{ratio:.1f}"
    return f"{ratio:.2f}" if ratio >= 1 else f"{ratio:.3g}"
