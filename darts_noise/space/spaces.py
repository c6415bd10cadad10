"""Search spaces: the operations that compete on an edge and the number of nodes in a cell.

To add a space, call `register_space` at the end of this file or in your own code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from darts_noise.errors import SettingError, unknown
from darts_noise.shown import shortened, shown
from darts_noise.space.genotype import MAX_EDGES_PER_NODE, MAX_NODES
from darts_noise.space.macro import MACRO, Value, check_macro, require_candidates
from darts_noise.space.operations import kind_of


@dataclass(frozen=True)
class Space:
    """The candidates of a search.

    Attributes:
        name: the name in configs and in a genotype's ``meta``.
        operations: the candidates of every edge, in the order of α's columns.
        nodes: number of intermediate nodes in a cell. During the search, each node is connected to
            both inputs of the cell and to all earlier nodes. Default: 4.
        kept_edges: number of predecessors of a node that the discrete cell keeps. Default: 2.
        macro: choices for the whole network that are searched too, each with its candidates; see
            `darts_noise.space.macro`. The constructor also takes a mapping. Default: no choices.
        allowed: ``"normal"`` or ``"reduce"`` → for each of `edges`, the operations that are
            candidates of this edge in cells of this kind. The constructor also takes a mapping.
            Default: all operations on all edges.
        complete: cells as in NAS-Bench-201: every node is connected to the cell's last input and to
            all earlier nodes, ``none`` is an operation like the others, the cell returns its last
            node, and the reduction cell equals the normal cell. Such cells are for strategies that
            propose single cells. Default: False.

    Raises:
        ValueError: an operation or a choice is unknown or repeated, an edge has no operation
            besides ``none``, ``allowed`` does not fit the edges, or the number of nodes or kept
            edges is out of range.
    """

    name: str
    operations: tuple[str, ...]
    nodes: int = 4
    kept_edges: int = 2
    macro: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    allowed: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()
    complete: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        for operation in self.operations:
            kind_of(operation)
        if len(set(self.operations)) != len(self.operations):
            raise ValueError(
                f"space {self.name!r}: an operation is listed twice: {self.operations}"
            )
        if not set(self.operations) - {"none"}:
            raise ValueError(f"space {self.name!r}: expected an operation besides 'none'")
        for name, value, highest in [
            ("nodes", self.nodes, MAX_NODES),
            ("kept_edges", self.kept_edges, MAX_EDGES_PER_NODE),
        ]:
            if type(value) is not int or not 1 <= value <= highest:
                raise SettingError(name, f"expected 1 to {highest}, got {shown(value)}")

        rows = self.macro.items() if isinstance(self.macro, Mapping) else self.macro
        checked = []
        for name, values in rows:
            candidates = tuple(check_macro(name, value)[1] for value in values)
            if not candidates or len(set(candidates)) != len(candidates):
                raise ValueError(
                    f"space {self.name!r}: macro[{name!r}] needs distinct candidates, got "
                    f"{shown(values)}"
                )
            checked.append((name, candidates))
        object.__setattr__(self, "macro", tuple(checked))
        per_edge = self.allowed.items() if isinstance(self.allowed, Mapping) else self.allowed
        object.__setattr__(
            self, "allowed", tuple((kind, self._checked(kind, edges)) for kind, edges in per_edge)
        )

    def _checked(self, kind: str, edges: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
        """Return the operations of each edge in the order of α's columns."""
        at = f"space {self.name!r}: allowed[{shown(kind)}]"
        if kind not in ("normal", "reduce"):
            raise ValueError(f"{at}: expected 'normal' or 'reduce'")
        if len(edges) != len(self.edges):
            raise ValueError(
                f"{at}: expected the operations of {len(self.edges)} edges, got {len(edges)}"
            )
        for edge, names in enumerate(edges):
            drawn = set(names) if self.complete else set(names) - {"none"}
            if not set(names) <= set(self.operations) or not drawn:
                raise ValueError(
                    f"{at}[{edge}]: expected some of {', '.join(self.operations)}, got "
                    f"{shown(names)}"
                )
        return tuple(tuple(o for o in self.operations if o in names) for names in edges)

    def candidates(self, kind: str) -> tuple[tuple[str, ...], ...]:
        """Return the operations of each of `edges` in ``"normal"`` or in ``"reduce"`` cells.

        >>> get_space("robust_darts_s1").candidates("normal")[0]
        ('skip_connect', 'dil_conv_3x3')
        """
        return dict(self.allowed).get(kind, (self.operations,) * len(self.edges))

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(predecessor, node) of each edge, in the order of α's rows.

        Predecessors 0 and 1 are the cell's inputs; 2, 3, ... are the earlier nodes. Nodes count
        from 0.

        >>> Space("tiny", ("skip_connect",), nodes=2).edges
        [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)]
        """
        return [(p, node) for node in range(self.nodes) for p in range(node + 2)]

    def mixable(self) -> "Space":
        """Return the space itself, for a supernet.

        Raises:
            ValueError: its cells are complete.
        """
        if self.complete:
            raise SettingError(
                "space", f"{self.name!r} has complete cells; only strategies can search them"
            )
        return self

    def fixed(self, name: str) -> Value:
        """Return the value of a macro choice that a supernet cannot mix.

        Raises:
            ValueError: the space has several candidates for it.
        """
        values = dict(self.macro).get(name, MACRO[name][:1])
        if len(values) > 1:
            raise SettingError(
                f"macro.{name}",
                "expected one candidate, because a supernet cannot mix this choice, got "
                f"{shown(list(values))}; for a race of several, give macro a list of mappings",
            )
        return values[0]

    def with_macro(self, macro: Mapping[str, Sequence[Value]]) -> "Space":
        """Return the space with these candidates for some macro choices, in place of its own.

        A choice with one candidate is fixed. A choice that the space does not search is added.

        Raises:
            ValueError: there is no such choice, or the choice has no such candidate. The message
                lists the valid ones.

        >>> space = get_space("noise").with_macro({"width": [1.0]})
        >>> dict(space.macro)["width"], len(space.macro)
        ((1.0,), 4)
        >>> get_space("darts").with_macro({"colour": ["all", "chroma"]}).macro
        (('colour', ('all', 'chroma')),)
        """
        for name, values in macro.items():
            require_candidates(name, values)
        rows = {**dict(self.macro), **{name: tuple(values) for name, values in macro.items()}}
        return replace(self, macro=tuple(rows.items()))


_SPACES: dict[str, Space] = {}


def register_space(
    name: str,
    operations: Sequence[str],
    nodes: int = 4,
    macro: Mapping[str, Sequence[Value]] | None = None,
    allowed: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Space:
    """Register a `Space` under a name. Raise ``ValueError`` if the name is registered already."""
    if name in _SPACES:
        raise ValueError(f"space {name!r} is registered already")
    rows = tuple((choice, tuple(values)) for choice, values in (macro or {}).items())
    per_edge = tuple((kind, tuple(map(tuple, edges))) for kind, edges in (allowed or {}).items())
    space = Space(name, tuple(operations), nodes, macro=rows, allowed=per_edge)
    _SPACES[name] = space
    return space


def get_space(space: str | Space, nodes: int | None = None) -> Space:
    """Return a space by name, or the given space. `nodes` changes its number of nodes.

    Raises:
        ValueError: the name is unknown, and the message lists the names and suggests the nearest.
            Or the space has its own operations on each edge, and the number of nodes is another.
    """
    if isinstance(space, str):
        if space not in _SPACES:
            raise SettingError("space", unknown("space", shortened(space), _SPACES))
        space = _SPACES[space]
    if not isinstance(space, Space):
        raise ValueError(f"expected the name of a space or a Space, got {shown(space)}")
    if nodes is None:
        return space
    if space.allowed and nodes != space.nodes:
        raise SettingError(
            "nodes",
            f"expected {space.nodes}, because space {space.name!r} has its own operations on each "
            f"edge, got {shown(nodes)}",
        )
    return replace(space, nodes=nodes)


def list_spaces() -> list[str]:
    """Return the names of all search spaces, sorted."""
    return sorted(_SPACES)


# Liu et al. 2019, arXiv:1806.09055, section 3.1, in the authors' order.
register_space(
    "darts",
    [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ],
)

# The DARTS candidates with kernel 3, and a fixed low-pass filter.
register_space(
    "low_pass",
    [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "blur_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "dil_conv_3x3",
    ],
)

# The DARTS candidates with kernel 3, and three convolutions from other work: a random dilation, no
# norm, and several residual branches.
register_space(
    "extended",
    [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "dil_conv_3x3",
        "random_dil_conv_3x3",
        "selu_conv_3x3",
        "multi_residual_3x3",
    ],
)

# Candidates that differ in how much they can memorise: fixed low-pass filters, filters that do not
# mix channels, and convolutions that mix channels. The macro choices have more effect than any
# operation.
register_space(
    "noise",
    [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "blur_pool_3x3",
        "skip_connect",
        "conv_1x1",
        "dw_conv_3x3",
        "conv_3x3",
        "sep_conv_3x3",
        "dil_conv_3x3",
    ],
    macro={name: MACRO[name] for name in ("normalisation", "input_filter", "pooling", "width")},
)

# Plain convolutions and pools in networks whose gain is bounded, so that training cannot give them
# the contrast that noise needs; see `darts_noise.nets.gain`.
register_space(
    "bounded",
    [
        "skip_connect",
        "avg_pool_3x3",
        "blur_pool_3x3",
        "conv_1x1",
        "dw_conv_3x3",
        "conv_3x3",
        "conv_5x5",
    ],
    macro={
        "gain": ("bounded",),
        "reduction": ("average",),
        "logit_scale": (64.0, 256.0, 1024.0, 4096.0),
    },
)

# The five candidates of Dong & Yang 2020, arXiv:2001.00326, in the cells of this package.
register_space(
    "nas_bench_201", ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
)

# Zela et al. 2020, arXiv:1909.09656, section 3: spaces in which DARTS fails. In S1, each edge has
# the two operations that were left after the authors dropped the least important ones. The paper
# draws the pairs; src/spaces.py of github.com/automl/RobustDARTS lists them.
_SKIP, _MAX, _AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
_SEP_3, _DIL_3, _DIL_5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"
register_space(
    "robust_darts_s1",
    [_MAX, _AVG, _SKIP, _SEP_3, _DIL_3, _DIL_5],
    allowed={  # one line for each node
        "normal": [
            *[(_SKIP, _DIL_3), (_SKIP, _DIL_5)],
            *[(_SKIP, _DIL_5), (_SKIP, _SEP_3), (_SKIP, _DIL_3)],
            *[(_MAX, _SKIP), (_SKIP, _SEP_3), (_SKIP, _SEP_3), (_SKIP, _DIL_3)],
            *[(_SKIP, _SEP_3), (_MAX, _SKIP), (_SKIP, _DIL_3), (_DIL_3, _DIL_5), (_DIL_3, _DIL_5)],
        ],
        "reduce": [
            *[(_MAX, _AVG), (_MAX, _DIL_3)],
            *[(_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL_5)],
            *[(_MAX, _AVG), (_MAX, _SEP_3), (_SKIP, _DIL_3), (_SKIP, _DIL_5)],
            *[(_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL_5), (_SKIP, _DIL_5), (_SKIP, _DIL_5)],
        ],
    },
)
register_space("robust_darts_s2", [_SKIP, _SEP_3])
register_space("robust_darts_s3", ["none", _SKIP, _SEP_3])
register_space("robust_darts_s4", ["noise", _SEP_3])
