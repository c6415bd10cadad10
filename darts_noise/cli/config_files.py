"""What the config files of a command must be, and how several of them lie over each other.

The argument parser merges files key by key but takes a dictionary such as ``model.variants`` whole,
keeps the last of two equal keys, and ignores a value where a group of keys belongs.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from darts_noise.cli.named_classes import require_trusted_names, trusted
from darts_noise.cli.shipped_configs import shipped_config
from darts_noise.errors import unknown
from darts_noise.space.shown import printable, shortened, shown

GROUPS = ("model", "data", "trainer", "noise_grid")
OPTIONS = ("-c", "--config")
AS_TEXT = "config"
"""Name of a config that is given as text and not as a file."""

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_ALIASES = 20
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
"""Of a config. Deeper nesting overflows the C stack of the YAML reader, which ends the process
without a word, and a few dozen aliases of aliases can stand for more values than memory holds."""


def with_shipped(argv: list[str], kind: str) -> list[str]:
    """The arguments, with the paths of the shipped configs that they name.

    Raises:
        ValueError: a name that is neither a file nor a shipped config.
    """
    argv = list(argv)
    for position, value in _configs(argv):
        option = "" if argv[position] == value else "--config="
        argv[position] = f"{option}{shipped_config(value, kind)}"
    return argv


def lay_over(argv: list[str]) -> list[str]:
    """The arguments, with the search variants of all config files after the last of them.

    Raises:
        ValueError: a file that is no mapping in YAML, a key that it has twice, a group that is no
            mapping, or a class of a package that is not trusted; the message names file and key.
    """
    require_small(argv)
    variants: dict[str, Any] = {}
    stating, end, packages = 0, 0, trusted(argv)
    for position, value in _configs(argv):
        end = position + 1
        name, text = _read(value)
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            _check(root, name)
            config = _loaded(text, name)
        except (yaml.YAMLError, RecursionError) as error:
            what = " ".join(str(error).split()).replace('in "<unicode string>", ', "")
            raise ValueError(f"{name}: not YAML: {printable(what)}") from None
        if not isinstance(root, yaml.MappingNode):
            if name == AS_TEXT:
                continue  # the argument parser says what is wrong
            raise ValueError(f"{name}: expected a YAML file of key: value lines")
        require_trusted_names(config, name, packages)
        model = config.get("model")
        if isinstance(model, dict) and "variants" in model:
            stated = model["variants"]
            stated = {stated: None} if isinstance(stated, str) else stated
            if not isinstance(stated, dict | None):
                return argv  # the argument parser says what is wrong
            variants = {} if stated is None else variants | stated
            stating += 1
    if stating < 2:
        return argv
    return [*argv[:end], f"--model.variants={json.dumps(variants)}", *argv[end:]]


def require_small(argv: list[str]) -> None:
    """Refuses configs that no person has written, before anything reads them whole.

    Raises:
        ValueError: one that is too large, nested too deeply or full of aliases; it is named.
    """
    for _, value in _configs(argv):
        name, text = _read(value)
        if len(text) > MAX_BYTES:
            raise ValueError(f"{name}: expected a config of at most {MAX_BYTES} bytes")
        depth = aliases = 0
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                aliases += isinstance(event, yaml.AliasEvent)
                _require_plain(event, name)
                if depth > MAX_DEPTH or aliases > MAX_ALIASES:
                    raise ValueError(
                        f"{name}: expected a config nested at most {MAX_DEPTH} levels "
                        f"deep, with at most {MAX_ALIASES} aliases"
                    )
        except yaml.YAMLError:
            continue  # the argument parser says what is wrong


def _configs(argv: list[str]) -> list[tuple[int, str]]:
    """Each config of the arguments, with the place of its last word."""
    found = []
    for i, argument in enumerate(argv):
        if argument in OPTIONS and i + 1 < len(argv):
            found.append((i + 1, argv[i + 1]))
        elif argument.startswith("--config="):
            found.append((i, argument.partition("=")[2]))
    return found


def _read(value: str) -> tuple[str, str]:
    """Name and text of a config, which may also be given as the text itself."""
    try:
        with Path(value).open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a device states no size
    except (OSError, ValueError):
        return AS_TEXT, value
    try:
        return value, content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{value}: expected UTF-8 text") from None


def _loaded(text: str, name: str) -> Any:
    """The content, as the argument parser will read it."""
    try:
        return get_loader("yaml")(text)
    except ValueError as error:  # a date or a number that is none
        raise ValueError(f"{name}: expected plain values: {shown(str(error))}") from None


def _check(root: yaml.Node | None, name: str) -> None:
    if not isinstance(root, yaml.MappingNode):
        return
    for key, value in root.value:
        if key.value in GROUPS and not isinstance(value, yaml.MappingNode) and not _empty(value):
            raise ValueError(
                f"{name}: {key.value}: expected lines of key: value below it, got {_shown(value)}"
            )
        if key.value not in GROUPS and isinstance(value, yaml.MappingNode) and not value.value:
            # The argument parser overlooks what has no value below it.
            raise ValueError(f"{name}: {unknown('config key', shortened(key.value), GROUPS)}")
    _refuse_twice(root, name, "", set())


def _refuse_twice(node: yaml.Node, name: str, place: str, seen: set[int]) -> None:
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
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"{name}: expected a word before the colon of line {line}")
        here = f"{place}{key.value}"
        if here in lines:
            raise ValueError(
                f"{name}: {_key(here)} is there twice, in lines {lines[here]} and {line}; keep one"
            )
        lines[here] = line
        _refuse_twice(value, name, f"{here}.", seen)


def _require_plain(event: yaml.Event, name: str) -> None:
    """Refuses YAML's tags, which ask for objects, but for those of plain values."""
    tag = getattr(event, "tag", None)
    if tag not in (None, "!", *TAGS):
        line = event.start_mark.line + 1 if event.start_mark else 1
        raise ValueError(f"{name}: expected plain values, got the tag {shown(tag)} in line {line}")


def _key(text: str) -> str:
    """A key as it is where that is short and can be printed."""
    return text if text.isprintable() and shortened(text) == text else shown(text)


def _shown(node: yaml.Node) -> str:
    return shown(node.value) if isinstance(node, yaml.ScalarNode) else "a list"


def _empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
