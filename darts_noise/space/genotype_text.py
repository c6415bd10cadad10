"""Genotypes as the text that papers and training logs print.

The text is read as data: `ast` splits it into names, numbers and lists, and nothing is evaluated.
NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326) has its own form, with one input per cell.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from darts_noise.errors import unknown
from darts_noise.shown import shortened, shown

STYLES = ("flat", "nested", "triples", "nas_bench_201")
"""The forms that `genotype_text` writes; see `Genotype.to_text`."""
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
LONGEST_TEXT = 1 << 16
LONGEST_RANGE = 1 << 8

_NAMED = re.compile(r"\b\w*Genotype\w*\s*\(")
_CELL = r"\|(?:\w+~\d+\|)+"
_BENCH = re.compile(rf"{_CELL}(?:\s*\+\s*{_CELL})*")
_NUMBERS = {"int", "float", "int32", "int64", "float16", "float32", "float64", "tensor"}
"""Calls around a number, as NumPy and torch print them."""


def has_genotype(text: str) -> bool:
    """Return whether a text has a genotype in a printed form.

    >>> has_genotype("genotype = Genotype(normal=[...])"), has_genotype("darts_v2")
    (True, False)
    """
    return bool(_NAMED.search(text) or _BENCH.search(text))


def parse_genotype(text: str) -> dict[str, Any]:
    """Return the arguments of `Genotype` for the last genotype in a text.

    Raises:
        ValueError: there is no genotype, or it has a value that is not a name, a number or a list.
    """
    named, bench = list(_NAMED.finditer(text)), list(_BENCH.finditer(text))
    if not named and not bench:
        raise ValueError(f"expected Genotype(...) or |operation~0|+..., got {shown(text)}")
    if not named or (bench and bench[-1].start() > named[-1].start()):
        return _bench_cells(bench[-1][0])
    return genotype_fields(_arguments(_call(text[named[-1].start() :])))


def genotype_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Genotype` for the fields of a named tuple.

    The fields of a cell may be one flat list with two edges per node, or one list per node. An edge
    may have a third value: an integer is the state that the edge leads to; a float is a weight,
    which is left out. If `normal_concat` is None or missing, it is all nodes.

    Raises:
        ValueError: a field is missing or unknown, or a cell has another form.
    """
    for name, value in values.items():
        if name not in FIELDS and value is not None:
            raise ValueError(f"unknown field {shown(name)}: allowed are {', '.join(FIELDS)}")
    fields: dict[str, Any] = {}
    for kind in ("normal", "reduce"):
        if values.get(kind) is None:
            raise ValueError(f"missing field {kind!r}: expected {', '.join(FIELDS)}")
        nodes = _nodes(values[kind], kind)
        concat = values.get(f"{kind}_concat")
        if concat is None:
            concat = range(2, len(nodes) + 2)
        if isinstance(concat, range):  # cut, so that a huge range is an error and no huge list
            concat = list(concat[:LONGEST_RANGE])
        elif isinstance(concat, set | frozenset):
            concat = sorted(concat)
        fields |= {kind: nodes, f"{kind}_concat": concat}
    return fields


def genotype_text(
    cells: Mapping[str, Sequence[Sequence[tuple[str, int]]]],
    concats: Mapping[str, Sequence[int]],
    style: str,
) -> str:
    """Write cells in one of the `STYLES`.

    Args:
        cells: ``normal`` and ``reduce`` → nodes.
        concats: ``normal`` and ``reduce`` → the concatenated states.
        style: the form.

    Raises:
        ValueError: the style is unknown, or it cannot express these cells.
    """
    if style not in STYLES:
        raise unknown("style", shortened(style), STYLES)
    if style == "nas_bench_201":
        return _bench_text(cells, concats)
    parts = []
    for kind, nodes in cells.items():
        written: list[Any] = [list(node) for node in nodes]
        if style == "flat":
            written = [edge for i, node in enumerate(nodes) for edge in _two(node, f"{kind}[{i}]")]
        elif style == "triples":
            written = [(*edge, i) for i, node in enumerate(nodes, start=2) for edge in node]
        states = list(concats[kind])
        span = range(states[0], states[0] + len(states))
        parts.append(f"{kind}={written}, {kind}_concat={span if list(span) == states else states}")
    return f"Genotype({', '.join(parts)})"


def _call(text: str) -> str:
    """Return the text from its start to the bracket that closes the first one."""
    depth, quote = 0, ""
    for i, character in enumerate(text[:LONGEST_TEXT]):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return text[: i + 1]
    raise ValueError(f"{shown(text)}: expected a closing bracket within {LONGEST_TEXT} characters")


