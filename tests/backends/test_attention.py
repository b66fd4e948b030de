"""Attention of packed tokens against softmax over all the keys that each one sees, in float64."""

import pytest
import torch

from stillmark.backends import attention, pass_plan
from stillmark.backends.kv_cache import PathCache
from stillmark.backends.packed import AttentionCall
from stillmark.backends.pass_plan import PassPlan
from stillmark.backends.prefix import PassLimits, build_tree, plan_passes

NUM_KV_HEADS, GROUPS, HEAD_SIZE, DEPTH = 2, 3, 16, 40
CPU = torch.device("cpu")


def dense(query, key, value, is_seen, *, scaling, softcap=None):
    """Output [H, T, D] and log-sum-exp [H, T], key and value heads repeated, in float64."""
    key, value = (states.double().repeat_interleave(GROUPS, 0) for states in (key, value))
    scores = query.double() @ key.transpose(-1, -2) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~is_seen, float("-inf"))
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def states(num_tokens: int, heads: int) -> torch.Tensor:
    """As a projection leaves them: heads side by side in each token's row."""
    return torch.randn(num_tokens, heads, HEAD_SIZE).transpose(0, 1)


@pytest.mark.parametrize("num_tokens", [5, 70, 1100])
@pytest.mark.parametrize("is_onednn", [True, False])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("is_masked", [True, False])
def test_attention_to_shared_keys(monkeypatch, num_tokens, is_onednn, softcap, is_masked):
    if is_onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(attention, "is_onednn_faster", lambda: is_onednn)
    torch.manual_seed(0)
    query = states(num_tokens, NUM_KV_HEADS * GROUPS)
    key, value = (torch.randn(NUM_KV_HEADS, 100, HEAD_SIZE)[:, :90] for _ in range(2))
    is_seen = torch.rand(num_tokens, 90) < (0.5 if is_masked else 2)
    mask = torch.where(is_seen, 0.0, attention.MASKED) if is_masked else None
    found = attention.attend_shared(query, key, value, scaling=0.3, mask_TS=mask, softcap=softcap)
    for part, truth in zip(
        found, dense(query, key, value, is_seen, scaling=0.3, softcap=softcap), strict=True
    ):
        torch.testing.assert_close(part.double(), truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 2])
def test_causal_attention(num_rows):
    torch.manual_seed(0)
    query = torch.stack([states(45, NUM_KV_HEADS * GROUPS) for _ in range(num_rows)])
    key, value = (torch.stack([states(45, NUM_KV_HEADS) for _ in range(num_rows)]) for _ in range(2))
    output, lse = attention.causal_block(query, key, value, scaling=0.3)
    is_seen = torch.ones(45, 45, dtype=torch.bool).tril()
    for row in range(num_rows):
        truth = dense(query[row], key[row], value[row], is_seen, scaling=0.3)
        torch.testing.assert_close(output[row].double(), truth[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lse[row].double(), truth[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("min_tokens_alone", [1, 10_000], ids=["one by one", "padded"])
@pytest.mark.parametrize("window", [None, 30])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("is_tree", [True, False])
def test_groups_after_a_path(monkeypatch, min_tokens_alone, window, softcap, is_tree):
    monkeypatch.setattr(pass_plan, "MIN_TOKENS_ALONE", min_tokens_alone)
    torch.manual_seed(0)
    prefix = tuple(range(DEPTH))
    tails = [tuple(range(100 * n, 100 * n + length)) for n, length in enumerate((33, 50, 41), start=1)]
    if is_tree:  # two ends after one stem
        tails.append(tails[0][:20] + tuple(range(900, 912)))
    sequences = [prefix + tail for tail in tails]
    limits = PassLimits(
        max_tokens=400, max_wanted=400, group_tokens=80, pairs_per_position=1 << 30, positions_per_pass=0
    )
    spine, leaves = plan_passes(build_tree(sequences, [len(ids) - 1 for ids in sequences], limits), limits)
    assert (spine.depth, leaves.depth, len(leaves.group_sizes)) == (0, DEPTH, 3)
    call = AttentionCall(layer=0, scaling=0.3, window=window, softcap=softcap)
    path = PathCache(200)
    of_path = states(DEPTH, NUM_KV_HEADS), states(DEPTH, NUM_KV_HEADS)
    PassPlan(spine, path, CPU, keep_states=False).attend(call, states(DEPTH, NUM_KV_HEADS * GROUPS), *of_path)
    num_tokens = len(leaves.tokens)
    query, key, value = (states(num_tokens, heads * NUM_KV_HEADS) for heads in (GROUPS, 1, 1))
    plan = PassPlan(leaves, path, CPU, keep_states=False)
    found = plan.attend(call, query, key, value)

    # A token sees what begins its own sequence
    before = {prefix[: index + 1]: index for index in range(DEPTH)}
    index_of = {}
    for sequence in sequences:
        place = 0
        for end in range(DEPTH + 1, len(sequence) + 1):
            if sequence[:end] not in index_of:
                place = leaves.tokens.index(sequence[end - 1], place)
                index_of[sequence[:end]] = place
    is_seen = torch.zeros(num_tokens, DEPTH + num_tokens, dtype=torch.bool)
    for ids, index in index_of.items():
        for end in range(max(1, len(ids) + 1 - (window or len(ids))), len(ids) + 1):
            start = ids[:end]
            is_seen[index, before[start] if start in before else DEPTH + index_of[start]] = True
    keys, values = (torch.cat(pair, 1) for pair in zip(of_path, (key, value), strict=True))
    for part, truth in zip(
        found, dense(query, keys, values, is_seen, scaling=0.3, softcap=softcap), strict=True
    ):
        torch.testing.assert_close(part.double(), truth, rtol=1e-4, atol=1e-5)

    sizes = leaves.group_sizes
    own = sum(size**2 for size in sizes) if min_tokens_alone == 1 else len(sizes) * max(sizes) ** 2
    assert plan.num_pairs == own + num_tokens * DEPTH
