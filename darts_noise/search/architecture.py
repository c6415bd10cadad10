"""The architecture weights α as parameters, and how a genotype is read from them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.spaces import Space, get_space

INITIAL_DEVIATION = 1e-3


class Architecture(nn.Module):
    """The architecture weights α.

    Each kind of cell has one row per edge and one column per operation. Each macro choice has one
    row. Where the space does not allow an operation, the weight is 0 and α gets a gradient of 0.

    Attributes:
        normal: α of the normal cells, (edges, operations).
        reduce: α of the reduction cells, (edges, operations).
        macro: α of each macro choice of the space, by name, (1, candidates).
        normal_edges, reduce_edges: weights of the edges, (edges,). They exist only after
            `add_edge_weights`.
        normal_decided, reduce_decided: weights of the edges that are decided, which replace those
            of α, (edges, operations). -1 on edges that are not decided. They exist only after
            `add_decisions`.
        relaxation: a function from α (edges, operations) to the weights used in train mode; a
            softmax by default.
        logits: a function from α to the logarithms of the expected weights, up to a constant in
            each row; α itself by default.

    Args:
        space: the name of a search space, or a `Space`.
        nodes: nodes of a cell. None: the number that the space defines.

    >>> arch = Architecture(space="darts")
    >>> arch()["normal"].shape, float(arch()["normal"][0].sum().round(decimals=4))
    (torch.Size([14, 8]), 1.0)
    """

    def __init__(self, space: str | Space = "darts", nodes: int | None = None) -> None:
        super().__init__()
        self.space = get_space(space, nodes).mixable()
        shape = (len(self.space.edges), len(self.space.operations))
        self.normal = nn.Parameter(INITIAL_DEVIATION * torch.randn(shape))
        self.reduce = nn.Parameter(INITIAL_DEVIATION * torch.randn(shape))
        self.macro = nn.ParameterDict(
            {
                name: INITIAL_DEVIATION * torch.randn(1, len(values))
                for name, values in self.space.macro
            }
        )
        self.relaxation: Callable[[Tensor], Tensor] = softmax
        self.logits: Callable[[Tensor], Tensor] = unchanged
        for kind, edges in self.space.allowed:
            absent = torch.tensor(
                [[o not in edge for o in self.space.operations] for edge in edges]
            )
            self.register_buffer(f"{kind}_absent", absent, persistent=False)

    @property
    def alpha(self) -> dict[str, Tensor]:
        """The α of each kind of cell before the relaxation; −∞ if the space does not allow it."""
        found: dict[str, Tensor] = {"normal": self.normal, "reduce": self.reduce}
        for kind, _ in self.space.allowed:
            found[kind] = found[kind].masked_fill(getattr(self, f"{kind}_absent"), -torch.inf)
        return found

    def forward(self) -> dict[str, Tensor]:
        """Return the weights of each kind of cell and of each macro choice.

        Train mode applies `relaxation`. Eval mode returns `expected`.
        """
        return self._relaxed(self.relaxation) if self.training else self.expected()

    def expected(self) -> dict[str, Tensor]:
        """Return the weights that a genotype is read from.

        They are a softmax of `logits` over the operations of each edge (DARTS, equation 2). If the
        edges have weights, each row is multiplied by the weight of its edge. Nothing is sampled.
        """
        return self._relaxed(self._mean)

    def _mean(self, alpha: Tensor) -> Tensor:
        return softmax(self.logits(alpha))

    def _relaxed(self, relaxation: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        cells = {
            k: self._weigh_edges(k, self._decided(k, relaxation(a))) for k, a in self.alpha.items()
        }
        return cells | {name: relaxation(row) for name, row in self.macro.items()}

    def add_edge_weights(self) -> None:
        """Add a learnable weight for each edge (PC-DARTS, arXiv:1907.05737, section 3.3)."""
        for kind in self.alpha:
            start = INITIAL_DEVIATION * torch.randn(len(self.space.edges))
            self.register_parameter(f"{kind}_edges", nn.Parameter(start))

    def add_decisions(self) -> None:
        """Allow edges to be decided before the end of the search. At first, no edge is decided."""
        for kind, alpha in self.alpha.items():
            self.register_buffer(f"{kind}_decided", torch.full_like(alpha.detach(), -1.0))

    def genotype(self, meta: Mapping[str, Any] | None = None) -> Genotype:
        """Return the discrete cells for the current α."""
        with torch.no_grad():
            return discretise(self.space, self.expected(), meta)

    def draw(self, generator: torch.Generator) -> Genotype:
        """Sample discrete cells: operations are drawn with their expected weights.

        As in `genotype`, ``none`` is never chosen, and each node keeps its two strongest edges.

        The Gumbel-max trick does the sampling: the largest entry of the logits plus Gumbel noise is
        a sample from their softmax.
        """

        def drawn(alpha: Tensor) -> Tensor:
            exponential = torch.empty(alpha.shape).exponential_(generator=generator)
            return softmax(self.logits(alpha) - exponential.log().to(alpha))

        with torch.no_grad():
            return discretise(self.space, self._relaxed(drawn))

    def figures(self) -> dict[str, Tensor]:
        """Return the entropy of each cell and macro choice and the mean weight of each candidate.

        The keys are the names in the log. A choice with one candidate is decided and has no figure.
        """
        values: dict[str, Tensor] = {}
        for kind, alpha in self.alpha.items():
            weights = self._mean(alpha.detach())
            values[f"alpha/entropy_{kind}"] = entropy(weights)
            for name, share in zip(self.space.operations, weights.mean(0), strict=True):
                values[f"share/{kind}/{name}"] = share
        for choice, candidates in self.space.macro:
            if len(candidates) == 1:
                continue
            weights = self._mean(self.macro[choice].detach())
            values[f"alpha/entropy_{choice}"] = entropy(weights)
            for value, share in zip(candidates, weights[0], strict=True):
                values[f"share/{choice}/{value}"] = share
        return values

    def _decided(self, kind: str, weights: Tensor) -> Tensor:
        """Replace the weights of the edges that are decided: (edges, operations)."""
        decided = getattr(self, f"{kind}_decided", None)
        return weights if decided is None else torch.where(decided < 0, weights, decided)

    def _weigh_edges(self, kind: str, weights: Tensor) -> Tensor:
        """Multiply each row by the weight of its edge: a softmax over the edges into the same node.

        Shapes: (edges, operations) → (edges, operations).
        """
        edges = getattr(self, f"{kind}_edges", None)
        if edges is None:
            return weights
        sizes = [node + 2 for node in range(self.space.nodes)]
        share = torch.cat([part.softmax(0) for part in torch.split(edges, sizes)])
        return share[:, None] * weights


def unchanged(alpha: Tensor) -> Tensor:
    """Return α."""
    return alpha


def softmax(alpha: Tensor) -> Tensor:
    """Return a distribution over the operations of each edge: (edges, operations)."""
    return alpha.softmax(-1)


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy in nats of an edge's weights, averaged over edges: (edges, ops) → scalar.

    It is log(operations) if all operations have the same weight. It is 0 if each edge has decided
    for one operation.
    """
    per_edge: Tensor = torch.special.entr(weights).sum(-1)
    return per_edge.mean()


