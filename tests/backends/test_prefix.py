"""The token tree against brute force: each distinct prefix is one position, computed once, after its ancestors."""

import random

import pytest

from stillmark.backends.prefix import PassLimits, build_tree, plan_passes

NOTHING_TWICE = (1 << 30, 0)


def random_sequences(seed: int, count: int) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    stems = [tuple(rng.randrange(3) for _ in range(rng.randrange(40))) for _ in range(4)]
    made = {
        rng.choice(stems)[: rng.randrange(41)] + tuple(rng.randrange(3) for _ in range(rng.randrange(1, 12)))
        for _ in range(count)
    }
    return list(made)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limits", [(16, 5, 8), (64, 64, 32), (1000, 1000, 1000), (7, 1, 1)])
@pytest.mark.parametrize("costs", [NOTHING_TWICE, (3, 4), (1, 1000)])
def test_each_prefix_is_computed_after_its_ancestors_and_once_where_that_is_cheapest(seed, limits, costs):
    sequences = random_sequences(seed, 60)
    first_wanted = [len(ids) - 1 - index % min(3, len(ids)) for index, ids in enumerate(sequences)]
    bounds = PassLimits(
        max_tokens=limits[0],
        max_wanted=limits[1],
        group_tokens=limits[2],
        pairs_per_position=costs[0],
        positions_per_pass=costs[1],
    )
    tree = build_tree(sequences, first_wanted, bounds)

    def prefix_of(node, position):
        tokens = ()
        for above in node.path():
            tokens += above.tokens
        return tokens[: position + 1]

    computed = []
    wanted = []
    in_path: list[tuple[int, ...]] = []
    for step in plan_passes(tree, bounds):
        assert len(step.tokens) == sum(step.group_sizes) == len(step.positions)
        assert len(step.tokens) <= bounds.max_tokens
        assert len(step.wanted) <= bounds.max_wanted
        del in_path[step.depth :]
        own = {}
        starts = [sum(step.group_sizes[:group]) for group in range(len(step.group_sizes))]
        for span in step.spans:
            for offset in range(span.first, span.last):
                prefix = prefix_of(span.node, span.node.start + offset)
                index = span.offset + offset - span.first
                assert step.tokens[index] == prefix[-1]
                assert step.positions[index] == len(prefix) - 1
                own[prefix] = index
                computed.append(prefix)
                # All that it attends to is in the path buffer, or before it in this pass
                for length in range(1, len(prefix)):
                    if length <= step.depth:
                        assert in_path[length - 1] == prefix[:length]
                    else:
                        assert max(s for s in starts if s <= index) <= own[prefix[:length]] < index
        wanted += [
            prefix_of(node, step.positions[index])
            for index, node in zip(step.wanted, step.wanted_nodes, strict=True)
        ]
        if step.is_spine:
            in_path += sorted(own, key=len)
    every_prefix = {ids[:length] for ids in sequences for length in range(1, len(ids) + 1)}
    if costs == NOTHING_TWICE:
        assert len(computed) == len(set(computed))
        assert len(wanted) == len(set(wanted))
    assert set(computed) == every_prefix
    expected = {
        ids[: p + 1]
        for ids, first in zip(sequences, first_wanted, strict=True)
        for p in range(first, len(ids))
    }
    assert set(wanted) == expected


def test_a_stem_of_few_tokens_is_computed_for_each_item():
    shared, items = (1, 2, 3), [tuple(100 * item + i for i in range(30)) for item in range(1, 11)]
    sequences = [shared + item for item in items]
    limits = PassLimits(max_tokens=1000, max_wanted=1000, group_tokens=500, pairs_per_position=1000)
    [step] = plan_passes(build_tree(sequences, [len(ids) - 1 for ids in sequences], limits), limits)
    # Sharing would save 9 * 3 positions and cost 303**2 - 10 * 33**2 pairs, worth 80 positions
    assert step.group_sizes == [33] * 10
    assert len(step.wanted) == 10


def test_the_cost_is_the_one_of_the_formula():
    # P + N·(s + K·(c−1)) positions: here nothing but the prefix is shared between items
    prefix, num_items, own, num_choices, choice = 30, 5, 7, 4, 3
    sequences = [
        tuple(range(prefix)) + tuple(100 * item + i for i in range(1, own + 1)) + (9000 + item * 10 + k, 7)
        for item in range(num_items)
        for k in range(num_choices)
    ]
    limits = PassLimits(max_tokens=64, max_wanted=64, group_tokens=32, pairs_per_position=1000)
    tree = build_tree(sequences, [prefix + own - 1] * len(sequences), limits)
    computed = sum(len(step.tokens) for step in plan_passes(tree, limits))
    assert computed == prefix + num_items * (own + num_choices * (choice - 1))
