"""The discrete cell: what a search finds, as data that no code runs from.

A genotype is JSON with a schema (`FORMAT`). Reading one checks every field against the registry of
operations; whatever does not fit is a ``ValueError`` of one line that names the place. A change of
the layout gets a new number in `FORMAT` and a reader for the old one here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.space.operations import get_operation

FORMAT = "darts_noise.genotype/1"
MAX_NODES = 64
MAX_EDGES_PER_NODE = 16
MAX_BYTES = 1 << 20

Node = tuple[tuple[str, int], ...]
Cell = tuple[Node, ...]


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell.

    Attributes:
        normal: one entry per node, each the (operation, predecessor) pairs whose sum the node is.
            Predecessors 0 and 1 are the cell's inputs, 2.. the earlier nodes of the cell.
        normal_concat: the states that the cell concatenates, numbered like predecessors.
        reduce: the same for the cells that halve height and width.
        reduce_concat: the same for the reduction cell.
        meta: where it comes from; JSON values only, and no part of equality.

    Raises:
        ValueError: an unknown operation, a predecessor that does not exist yet, or a field of the
            wrong form; the message names the node and what is allowed.

    >>> g = Genotype(normal=[[("sep_conv_3x3", 0), ("skip_connect", 1)]], normal_concat=[2],
    ...              reduce=[[("max_pool_3x3", 0), ("max_pool_3x3", 1)]], reduce_concat=[2])
    >>> g.normal[0][0]
    ('sep_conv_3x3', 0)
    """

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for kind in ("normal", "reduce"):
            cell = _checked_cell(getattr(self, kind), kind)
            concat = _checked_concat(getattr(self, f"{kind}_concat"), len(cell), kind)
            object.__setattr__(self, kind, cell)
            object.__setattr__(self, f"{kind}_concat", concat)
        if not isinstance(self.meta, Mapping):
            raise ValueError(f"meta: expected an object, got {_shown(self.meta)}")
        object.__setattr__(self, "meta", dict(self.meta))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of this genotype."""
        return {
            "format": FORMAT,
            "normal": [[list(pair) for pair in node] for node in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[list(pair) for pair in node] for node in self.reduce],
            "reduce_concat": list(self.reduce_concat),
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, data: object) -> "Genotype":
        """The genotype that a JSON object describes; ``ValueError`` as for the constructor."""
        if not isinstance(data, Mapping):
            raise ValueError(f"expected an object, got {_shown(data)}")
        if data.get("format") != FORMAT:
            raise ValueError(f"format: expected {FORMAT!r}, got {_shown(data.get('format'))}")
        required = ("normal", "normal_concat", "reduce", "reduce_concat")
        missing = [key for key in required if key not in data]
        if missing:
            raise ValueError(f"missing key {missing[0]!r}: expected {', '.join(required)}")
        allowed = {"format", "meta", *required}
        for key in data:
            if key not in allowed:
                raise ValueError(f"unknown key {_shown(key)}: allowed are {', '.join(allowed)}")
        return cls(meta=data.get("meta", {}), **{key: data[key] for key in required})

    def to_json(self, path: str | Path) -> None:
        """Writes the genotype; a reader sees the old file or the whole new one, never a part."""
        write_text(Path(path), format_json(self.to_dict()))

    @classmethod
    def from_json(cls, path: str | Path) -> "Genotype":
        """Reads a genotype file.

        Raises:
            ValueError: no such file, not JSON, or not a genotype; the message names the file.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"expected at most {MAX_BYTES} bytes")
            return cls.from_dict(json.loads(path.read_text("utf-8")))
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
        except RecursionError:
            raise ValueError(f"{path}: nested too deeply for a genotype") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON (line {error.lineno}: {error.msg})") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def format_json(data: Mapping[str, Any]) -> str:
    """JSON with one top-level key a line, so that a cell's nodes stay on one line each."""
    body = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
    return "{\n" + body + "\n}\n"


def _checked_cell(cell: object, kind: str) -> Cell:
    nodes = _sequence(cell, kind, "a list of nodes")
    if not 1 <= len(nodes) <= MAX_NODES:
        raise ValueError(f"{kind}: expected 1 to {MAX_NODES} nodes, got {len(nodes)}")
    return tuple(_checked_node(node, f"{kind}[{i}]", i) for i, node in enumerate(nodes))


def _checked_node(node: object, place: str, index: int) -> Node:
    pairs = _sequence(node, place, "a list of [operation, predecessor]")
    if not 1 <= len(pairs) <= MAX_EDGES_PER_NODE:
        raise ValueError(f"{place}: expected 1 to {MAX_EDGES_PER_NODE} edges, got {len(pairs)}")
    checked = []
    for j, item in enumerate(pairs):
        where = f"{place}[{j}]"
        pair = _sequence(item, where, "[operation, predecessor]")
        if len(pair) != 2:
            raise ValueError(f"{where}: expected [operation, predecessor], got {_shown(item)}")
        operation, predecessor = pair
        try:
            get_operation(operation)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        highest = index + 1
        if type(predecessor) is not int or not 0 <= predecessor <= highest:
            raise ValueError(
                f"{where}: expected a predecessor from 0 to {highest}, got {_shown(predecessor)}"
            )
        checked.append((operation, predecessor))
    return tuple(checked)


def _checked_concat(concat: object, nodes: int, kind: str) -> tuple[int, ...]:
    place = f"{kind}_concat"
    states = tuple(_sequence(concat, place, "a list of states"))
    valid = all(type(s) is int and 2 <= s <= nodes + 1 for s in states)
    if not states or not valid or len(set(states)) != len(states):
        raise ValueError(
            f"{place}: expected distinct states from 2 to {nodes + 1}, got {_shown(concat)}"
        )
    return states


def _sequence(value: object, place: str, wanted: str) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ValueError(f"{place}: expected {wanted}, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """A value in an error message: one line, however long or strange it is."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
