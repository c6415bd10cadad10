"""The genotype: the discrete cells that a search finds, as JSON data that runs no code.

Reading a genotype checks every field against the registry of operations. An invalid field is a
``ValueError`` of one line that names the place. If you change the layout, raise the number in
`FORMAT` and add a reader for the old layout here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.errors import SettingError
from darts_noise.shown import shown
from darts_noise.space.genotype_text import genotype_text, parse_genotype
from darts_noise.space.json_file import MAX_BYTES, read_json, shown_path
from darts_noise.space.macro import MACRO, Value, check_macro
from darts_noise.space.operations import kind_of

FORMAT = "darts_noise.genotype/1"
MAX_NODES = 64
MAX_EDGES_PER_NODE = 16
MAX_META_BYTES = MAX_BYTES // 2
MAX_META_DEPTH = 16
MAX_INTEGER_BITS = 64  # the largest size that every JSON reader supports

Node = tuple[tuple[str, int], ...]
Cell = tuple[Node, ...]


@dataclass(frozen=True)
class Genotype:
    """A normal cell and a reduction cell.

    Attributes:
        normal: one entry per node: a tuple of (operation, predecessor) pairs. The node is the sum
            of these operations. Predecessors 0 and 1 are the cell's inputs; 2, 3, ... are the
            earlier nodes of the cell.
        normal_concat: the states that the cell concatenates, numbered like predecessors.
        reduce: nodes of the reduction cell, which halves height and width; as `normal`.
        reduce_concat: states that the reduction cell concatenates; as `normal_concat`.
        macro: choices for the whole network; see `darts_noise.space.macro`. A missing choice has
            its DARTS value.
        meta: the origin of the genotype, JSON values only. It is copied, and equality ignores it.

    Raises:
        ValueError: an operation is unknown, a predecessor does not exist yet, or a field has the
            wrong form. The message names the node and the allowed values.

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
    macro: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for kind in ("normal", "reduce"):
            cell = _checked_cell(getattr(self, kind), kind)
            concat = _checked_concat(getattr(self, f"{kind}_concat"), len(cell), kind)
            object.__setattr__(self, kind, cell)
            object.__setattr__(self, f"{kind}_concat", concat)
        if not isinstance(self.macro, Mapping):
            raise SettingError("macro", f"expected an object, got {shown(self.macro)}")
        macro = dict(check_macro(name, value) for name, value in self.macro.items())
        object.__setattr__(self, "macro", macro)
        if not isinstance(self.meta, Mapping):
            raise ValueError(f"meta: expected an object, got {shown(self.meta)}")
        meta = _checked_json(self.meta, "meta")
        if (size := len(json.dumps(meta))) > MAX_META_BYTES:
            raise ValueError(f"meta: expected at most {MAX_META_BYTES} bytes of JSON, got {size}")
        object.__setattr__(self, "meta", meta)

    def choice(self, name: str) -> Value:
        """Return the value of a macro choice. If it is not in `macro`, return the DARTS value.

        >>> from darts_noise import load_genotype
        >>> load_genotype("darts_v2").choice("normalisation")
        'batch'
        """
        return self.macro.get(name, MACRO[name][0])

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as a JSON object."""
        return {
            "format": FORMAT,
            "normal": [[list(pair) for pair in node] for node in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[list(pair) for pair in node] for node in self.reduce],
            "reduce_concat": list(self.reduce_concat),
            **({"macro": dict(self.macro)} if self.macro else {}),
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, data: object) -> "Genotype":
        """Make a genotype from a JSON object. Raise ``ValueError`` as the constructor does."""
        if not isinstance(data, Mapping):
            raise ValueError(f"expected an object, got {shown(data)}")
        version = data.get("format")
        if not isinstance(version, str) or version != FORMAT:
            raise ValueError(f"format: expected {FORMAT!r}, got {shown(version)}")
        required = ("normal", "normal_concat", "reduce", "reduce_concat")
        missing = [key for key in required if key not in data]
        if missing:
            raise ValueError(f"missing key {missing[0]!r}: expected {', '.join(required)}")
        optional = ("macro", "meta")
        allowed = ("format", *required, *optional)
        for key in data:
            if key not in allowed:
                raise ValueError(f"unknown key {shown(key)}: allowed are {', '.join(allowed)}")
        given = [key for key in optional if key in data]
        return cls(**{key: data[key] for key in (*required, *given)})

    def to_json(self, path: str | Path) -> None:
        """Write the genotype in one step: a reader sees the old file or the whole new file."""
        write_text(Path(path), format_json(self.to_dict()))

    @classmethod
    def from_json(cls, path: str | Path) -> "Genotype":
        """Read a genotype file.

        Raises:
            ValueError: the file is missing, not JSON or not a genotype. The message names the file.
        """
        path = Path(path)
        data = read_json(path)
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{shown_path(path)}: {error}") from None

    def to_text(self, style: str = "flat") -> str:
        """Write the cells as papers and logs print them. `from_text` reads the text.

        Args:
            style: ``flat`` (default): ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)`` as in
                the code of DARTS, with two edges per node. ``nested``: one list per node.
                ``triples``: (operation, predecessor, node), with nodes counted from 2.
                ``nas_bench_201``: ``|nor_conv_3x3~0|+...``.

        Raises:
            ValueError: the style is unknown, or it cannot express this genotype. No style can
                express macro choices; use `to_json`.

        >>> from darts_noise import load_genotype
        >>> load_genotype("darts_v2").to_text()[:57]
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)"
        """
        if self.macro:
            raise ValueError("expected no macro choices, which a text cannot express; use to_json")
        cells = {"normal": self.normal, "reduce": self.reduce}
        concats = {"normal": self.normal_concat, "reduce": self.reduce_concat}
        return genotype_text(cells, concats, style)

    @classmethod
    def from_text(cls, text: str) -> "Genotype":
        """Read the last genotype in a text that a paper or a log prints. No code is run.

        The cell of NAS-Bench-201 (``|nor_conv_3x3~0|+...``) becomes both cells: its input is the
        output of the last cell, and its output is its last node.

        Raises:
            ValueError: there is no genotype in the text, or it is invalid.
        """
        return cls(**parse_genotype(text))


def format_json(data: Mapping[str, Any]) -> str:
    """Format JSON with one top-level key per line."""
    body = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
    return "{\n" + body + "\n}\n"


def _checked_cell(cell: object, kind: str) -> Cell:
    nodes = _list(cell, kind, "a list of nodes")
    if not 1 <= len(nodes) <= MAX_NODES:
        raise ValueError(f"{kind}: expected 1 to {MAX_NODES} nodes, got {len(nodes)}")
    return tuple(_checked_node(node, f"{kind}[{i}]", i) for i, node in enumerate(nodes))


def _checked_node(node: object, place: str, index: int) -> Node:
    pairs = _list(node, place, "a list of [operation, predecessor]")
    if not 1 <= len(pairs) <= MAX_EDGES_PER_NODE:
        raise ValueError(f"{place}: expected 1 to {MAX_EDGES_PER_NODE} edges, got {len(pairs)}")
    checked = []
    for j, item in enumerate(pairs):
        where = f"{place}[{j}]"
        pair = _list(item, where, "[operation, predecessor]")
        if len(pair) != 2:
            raise ValueError(f"{where}: expected [operation, predecessor], got {shown(item)}")
        operation, predecessor = pair
        try:
            kind_of(operation)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        highest = index + 1
        if type(predecessor) is not int or not 0 <= predecessor <= highest:
            raise ValueError(
                f"{where}: expected a predecessor from 0 to {highest}, got {shown(predecessor)}"
            )
        checked.append((str.__str__(operation), predecessor))  # plain, also from a subclass
    return tuple(checked)


def _checked_concat(concat: object, nodes: int, kind: str) -> tuple[int, ...]:
    place = f"{kind}_concat"
    states = _list(concat, place, "a list of states")
    # Check the length first, so that a list of a million states is not scanned.
    valid = 1 <= len(states) <= nodes and all(
        type(s) is int and 2 <= s <= nodes + 1 for s in states
    )
    if not valid or len(set(states)) != len(states):
        raise ValueError(
            f"{place}: expected distinct states from 2 to {nodes + 1}, got {shown(concat)}"
        )
    return tuple(states)


def _list(value: object, place: str, wanted: str) -> list[Any] | tuple[Any, ...]:
    # Only lists and tuples: a string is a sequence too, and a range may be larger than memory.
    if not isinstance(value, list | tuple):
        raise ValueError(f"{place}: expected {wanted}, got {shown(value)}")
    return value


def _checked_json(value: object, place: str, depth: int = 0) -> Any:
    """Copy a JSON value and convert tuples to lists. Raise ``ValueError`` if it is not JSON."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and value.bit_length() <= MAX_INTEGER_BITS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if not isinstance(value, Mapping | list | tuple):
        raise ValueError(f"{place}: expected a JSON value, got {shown(value)}")
    if depth == MAX_META_DEPTH:
        raise ValueError(f"{place}: nested more than {MAX_META_DEPTH} levels deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{place}: expected strings as keys, got {shown(key)}")
        return {k: _checked_json(v, f"{place}[{shown(k)}]", depth + 1) for k, v in value.items()}
    return [_checked_json(v, f"{place}[{i}]", depth + 1) for i, v in enumerate(value)]