def _arguments(text: str) -> dict[str, Any]:
    try:
        call = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{shown(text)}: expected Genotype(normal=[...], ...)") from None
    assert isinstance(call, ast.Call)
    if len(call.args) > len(FIELDS):
        raise ValueError(f"expected at most {len(FIELDS)} values, got {len(call.args)}")
    values = dict(zip(FIELDS, map(_value, call.args), strict=False))
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise ValueError(f"expected each field once, got {shown(keyword.arg or '**')}")
        values[keyword.arg] = _value(keyword.value)
    return values


def _value(node: ast.expr) -> Any:
    """Return the plain value that an expression writes. No other expression is allowed."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Constant) and type(node.value) in (str, int, float, type(None)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if type(number) in (int, float):
            return -number
    if isinstance(node, ast.Call) and node.args:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        values = [_value(argument) for argument in node.args]
        if name in _NUMBERS and type(values[0]) in (int, float):
            return values[0]
        if name in ("list", "tuple") and isinstance(values[0], list):
            return values[0]
        if name == "range" and len(values) <= 3 and all(type(v) is int for v in values):
            if 0 in values[2:]:
                raise ValueError("range: expected a step other than 0")
            return list(range(*values)[:LONGEST_RANGE])
    raise ValueError(f"expected names, numbers and lists, got {shown(ast.unparse(node))}")


def _nodes(cell: object, kind: str) -> list[Any]:
    """Return one list of [operation, predecessor] per node."""
    if not isinstance(cell, list | tuple):
        raise ValueError(f"{kind}: expected a list, got {shown(cell)}")
    if not all(isinstance(e, list | tuple) and e and isinstance(e[0], str) for e in cell):
        return [
            [_edge(edge)[:2] for edge in node] if isinstance(node, list | tuple) else node
            for node in cell
        ]
    edges = [_edge(edge) for edge in cell]
    ends = [edge[2] for edge in edges if len(edge) == 3 and type(edge[2]) is int]
    if ends and len(ends) == len(edges):
        first = 0 if min(ends) == 0 else 2  # some number nodes from 0, some number states
        last = max(ends)
        nodes = set(ends)
        if min(nodes) != first or len(nodes) != last - first + 1:
            raise ValueError(
                f"{kind}: expected edges to each node, got edges to {shown(sorted(nodes))}"
            )
        return [[e[:2] for e in edges if e[2] == end] for end in range(first, last + 1)]
    if len(edges) % 2:
        raise ValueError(
            f"{kind}: expected two edges per node in a flat list, got {len(edges)} edges"
        )
    return [[first[:2], second[:2]] for first, second in zip(edges[::2], edges[1::2], strict=True)]


def _edge(edge: object) -> list[Any]:
    """Return an edge with plain integers, for those of NumPy."""
    if not isinstance(edge, list | tuple) or len(edge) not in (2, 3):
        raise ValueError(f"expected (operation, predecessor), got {shown(edge)}")
    return [int(v) if hasattr(v, "__index__") else v for v in edge]


def _two(node: Sequence[tuple[str, int]], place: str) -> Sequence[tuple[str, int]]:
    if len(node) != 2:
        raise ValueError(
            f"flat: expected two edges per node, got {len(node)} in {place}; use 'nested'"
        )
    return node


def _bench_cells(text: str) -> dict[str, Any]:
    """Read NAS-Bench-201's form: its input is the last cell's output, its output the last node."""
    nodes = []
    for node in text.split("+"):
        edges = [edge.split("~") for edge in node.strip().strip("|").split("|")]
        nodes.append([[operation, int(source[:9]) + 1] for operation, source in edges])
    concat = [len(nodes) + 1]
    return {"normal": nodes, "normal_concat": concat, "reduce": nodes, "reduce_concat": concat}


def _bench_text(
    cells: Mapping[str, Sequence[Sequence[tuple[str, int]]]], concats: Mapping[str, Sequence[int]]
) -> str:
    nodes, last = cells["normal"], (len(cells["normal"]) + 1,)
    if (
        cells["reduce"] != nodes
        or any(tuple(concat) != last for concat in concats.values())
        or any(source == 0 for node in nodes for _, source in node)
    ):
        raise ValueError(
            "nas_bench_201: expected two equal cells that use input 1 only and return the last node"
        )
    return "+".join(f"|{'|'.join(f'{op}~{source - 1}' for op, source in node)}|" for node in nodes)