def discretise(
    space: Space, weights: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> Genotype:
    """Return the strongest operation on each of the strongest edges (DARTS, section 2.4).

    The strength of an edge is the largest weight of its operations other than ``none``. A node
    keeps its ``space.kept_edges`` strongest edges, the strongest first. If two edges are equally
    strong, the edge from the earlier predecessor comes first. The cell concatenates all its nodes.
    The weights of operations that the space does not allow on an edge have no effect.

    Args:
        space: the search space.
        weights: the *relaxed* weights, not α itself: (edges, operations) for ``"normal"`` and
            ``"reduce"``, (1, candidates) for each macro choice of the space. α ranks edges
            differently, because the softmax compares the operations of one edge only.
        meta: the origin of the genotype, stored in its ``meta``.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    for kind, of_kind in weights.items():
        if not torch.isfinite(of_kind).all():
            where = f"the {kind} cell" if kind in ("normal", "reduce") else kind
            raise ValueError(
                f"α of {where} is not finite: the search has diverged; "
                "lower model.learning_rate or model.alpha_learning_rate"
            )
    concat = tuple(range(2, space.nodes + 2))
    return Genotype(
        normal=_cell(space, "normal", weights["normal"]),
        normal_concat=concat,
        reduce=_cell(space, "reduce", weights["reduce"]),
        reduce_concat=concat,
        meta={"space": space.name, **(meta or {})},
        macro={name: values[int(weights[name][0].argmax())] for name, values in space.macro},
    )


def _cell(space: Space, kind: str, weights: Tensor) -> Cell:
    rows = weights.detach().cpu().tolist()
    strongest: list[list[tuple[float, int, str]]] = [[] for _ in range(space.nodes)]
    for (predecessor, node), row, allowed in zip(
        space.edges, rows, space.candidates(kind), strict=True
    ):
        weight = dict(zip(space.operations, row, strict=True))
        best = max((name for name in allowed if name != "none"), key=weight.__getitem__)
        strongest[node].append((-weight[best], predecessor, best))
    return tuple(
        tuple(
            (operation, predecessor)
            for _, predecessor, operation in sorted(edges)[: space.kept_edges]
        )
        for edges in strongest
    )
