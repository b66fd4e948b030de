"""Token sequences as a radix tree, and the tree as forward passes: each token position is computed once.

A `Node` holds a run of tokens that all the sequences below it share. `plan_passes` walks the tree depth first
and gives `Pass`es of at most `max_tokens` positions:

- a *spine* pass runs tokens of one node; their keys and values stay in the path buffer while its subtree is
  worked on (the buffer is a stack: it never holds more than one path);
- a *leaf* pass runs many whole small subtrees ("groups") side by side after what is in the path buffer.

So P shared tokens, then N items of s tokens with K choices of c tokens each, cost P + N·(s + K·(c−1))
positions, where one forward pass a choice costs N·K·(P + s + c − 1).

A few tokens that some items share by chance (the "What is" of questions) are not worth a node: to compute them
again for each costs less than the attention of one group to another's tokens, or than a pass of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stillmark.backends.tokens import TokenIds, common_length


@dataclass(kw_only=True, eq=False)
class Node:
    """Tokens at positions [start, end) that every sequence below shares."""

    tokens: TokenIds
    start: int
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    wanted: set[int] = field(default_factory=set)  # positions whose logits are needed
    sequences: list[int] = field(default_factory=list)  # those that end at this node's end
    subtree_tokens: int = 0
    subtree_wanted: int = 0
    subtree_sequences: int = 0
    seconds: float = 0.0  # wall time of computing it

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def path(self) -> "list[Node]":
        """The nodes from the root down to this one, itself included."""
        nodes = [self]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(parent)
        return nodes[::-1]

    def seconds_of_each(self) -> float:
        """Seconds of the path down to here, each node's shared evenly among the sequences below it."""
        return sum(node.seconds / max(1, node.subtree_sequences) for node in self.path())


@dataclass(frozen=True, kw_only=True)
class PassLimits:
    """What one forward pass may hold."""

    max_tokens: int
    max_wanted: int  # rows of logits: each is vocabulary-sized
    group_tokens: (
        int  # a subtree of up to so many tokens is one group; its own attention is quadratic in them
    )
    # What costs as much as a position's linear layers: so many pairs of a query and a key; and so many
    # positions cost what a pass costs in any case, as it reads all weights (some tens on CPUs and GPUs alike)
    pairs_per_position: int
    positions_per_pass: int = 32


@dataclass(frozen=True, kw_only=True)
class NodeSpan:
    """Where (a part of) a node lies in a pass: `node.tokens[first:last]` at pass indices from `offset`."""

    node: Node
    first: int
    last: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass over `tokens`, after the `depth` tokens in the path buffer."""

    depth: int
    is_spine: bool
    spans: list[NodeSpan]
    group_sizes: list[int]  # tokens of each group, in order; a spine pass is one group
    tokens: list[int]
    positions: list[int]
    wanted: list[int]  # indices into `tokens` whose logits are needed, rising
    wanted_nodes: list[Node]  # the node of each of those

    def indices_by_node(self) -> dict[int, int]:
        """id of each node in the pass -> the index of its first token."""
        return {id(span.node): span.offset for span in self.spans}

    def share_seconds(self, seconds: float) -> None:
        """Give each node its part of the pass's time, by tokens."""
        for span in self.spans:
            span.node.seconds += seconds * (span.last - span.first) / len(self.tokens)


@dataclass(frozen=True, kw_only=True)
class TokenTree:
    root: Node
    end_nodes: list[Node]  # of each sequence, in the order given

    def node_at(self, sequence: int, position: int) -> Node:
        """The node that holds this position of a sequence."""
        node = self.end_nodes[sequence]
        while node.start > position:
            assert node.parent is not None
            node = node.parent
        return node


def build_tree(sequences: Sequence[TokenIds], wanted_from: Sequence[int], limits: PassLimits) -> TokenTree:
    """The tree of the sequences, for passes within the limits; logits are wanted at each one's positions from
    `wanted_from` on.
    """
    root = Node(tokens=(), start=0)
    end_nodes: list[Node] = [root] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    path = [root]
    previous: TokenIds = ()
    for index in order:
        ids = sequences[index]
        shared = common_length(previous, ids)
        while path[-1].start > shared or (path[-1].start == shared and len(path) > 1):
            path.pop()
        if path[-1].end > shared:
            _split(path[-1], shared)
        if len(ids) > shared:
            node = Node(tokens=ids[shared:], start=shared, parent=path[-1])
            path[-1].children.append(node)
            path.append(node)
        end_nodes[index] = path[-1]
        path[-1].sequences.append(index)
        previous = ids
    _repeat_short_stems(root, limits)
    # `_split` moves a node's lower half to a new node: sequences that ended there are found anew
    _collect_ends(root, end_nodes)
    tree = TokenTree(root=root, end_nodes=end_nodes)
    for index, first in enumerate(wanted_from):
        for position in range(first, len(sequences[index])):
            tree.node_at(index, position).wanted.add(position)
    _count(root)
    return tree


def plan_passes(tree: TokenTree, limits: PassLimits) -> Iterator[Pass]:
    """The passes that compute every position of the tree once, each after the passes it needs."""
    yield from _plan_below(tree.root, limits)


