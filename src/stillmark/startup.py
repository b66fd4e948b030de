"""What a process of ours does before it imports torch."""

import gc

YOUNG_OBJECTS = 20_000


def collect_seldom() -> None:
    """From here on Python looks for cycles after 20,000 new objects rather than 700 (2,000 from Python 3.14 on).

    Importing torch and transformers makes a million objects that stay, and looking at them over and over takes
    a tenth of the time from the start to the first item, or more (benchmarks/evaluation.md).
    """
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
