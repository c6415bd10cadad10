"""The parser of every command: its options are the fields of the settings classes.

This module imports neither torch nor Lightning, so ``--help`` and the answer to a typo are fast.
jsonargparse reads the values by the types of the fields. This module adds what jsonargparse lacks:
several configs where later ones win, ``--help`` with the defaults of this very command line, and
errors in one line that name the nearest valid key.
"""

import argparse
import difflib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader
from jsonargparse.typing import register_type

from darts_noise.cli.configs import merge_configs, read_config
from darts_noise.cli.program import called, fail
from darts_noise.configured import accepts_mapping
from darts_noise.errors import SettingError, reported, within

WIDTH, MARGIN = 100, 31
"""Columns of ``--help`` on every terminal, and columns before the texts."""


COMMAND_LINE_ONLY = ("resume", "trust", "plugins")
"""Settings that no file may state: the run to resume, and whose code may run."""
T = TypeVar("T")


class UsageError(ValueError):
    """An error of the command line, in one line."""


class Plain:
    """The type of a value that is read as plain YAML.

    It replaces ``Any``: jsonargparse would import every class that a value of type ``Any`` names.
    """


def _plain_value(text: str) -> Any:
    try:
        return get_loader("yaml")(text)
    except yaml.YAMLError:
        return text


register_type(
    Plain,
    serializer=lambda value: value,
    deserializer=_plain_value,
    type_check=lambda value, kind: not isinstance(value, str),
)


@dataclass(frozen=True)
class Option:
    """One option of a command, which is also a key of its configs.

    Attributes:
        key: the key, such as ``model.channels``.
        type: type of its values.
        default: the value if neither a config nor the command line states it.
        text: its text in ``--help``.
        hidden: whether ``--help`` leaves it out.
        short: a second name on the command line.
    """

    key: str
    type: Any
    default: Any
    text: str
    hidden: bool = False
    short: str | None = None


@dataclass(frozen=True)
class Command:
    """A command with settings from configs and options.

    Attributes:
        name: ``search``, ``train`` or ``study``.
        description: its purpose, in a sentence.
        groups: prefix of the keys → settings class whose fields they are.
        options: the options that belong to no settings class.
        elsewhere: names of settings of another command → that command, for error messages.
        hidden: keys that are no options because another option sets them. A config may have them.
        more: the last lines of ``--help``.
        brief: prefixes of the keys that ``--help`` leaves out.
        short: key → its second name on the command line.
        defaults: key → its default, where that is not the default of the settings class.
        configs: the command whose shipped configs it reads. Empty: itself.
        usage: its arguments, for ``--help``. A command without ``--config`` takes one config.
    """

    name: str
    description: str
    groups: Mapping[str, type]
    options: Sequence[Option] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    hidden: Sequence[str] = ()
    more: Sequence[str] = ()
    brief: Sequence[str] = ()
    short: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    configs: str = ""
    usage: str = "[--config FILE] [--KEY VALUE ...]"

    def all_options(self) -> list[Option]:
        """Return the options in the order of ``--help``."""
        found = [*self.options, *(o for g, cls in self.groups.items() for o in options_of(cls, g))]
        hidden, brief = set(self.hidden), tuple(self.brief)
        return [
            replace(
                o,
                hidden=o.hidden or o.key in hidden or o.key.startswith(brief),
                short=self.short.get(o.key),
                default=self.defaults.get(o.key, o.default),
            )
            for o in found
        ]


@dataclass(frozen=True)
class Given:
    """The settings that a command line and its configs give.

    Attributes:
        values: every key of the command → its value.
        configs: the config files, in their order.
        stated: the keys that the options state, with their values.
    """

    values: Mapping[str, Any]
    configs: Sequence[Path]
    stated: Mapping[str, Any]

    def settings(self, cls: type[T], group: str = "") -> T:
        """Return the settings class of a group.

        Raises:
            SettingError: a value out of range.
        """
        hints = get_type_hints(cls)
        made = {}
        for f in fields(cls):  # type: ignore[arg-type]
            key = f"{group}{f.name}"
            kind: Any = hints[f.name]
            below = isinstance(kind, type) and is_dataclass(kind)
            made[f.name] = self.settings(kind, f"{key}.") if below else self.values[key]
        with within(group.removesuffix(".")) if group else nullcontext():
            return cls(**made)

    def nested(self) -> dict[str, Any]:
        """Return the values as a nested config, without the values that no file may state."""
        config = Namespace()  # type: ignore[no-untyped-call]
        for key, value in self.values.items():
            if key not in COMMAND_LINE_ONLY:
                config[key] = list(value) if isinstance(value, tuple) else value
        return config.as_dict()