def _plan_below(node: Node, limits: PassLimits) -> Iterator[Pass]:
    yield from _spine_passes(node, limits)
    small = [c for c in node.children if _is_group(c, limits)]
    # By size, so that the groups of one pass are padded little
    small.sort(key=lambda child: -child.subtree_tokens)
    batch: list[Node] = []
    for child in small:
        if batch and not _fits(batch, child, limits):
            yield _leaf_pass(batch, node.end)
            batch = []
        batch.append(child)
    if batch:
        yield _leaf_pass(batch, node.end)
    for child in node.children:
        if not _is_group(child, limits):
            yield from _plan_below(child, limits)


def _is_group(node: Node, limits: PassLimits) -> bool:
    return node.subtree_tokens <= limits.group_tokens and node.subtree_wanted <= limits.max_wanted


def _fits(batch: list[Node], child: Node, limits: PassLimits) -> bool:
    tokens = sum(n.subtree_tokens for n in batch) + child.subtree_tokens
    wanted = sum(n.subtree_wanted for n in batch) + child.subtree_wanted
    padded = (len(batch) + 1) * batch[0].subtree_tokens
    is_padded_little = padded <= 1.5 * tokens + 64
    return tokens <= limits.max_tokens and wanted <= limits.max_wanted and is_padded_little


def _spine_passes(node: Node, limits: PassLimits) -> Iterator[Pass]:
    first = 0
    while first < len(node.tokens):
        last = min(len(node.tokens), first + limits.max_tokens)
        start = node.start + first
        wanted = sorted(p for p in node.wanted if start <= p < node.start + last)
        if len(wanted) > limits.max_wanted:
            last = wanted[limits.max_wanted] - node.start
            wanted = wanted[: limits.max_wanted]
        yield Pass(
            depth=start,
            is_spine=True,
            spans=[NodeSpan(node=node, first=first, last=last, offset=0)],
            group_sizes=[last - first],
            tokens=list(node.tokens[first:last]),
            positions=list(range(start, node.start + last)),
            wanted=[position - start for position in wanted],
            wanted_nodes=[node] * len(wanted),
        )
        first = last


def _leaf_pass(tops: list[Node], depth: int) -> Pass:
    tokens: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    wanted_nodes: list[Node] = []
    spans: list[NodeSpan] = []
    for top in tops:
        stack = [top]
        while stack:
            node = stack.pop()
            spans.append(NodeSpan(node=node, first=0, last=len(node.tokens), offset=len(tokens)))
            wanted += [len(tokens) + position - node.start for position in sorted(node.wanted)]
            wanted_nodes += [node] * len(node.wanted)
            tokens += node.tokens
            positions += range(node.start, node.end)
            stack += reversed(node.children)
    return Pass(
        depth=depth,
        is_spine=False,
        spans=spans,
        group_sizes=[top.subtree_tokens for top in tops],
        tokens=tokens,
        positions=positions,
        wanted=wanted,
        wanted_nodes=wanted_nodes,
    )


def _split(node: Node, position: int) -> None:
    """Cut a node in two at a position; it keeps the upper part."""
    keep = position - node.start
    lower = Node(tokens=node.tokens[keep:], start=position, parent=node)
    lower.children, lower.sequences = node.children, node.sequences
    for child in lower.children:
        child.parent = lower
    node.tokens, node.children, node.sequences = node.tokens[:keep], [lower], []


def _repeat_short_stems(root: Node, limits: PassLimits) -> None:
    """Give a node's tokens to each of its children, where computing them again costs less than sharing them."""
    for node in reversed(list(_preorder(root))):  # children first
        sizes = [child.subtree_tokens for child in node.children]
        node.subtree_tokens = len(node.tokens) + sum(sizes)
        if node.parent is None or len(sizes) < 2 or node.sequences:
            continue
        if node.subtree_tokens <= limits.group_tokens:
            apart = sum((len(node.tokens) + size) ** 2 for size in sizes)
            saved_positions = (node.subtree_tokens**2 - apart) / limits.pairs_per_position
        else:
            saved_positions = limits.positions_per_pass
        if (len(sizes) - 1) * len(node.tokens) >= saved_positions:
            continue
        for child in node.children:
            child.tokens, child.start, child.parent = node.tokens + child.tokens, node.start, node.parent
            child.subtree_tokens += len(node.tokens)
        siblings = node.parent.children
        where = next(index for index, sibling in enumerate(siblings) if sibling is node)
        siblings[where : where + 1] = node.children


def _collect_ends(root: Node, end_nodes: list[Node]) -> None:
    for node in _preorder(root):
        for index in node.sequences:
            end_nodes[index] = node


def _count(root: Node) -> None:
    for node in reversed(list(_preorder(root))):
        node.subtree_tokens = len(node.tokens) + sum(c.subtree_tokens for c in node.children)
        node.subtree_wanted = len(node.wanted) + sum(c.subtree_wanted for c in node.children)
        node.subtree_sequences = len(node.sequences) + sum(c.subtree_sequences for c in node.children)


def _preorder(root: Node) -> Iterator[Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += reversed(node.children)
