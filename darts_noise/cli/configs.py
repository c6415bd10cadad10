"""Config files: every file of settings is read here, whatever option names it.

A config is a YAML file of plain values. It never runs code: YAML tags are refused here, and only
`darts_noise.runs.trainer` makes the classes that a config names for the Trainer, if their package
is trusted. Shipped configs are in ``darts_noise/configs`` (in a checkout a link to ``configs``).
Their names have no suffix: ``mnist``, ``variants/gdas``.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from darts_noise.errors import SettingError, about
from darts_noise.shown import printable, shortened, shown
from darts_noise.space.json_file import read_text

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAME = re.compile(r"[\w-]+(/[\w-]+)?")
MERGED = ("model", "data", "trainer", "noise_grid", "model.variants")
"""Groups of keys. A later config replaces single keys in them, but other values as a whole."""
OF_A_STUDY = ("search", "train", "converged", "sample")
"""The same for a study, where ``search`` and ``train`` contain such groups."""

MAX_DEPTH = 32
MAX_ALIASES = 20
"""Limits of a config. Deeper nesting overflows the C stack of the YAML reader and ends the process
without a message. A few dozen aliases of aliases can expand to more values than memory holds."""
WORDS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
"""Tags that a key may have."""
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


def find_config(named: str, kind: str) -> Path:
    """Return the path of a config: a file of the user or, if there is none, a shipped config.

    Args:
        named: a path or a name.
        kind: ``search``, ``train`` or ``study``: the names of these configs need no folder.

    Raises:
        SettingError: neither a file nor a shipped config has this name.

    >>> find_config("search/mnist", "train") == find_config("mnist", "search")
    True
    """
    path, is_name = Path(named), NAME.fullmatch(named)
    if path.is_file() or (path.exists() and not is_name):  # also a pipe
        return path
    for path in (CONFIGS / kind / f"{named}.yaml", CONFIGS / f"{named}.yaml"):
        if is_name and path.is_file():
            return path
    valid = list_configs(kind)
    problem = f"expected a YAML file or one of {', '.join(valid)}, got {named!r}"
    if close := difflib.get_close_matches(named.lower().removesuffix(".yaml"), valid, 1):
        problem += f": did you mean {close[0]!r}?"
    raise SettingError("config", problem)


def list_configs(kind: str) -> list[str]:
    """Return the names of the shipped configs of a kind. A search also has presets."""
    presets = ("variants", "penalties", "strategies") if kind == "search" else ()
    return [path.stem for path in sorted((CONFIGS / kind).glob("*.yaml"))] + [
        f"{folder}/{path.stem}"
        for folder in presets
        for path in sorted((CONFIGS / folder).glob("*.yaml"))
    ]


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config file.

    Raises:
        SettingError: the file cannot be read, is not a YAML mapping of plain values, or has a key
            twice. The message names the file.
    """
    name = str(path)
    with about("config"):
        text = read_text(path)
    try:
        _require_small(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        what = " ".join(str(error).split()).replace('in "<unicode string>", ', "")
        raise SettingError(name, f"not YAML: {printable(what)}") from None
    if not isinstance(root, yaml.MappingNode):
        raise SettingError(name, "expected a YAML file of key: value lines")
    _refuse_twice(root, name, "", set())
    try:
        content: Any = get_loader("yaml")(text)
    except ValueError as error:  # an invalid date or number
        raise SettingError(name, f"expected plain values: {shown(str(error))}") from None
    if not isinstance(content, dict):  # jsonargparse takes a single "key:" for a text
        content = yaml.safe_load(text)
    _require_groups(content, name, "")
    return dict(content)


def _is_group(key: str) -> bool:
    return key in OF_A_STUDY or key.removeprefix("search.").removeprefix("train.") in MERGED


def _require_groups(content: Mapping[str, Any], name: str, place: str) -> None:
    """Raise a `SettingError` for the first group that is not a mapping."""
    for part, value in content.items():
        key = f"{place}{part}"
        if not _is_group(key) or value is None:
            continue
        if isinstance(value, Mapping):
            _require_groups(value, name, f"{key}.")
        elif not (key.endswith("variants") and isinstance(value, str)):
            got = shown(value) if isinstance(value, str | int | float) else "a list"
            raise SettingError(name, f"{key}: expected lines of key: value below it, got {got}")


def merge_configs(configs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of all configs; a later one wins key by key.

    >>> merge_configs([{"model": {"nodes": 2, "stem": "small"}}, {"model": {"nodes": 4}}])
    {'model': {'nodes': 4, 'stem': 'small'}}
    """
    merged: dict[str, Any] = {}
    for config in configs:
        _merge(merged, config, "")
    return merged


def _merge(into: dict[str, Any], config: Mapping[str, Any], group: str) -> None:
    for name, value in config.items():
        key = f"{group}{name}"
        if key.endswith("model.variants") and isinstance(value, str):
            value = {value: None}  # the name of one variant
        if not _is_group(key) or (value is None and key.endswith("model.variants")):
            into[name] = value
        elif isinstance(value, Mapping):
            below = into.get(name)
            into[name] = below if isinstance(below, dict) else {}
            _merge(into[name], value, f"{key}.")
        else:
            into.setdefault(name, {})


def _require_small(text: str, name: str) -> None:
    """Refuse YAML tags, deep nesting and many aliases before the file is read as a whole."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", *TAGS):  # a tag asks for an object
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise SettingError(
                name, f"expected plain values, got the tag {shown(tag)} in line {line}"
            )
        if depth > MAX_DEPTH or aliases > MAX_ALIASES:
            raise SettingError(
                name,
                f"expected a config nested at most {MAX_DEPTH} levels deep, with at most "
                f"{MAX_ALIASES} aliases",
            )


def _refuse_twice(node: yaml.Node, name: str, place: str, seen: set[int]) -> None:
    """Raise a `SettingError` for a key that a mapping has twice, or that is not a word."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))  # an alias may lead back to its own anchor
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, name, place, seen)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in WORDS:
            raise SettingError(name, f"expected a word before the colon of line {line}")
        here = f"{place}{key.value}"
        if here in lines:
            plain = here.isprintable() and shortened(here) == here
            key_name = here if plain else shown(here)
            raise SettingError(
                name, f"{key_name} appears twice, in lines {lines[here]} and {line}; keep one"
            )
        lines[here] = line
        _refuse_twice(value, name, f"{here}.", seen)
