"""Log-likelihoods of many continuations, each token position computed once."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stillmark.backends.kv_cache import PathCache
from stillmark.backends.packed import PackedModel
from stillmark.backends.pass_plan import PassPlan
from stillmark.backends.prefix import Pass, PassLimits, TokenTree, build_tree, plan_passes
from stillmark.backends.tokens import TokenIds

LOGIT_ELEMENTS_AT_ONCE = 1 << 18  # what a CPU core's own cache holds (1 MiB in float32)


@dataclass(kw_only=True)
class Scored:
    """What is known of one continuation."""

    loglikelihood: float = 0.0  # nats
    is_greedy: bool = True
    seconds: float = 0.0


def packed_logprobs(
    packed: PackedModel, pairs: Sequence[tuple[TokenIds, TokenIds]], limits: PassLimits
) -> list[Scored]:
    """The log-likelihood of each continuation after its prompt. The pairs are to differ from one another."""
    inputs = [prompt + continuation[:-1] for prompt, continuation in pairs]
    sequences = list(dict.fromkeys(inputs))
    index_of = {ids: index for index, ids in enumerate(sequences)}
    first_wanted = [len(ids) for ids in sequences]
    for (prompt, _), ids in zip(pairs, inputs, strict=True):
        first_wanted[index_of[ids]] = min(first_wanted[index_of[ids]], len(prompt) - 1)
    tree = build_tree(sequences, first_wanted, limits)
    targets = _targets_by_place(tree, pairs, [index_of[ids] for ids in inputs])
    scored = [Scored() for _ in pairs]
    path = PathCache(max(len(ids) for ids in sequences))
    with packed.attention_in_place():
        for step in plan_passes(tree, limits):
            start = time.perf_counter()
            _score_pass(packed, step, path, targets, scored)
            step.share_seconds(time.perf_counter() - start)
    pairs_of_sequence: dict[int, int] = defaultdict(int)
    for ids in inputs:
        pairs_of_sequence[index_of[ids]] += 1
    for row, ids in zip(scored, inputs, strict=True):
        index = index_of[ids]
        row.seconds = tree.end_nodes[index].seconds_of_each() / pairs_of_sequence[index]
    return scored


Place = tuple[int, int]  # id of a node, position


def _targets_by_place(
    tree: TokenTree, pairs: Sequence[tuple[TokenIds, TokenIds]], sequence_of: Sequence[int]
) -> dict[Place, list[tuple[int, int]]]:
    """(pair, token) that each place's logits are to score."""
    targets: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for pair, (prompt, continuation) in enumerate(pairs):
        for position, token in enumerate(continuation, start=len(prompt) - 1):
            node = tree.node_at(sequence_of[pair], position)
            targets[id(node), position].append((pair, token))
    return targets


def _score_pass(
    packed: PackedModel,
    step: Pass,
    path: PathCache,
    targets: dict[Place, list[tuple[int, int]]],
    scored: list[Scored],
) -> None:
    plan = PassPlan(step, path, packed.device, keep_states=False)
    logits_WV = packed.logits(step.tokens, step.positions, step.wanted, plan)
    rows: list[int] = []
    tokens: list[int] = []
    pairs: list[int] = []
    for row, (index, node) in enumerate(zip(step.wanted, step.wanted_nodes, strict=True)):
        for pair, token in targets[id(node), step.positions[index]]:
            rows.append(row)
            tokens.append(token)
            pairs.append(pair)
    if not rows:
        return
    logprobs, is_best = score_rows(logits_WV, rows, tokens)
    for pair, logprob, best in zip(pairs, logprobs, is_best, strict=True):
        scored[pair].loglikelihood += logprob
        scored[pair].is_greedy &= best


def score_rows(
    logits_WV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """log p(token) at each row, in nats and float32, and whether the token is the most likely one."""
    block_rows = max(1, LOGIT_ELEMENTS_AT_ONCE // logits_WV.shape[-1])
    row_index = torch.tensor(rows, device=logits_WV.device)
    token_index = torch.tensor(tokens, device=logits_WV.device)
    picked = logits_WV[row_index, token_index].float()
    highest, normalizers = [], []
    for block in logits_WV.split(block_rows):
        block = block.float()
        best = block.amax(-1, keepdim=True)
        highest.append(best[:, 0])
        normalizers.append(best[:, 0] + (block - best).exp_().sum(-1).log_())
    # The highest logit may be reached twice: the first is then the most likely one, as for argmax
    is_best = picked == torch.cat(highest)[row_index]
    for index in is_best.nonzero()[:, 0].tolist():
        is_best[index] = logits_WV[row_index[index]].argmax() == token_index[index]
    logprobs = picked - torch.cat(normalizers)[row_index]
    return logprobs.tolist(), is_best.tolist()