def options_of(cls: type[Any], group: str) -> Iterator[Option]:
    """Yield an option for each field of a settings class and of the classes nested in it."""
    hints = get_type_hints(cls)
    texts = {
        p.arg_name: p.description or "" for p in docstring_parser.parse(cls.__doc__ or "").params
    }
    for f in fields(cls):
        key = f"{group}{f.name}"
        if is_dataclass(hints[f.name]):
            yield from options_of(hints[f.name], f"{key}.")
            continue
        default = f.default if f.default_factory is MISSING else f.default_factory()
        kind, hidden = hints[f.name], f.name not in texts
        if any(map(is_dataclass, get_args(kind))):  # the class checks the content
            kind = dict[str, Any] | None
            default = vars(default) if is_dataclass(default) else default
        yield Option(key, kind, default, " ".join(texts.get(f.name, "").split()), hidden)


FRONT = (
    Option("help", bool, None, "this text"),
    Option(
        "config",
        str,
        None,
        "YAML file or name of a shipped config; may be repeated, later ones win key by key",
    ),
    Option("print_config", bool, None, "print all keys with their values and exit"),
    Option(
        "plugins",
        str,
        None,
        "Python file to run first, to register operations, spaces and so on",
    ),
)
"""The options that `split` takes, for ``--help``."""


