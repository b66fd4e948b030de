"""Generation by continuous batching over packed rows.

Prompts are prefilled through the token tree (prefix.py). Each row then feeds one token a step; a row that is
finished leaves at once, and new rows come in while others go on. Keys and values that at least `min_rows`
rows share (a few-shot prefix, or the prompt of many samples) are a `Segment`: kept once and attended once
for all.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from stillmark.backends.decode_plan import DecodePlan
from stillmark.backends.kv_cache import PathCache, RowCache, Segment
from stillmark.backends.packed import PackedModel
from stillmark.backends.pass_plan import PassPlan
from stillmark.backends.prefilled_states import StateSource
from stillmark.backends.prefix import Node, Pass, PassLimits, TokenTree, build_tree, plan_passes
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream, next_tokens
from stillmark.backends.stopping import StopRule, Written
from stillmark.backends.tokens import TokenIds

FIRST_HEADROOM_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What may be in memory at once, and what is worth sharing."""

    passes: PassLimits
    max_rows: int = 256
    row_bytes: int = 1 << 30  # of the keys and values that rows have to themselves
    min_shared_rows: int = 8
    min_shared_tokens: int = 32


@dataclass(frozen=True, kw_only=True)
class PromptRows:
    """A prompt and the rows (samples) that continue it."""

    ids: TokenIds
    streams: Sequence[UniformStream]
    max_new_tokens: int


@dataclass(kw_only=True, eq=False)
class Row:
    """One continuation being written. `own_length` positions from `own_start` on are in its slot of the
    cache.
    """

    prompt: int
    stream: UniformStream
    max_new_tokens: int
    segments: tuple[Segment, ...]
    own_start: int
    own_length: int
    written: Written
    decode_seconds: float = 0.0

    @property
    def position(self) -> int:
        """Of the token that is fed next."""
        return self.own_start + self.own_length