class _Front(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def split(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options that are read before all others, and the other arguments.

    The first result has ``config`` and ``plugins`` (lists), ``resume`` (None without the option,
    empty if it names no run), ``help`` and ``print_config``.

    >>> front, rest = split(["-cmnist", "--seed", "1", "--config=gdas"])
    >>> front.config, rest
    (['mnist', 'gdas'], ['--seed', '1'])
    """
    front = _Front(add_help=False, allow_abbrev=False)
    front.add_argument("-h", "--help", action="store_true")
    front.add_argument("-c", "--config", action="append", default=[])
    front.add_argument("--plugins", action="append", default=[])
    front.add_argument("--print_config", action="store_true")
    front.add_argument("--resume", nargs="?", const="")
    return front.parse_known_args(list(argv))


class Parser:
    """A parser of the command lines of one command.

    Args:
        command: which one.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.options = {option.key: option for option in command.all_options()}
        self._parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
        for option in self.options.values():
            self._parser.add_argument(
                *[f"--{name}" for name in (option.key, option.short) if name],
                type=_without_any(option.type),
                default=option.default,
                help=option.text,
            )

    def parse(
        self,
        argv: Sequence[str],
        configs: Sequence[Path] = (),
        default: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda stated: {},
        source: Path | None = None,
    ) -> Given:
        """Return the settings of the options and the configs. An option wins over every config.

        Args:
            argv: the options, without the options of `split`.
            configs: the config files. A later one wins key by key.
            default: returns the content of the config to use if `configs` is empty, given the keys
                that the options state.
            source: the file of that content, for error messages.

        Raises:
            UsageError: a key or a value that the command does not accept.
            SettingError: a config that cannot be read.
        """
        stated = self.stated(argv)
        contents = list(map(read_config, configs))
        content = merge_configs(contents)
        for key in COMMAND_LINE_ONLY:
            if key in content:
                raise SettingError(key, "expected on the command line, not in a config file")
        for path, each in zip(configs, contents, strict=True):
            self._require_known(each, path)
        if not configs:
            content = dict(default(stated))
            self._require_known(content, source)
        with self._readable():
            base = self._parser.parse_object(content)
            values = self._parser.parse_args(list(argv), namespace=base)
        return Given(dict(_flat(values, self.options)), list(configs), stated)

    def stated(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the keys that the options state, with their values.

        Raises:
            UsageError: a key or a value that the command does not accept.
        """
        self._require_whole_keys(argv)
        with self._readable():
            found = self._parser.parse_args(list(argv), defaults=False)
        stated = dict(_flat(found, self.options))
        for key in self.command.hidden:
            if key in stated:
                name = key.rpartition(".")[2]
                hint = f"did you mean '--{name}'?" if name in self.options else "the study sets it"
                raise UsageError(f"unknown option '--{key}': {hint}")
        return stated

    def help(self, given: Given) -> str:
        """Return the text of ``--help``: a line for each option, with its value in this command."""
        groups: dict[str, list[str]] = {}
        front = {option.key: option for option in FRONT}
        for option in {**front, **self.options, **front}.values():
            if option.hidden or (option.key == "config" and "--config" not in self.command.usage):
                continue
            default = given.values.get(option.key)
            default = [*default] if isinstance(default, tuple) and default else default
            text = option.text.rstrip(".") + (f" (also --{option.short})" if option.short else "")
            text += "" if default in (None, ()) else f" [{default}]"
            wrapped = textwrap.wrap(text, WIDTH - MARGIN, break_on_hyphens=False)
            entry = f"\n{'':{MARGIN}}".join(wrapped)
            name = option.key.rpartition(".")[0] or "run"
            groups.setdefault(name, []).append(f"  --{option.key:<{MARGIN - 5}} {entry}")
        lines = [f"usage: {called()} {self.command.usage}", ""]
        lines.append(self.command.description)
        for name, options in groups.items():
            lines += ["", f"{name}:", *options]
        return "\n".join([*lines, "", *self.command.more]) + "\n"

    def _require_known(self, content: Mapping[str, Any], source: Path | None) -> None:
        """Raise a `UsageError` for the first unknown key of a config.

        jsonargparse overlooks an unknown group that is empty.
        """
        for key in self._unknown(content, ""):
            where = f"{source}: " if source else ""
            raise UsageError(f"{where}unknown config key {key!r}{self._hint(key)}")

    def _require_whole_keys(self, argv: Sequence[str]) -> None:
        """Raise a `UsageError` for an option inside the value of another: ``--model.macro.gain``.

        jsonargparse reads the value of such an option as text, or shows its own classes in errors.
        """
        names = {name: o for o in self.options.values() for name in (o.key, o.short) if name}
        for argument, following in zip(argv, [*argv[1:], "VALUE"], strict=False):
            given, equals, value = argument.removeprefix("--").partition("=")
            if given != argument and not equals and " " in given:
                problem = "expected its value as a word of its own, outside the quotation marks"
                raise UsageError(f"unknown option {argument!r}: {problem}")
            owner = next((name for name in names if given.startswith(f"{name}.")), None)
            if owner is None or given == argument or given in names:
                continue
            if not accepts_mapping(names[owner].type):
                raise UsageError(f"unknown option '--{given}': did you mean '--{owner}'?")
            content = value if equals else following
            for inner in reversed(given.removeprefix(f"{owner}.").split(".")):
                content = f"{{{inner}: {content}}}"
            raise UsageError(f"unknown option '--{given}': expected --{owner} '{content}'")

    def _unknown(self, content: Mapping[str, Any], place: str) -> Iterator[str]:
        for name, value in content.items():
            key = f"{place}{name}"
            if key not in self.options:
                if any(option.startswith(f"{key}.") for option in self.options):
                    yield from self._unknown(value or {}, f"{key}.")
                else:
                    yield key

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Return an error of jsonargparse as one line in this project's words."""
        try:
            yield
        except ArgumentError as error:
            raise UsageError(self._words(" ".join(str(error).split()))) from None

    def _words(self, text: str) -> str:
        if match := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
            option = match[1].split("=")[0]
            if not option.startswith("-"):
                return f"unexpected argument {option!r}: options look like --data.name mnist"
            return f"unknown option {option!r}{self._hint(option.lstrip('-'), '--')}"
        if problem := reported(text):
            return str(problem)
        if match := re.match(r"argument --([^\s/]+)\S*: (.*)", text):
            return f"{match[1]}: {match[2]}"
        return text

    def _hint(self, key: str, prefix: str = "") -> str:
        """Return a hint: the command that has this key, or the nearest valid key."""
        if any(valid.startswith(f"{key}.") for valid in self.options):
            return f": expected {prefix}{key}.KEY (--help lists the options)"
        name = key.removeprefix("model.")
        if key not in self.options and name in self.command.elsewhere:
            return f": it is a key of {self.command.elsewhere[name]}"
        groups = {k.partition(".")[0] for k in self.options if "." in k and "." not in key}
        short = [o.short for o in self.options.values() if o.short] if prefix else []
        close = difflib.get_close_matches(key, [*groups, *self.options, *short], 1, 0.6)
        if not close:  # a bare name, such as "channels" for "model.channels"
            tails = {k.rsplit(".", 1)[-1]: k for k in self.options}
            near = difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, 1, 0.8)
            close = [tails[tail] for tail in near]
        hint = f": did you mean '{prefix}{close[0]}'?" if close else ""
        return f"{hint} (--help lists the options)"


def _without_any(kind: Any) -> Any:
    """Return a type with `Plain` in place of ``Any``.

    >>> _without_any(dict[str, Any] | str) == dict[str, Plain] | str
    True
    """
    if kind is Any:
        return Plain
    origin, arguments = get_origin(kind), get_args(kind)
    if not arguments or origin is Literal:
        return kind
    origin = Union if origin is UnionType else origin
    return origin[tuple(map(_without_any, arguments))]


def _flat(values: Namespace, options: Mapping[str, Option]) -> Iterator[tuple[str, Any]]:
    """Yield each given key with its value. A nested mapping is a dictionary."""
    for key in options:
        if key in values:
            value = values[key]
            yield key, value.as_dict() if isinstance(value, Namespace) else value


class Arguments(argparse.ArgumentParser):
    """A parser of a few arguments that reports errors in one line."""

    def __init__(self, description: str) -> None:
        super().__init__(called(), description=description, allow_abbrev=False)
        self.add_argument(
            "--plugins",
            action="append",
            default=[],
            metavar="FILE",
            help="Python file to run first, as with search.py; may be repeated",
        )

    def error(self, message: str) -> NoReturn:
        if match := re.match(r"unrecognized arguments: (--?\w\S*)", message):
            given = match[1].split("=")[0]
            close = difflib.get_close_matches(given, self._option_string_actions, 1, 0.6)
            hint = f": did you mean '{close[0]}'?" if close else ""
            message = f"unknown option '{given}'{hint} (--help lists the options)"
        fail(message)


def field_names(cls: type) -> list[str]:
    """Return the names of the fields of a class of settings."""
    return [f.name for f in fields(cls)]