@dataclass(kw_only=True)
class Decoder:
    """The state of one call of generate."""

    packed: PackedModel
    prompts: Sequence[PromptRows]
    sampling: Sampling
    rule: StopRule
    limits: DecodeLimits
    num_tokens: int | None = None  # ids that may be written, from 0 on; None: all
    cache: RowCache = field(default_factory=RowCache)
    active: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)  # with nothing of their own in the cache yet
    steps: int = 0

    def __post_init__(self) -> None:
        sequences = [prompt.ids for prompt in self.prompts]
        last = [len(ids) - 1 for ids in sequences]
        self._tree: TokenTree = build_tree(sequences, last, self.limits.passes)
        self._num_samples = max(len(prompt.streams) for prompt in self.prompts)
        self._path = PathCache(max(len(ids) for ids in sequences))
        self._written: list[list[Written]] = [[Written() for _ in p.streams] for p in self.prompts]
        self._token_bytes = 0  # of one position's keys and values, known from the first pass on
        self._chains: dict[int, tuple[Segment, ...]] = {}  # id of a cut node -> segments from the root to it
        self._unstarted: dict[int, int] = {}  # id of a cut node -> sequences below that are not prefilled yet
        self._mark_cuts(self._tree.root, 0)

    def run(self) -> list[list[Written]]:
        passes = plan_passes(self._tree, self.limits.passes)
        coming = next(passes, None)
        with self.packed.attention_in_place():
            while coming is not None or self.active or self.waiting:
                if self.waiting and self._has_room(1, 0):
                    self.active.append(self.waiting.pop(0))
                elif coming is not None and self._has_room(self._num_new_rows(coming), self._reach(coming)):
                    self._prefill(coming)
                    coming = next(passes, None)
                else:
                    self._step()
        return self._written

    # Prefill

    def _num_new_rows(self, step: Pass) -> int:
        return self._num_samples * len(step.wanted)

    def _reach(self, step: Pass) -> int:
        """The most positions that a row of this pass may have to itself to begin with."""
        return 0 if step.is_spine else max(step.positions) + 1 - step.depth

    def _has_room(self, num_new_rows: int, reach: int) -> bool:
        """Whether so many more rows may be active: always where none is, so that all get done."""
        if not self.active or num_new_rows == 0:
            return True
        num_rows = len(self.active) + num_new_rows
        length = max(reach, self._longest_own()) + min(self.sampling.max_new_tokens, FIRST_HEADROOM_TOKENS)
        return (
            num_rows <= self.limits.max_rows
            and num_rows * length * self._token_bytes <= self.limits.row_bytes
        )

    def _mark_cuts(self, node: Node, last_cut: int) -> None:
        stack = [(node, last_cut)]
        while stack:
            node, last_cut = stack.pop()
            is_shared = node.subtree_sequences * self._num_samples >= self.limits.min_shared_rows
            is_long = node.end - last_cut >= self.limits.min_shared_tokens
            is_sampled = bool(node.sequences) and self._num_samples >= self.limits.min_shared_rows
            if node.tokens and is_shared and (is_long or is_sampled):
                self._unstarted[id(node)] = node.subtree_sequences
                last_cut = node.end
            stack += [(child, last_cut) for child in node.children]

    def _prefill(self, step: Pass) -> None:
        start = time.perf_counter()
        plan = PassPlan(step, self._path, self.packed.device, keep_states=not step.is_spine)
        logits = self.packed.logits(step.tokens, step.positions, step.wanted, plan)
        source = StateSource(step, self._path, plan.states)
        complete = [span.node for span in step.spans if span.last == len(span.node.tokens)]
        for node in complete:
            if id(node) in self._unstarted:
                chain = self._chain_above(node)
                segment = source.segment(node, chain[-1].end if chain else 0)
                self._chains[id(node)] = (*chain, segment)
        row_of_logits = {id(node): row for row, node in enumerate(step.wanted_nodes)}
        self._start_rows([node for node in complete if node.sequences], row_of_logits, logits, source)
        self._token_bytes = source.token_bytes
        step.share_seconds(time.perf_counter() - start)
        for node in complete:
            for index in node.sequences:
                self._finish_prefill(node, index)

    def _chain_above(self, node: Node | None) -> tuple[Segment, ...]:
        while node is not None:
            if id(node) in self._chains:
                return self._chains[id(node)]
            node = node.parent
        return ()

    def _start_rows(
        self, nodes: list[Node], row_of_logits: dict[int, int], logits: torch.Tensor, source: StateSource
    ) -> None:
        if not nodes:
            return
        rows: list[Row] = []
        logit_rows: list[int] = []
        row_nodes: list[Node] = []
        for node in nodes:
            chain = self._chain_above(node)
            own_start = chain[-1].end if chain else 0
            for index in node.sequences:
                prompt = self.prompts[index]
                for sample, stream in enumerate(prompt.streams):
                    rows.append(
                        Row(
                            prompt=index,
                            stream=stream,
                            max_new_tokens=prompt.max_new_tokens,
                            segments=chain,
                            own_start=own_start,
                            own_length=node.end - own_start,
                            written=self._written[index][sample],
                        )
                    )
                    logit_rows.append(row_of_logits[id(node)])
                    row_nodes.append(node)
        wanted = logits[logit_rows, : self.num_tokens]
        chosen = next_tokens(wanted, self.sampling, [row.stream for row in rows])
        kept = [
            i for i, (row, token) in enumerate(zip(rows, chosen, strict=True)) if not self._take(row, token)
        ]
        self.waiting += [rows[i] for i in kept if rows[i].own_length == 0]
        kept = [i for i in kept if rows[i].own_length > 0]
        if kept:
            self._admit([rows[i] for i in kept], [row_nodes[i] for i in kept], source)

    def _admit(self, rows: list[Row], nodes: list[Node], source: StateSource) -> None:
        """Give rows slots after the active ones, with their prompts' keys and values."""
        longest = max(row.own_length for row in rows)
        new_tokens = max(row.max_new_tokens for row in rows)
        self._reserve(len(self.active) + len(rows), longest + min(new_tokens, FIRST_HEADROOM_TOKENS))
        self.cache.prepare(longest)
        source.copy_rows(self.cache, len(self.active), nodes, [row.own_start for row in rows])
        self.active += rows

    def _reserve(self, num_slots: int, capacity: int) -> None:
        """Make room in the cache; by half as much again, so that growing costs little in the long run."""
        if num_slots > self.cache.num_slots:
            num_slots = max(num_slots, min(self.limits.max_rows, self.cache.num_slots * 3 // 2))
        if capacity > self.cache.capacity:
            capacity = max(capacity, self.cache.capacity * 3 // 2)
        self.cache.reserve(num_slots, capacity)

    def _finish_prefill(self, node: Node, index: int) -> None:
        """Note a prompt's prefill time, and let go of segments that no later prompt needs."""
        each = node.seconds_of_each() / len(self._written[index])
        for written in self._written[index]:
            written.prefill_seconds = each
            written.decode_seconds = written.decode_seconds or 0.0
        above: Node | None = node
        while above is not None:
            if id(above) in self._unstarted:
                self._unstarted[id(above)] -= 1
                if self._unstarted[id(above)] == 0:
                    del self._unstarted[id(above)], self._chains[id(above)]
            above = above.parent

    # Decode

    def _longest_own(self) -> int:
        return max((row.own_length for row in self.active), default=0)

    def _step(self) -> None:
        """Feed each active row's last token, and choose the next."""
        start = time.perf_counter()
        needed = self._longest_own() + 1
        self._reserve(len(self.active), needed)
        self.cache.prepare(needed)
        plan = DecodePlan(
            self.cache,
            own_starts=[row.own_start for row in self.active],
            own_lengths=[row.own_length for row in self.active],
            segments=self._rows_of_segments(),
            device=self.packed.device,
        )
        logits = self.packed.logits(
            [row.written.ids[-1] for row in self.active],
            [row.position for row in self.active],
            range(len(self.active)),
            plan,
        )
        chosen = next_tokens(logits[:, : self.num_tokens], self.sampling, [row.stream for row in self.active])
        done = []
        for slot, (row, token) in enumerate(zip(self.active, chosen, strict=True)):
            row.own_length += 1
            if self._take(row, token):
                done.append(slot)
        each = (time.perf_counter() - start) / len(self.active)
        for row in self.active:
            row.decode_seconds += each
            row.written.decode_seconds = row.decode_seconds
        self.steps += 1
        if done:
            self._compact(done)

    def _take(self, row: Row, token: int) -> bool:
        """Add a token to a row; whether the row is finished."""
        row.written.ids.append(token)
        row.written.is_stopped = self.rule.stops_at(row.written.ids)
        return row.written.is_stopped or len(row.written.ids) >= row.max_new_tokens

    def _rows_of_segments(self) -> list[tuple[Segment, list[int]]]:
        rows: dict[Segment, list[int]] = defaultdict(list)
        for slot, row in enumerate(self.active):
            for segment in row.segments:
                rows[segment].append(slot)
        return list(rows.items())

    def _compact(self, done: list[int]) -> None:
        """Drop finished rows: the last rows move into their slots, so that rows 0..n-1 stay the active
        ones.
        """
        num_left = len(self.active) - len(done)
        gone = set(done)
        holes = [slot for slot in done if slot < num_left]
        movers = [slot for slot in range(num_left, len(self.active)) if slot not in gone]
        if holes:
            used = max(self.active[slot].own_length for slot in movers)
            self.cache.move(movers, holes, used)
            for hole, mover in zip(holes, movers, strict=True):
                self.active[hole] = self.active[mover]
        del self.active[num_left:]
