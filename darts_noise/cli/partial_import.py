"""Import single functions and classes of a module, without the other imports of that module.

Most checks of settings are in modules that import torch, which takes seconds, and few checks need
it. `checked` runs such a check before torch is imported: it makes the function from the source of
its module, and so on with the names that the function uses. Of a class it makes the constructor,
the methods `CHECKS` and the plain attributes. A module without torch is imported as a whole. Names
from other packages stay undefined. If a check needs one of them, its result is ignored here, and
the whole module gives it later.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]
ROOT = Path(__file__).resolve().parents[1]
CHECKS = ("__init__", "__post_init__", "check")
"""The methods of a class that are made."""
REGISTERED = ("data", "examine", "noise", "search", "train")
"""The folders with registered classes and functions. Operations are registered by their names."""
Imports = ast.Import | ast.ImportFrom
Definition = ast.ClassDef | ast.FunctionDef


class UndefinedError(Exception):
    """A name is not made, because it needs another package."""


def checked(function: str, *arguments: Any) -> Any:
    """Run a check of this package and return its result. Return None if it needs torch.

    Args:
        function: module and name of the check, without the name of this package.
        arguments: arguments of the check.

    Raises:
        ValueError: the error of the check.

    >>> checked("train.noisy_labels.make_selection", "small_los")
    Traceback (most recent call last):
    darts_noise.errors.SettingError: noisy_labels: unknown method 'small_los': did you mean ...
    """
    module, _, name = f"{PACKAGE}.{function}".rpartition(".")
    if "torch" in sys.modules:
        return getattr(importlib.import_module(module), name)(*arguments)
    if _MODULES.failed:
        return None
    try:
        return _MODULES[module].get(name)(*arguments)
    except ValueError as error:
        if all(isinstance(one, ValueError) for one in _chain(error)):
            raise
    except Exception:  # of an undefined name
        _MODULES.failed = True  # a registry may lack a class now
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class _Modules(dict[str, "_Module"]):
    """The modules by name, each read when it is first needed, and the registries filled."""

    def __init__(self) -> None:
        self.light: dict[str, bool] = {}
        self.filled = self.failed = False

    def __missing__(self, name: str) -> "_Module":
        self[name] = _Module(_path(name), self)
        return self[name]

    def fill(self) -> None:
        """Make all registered classes and functions of this package, at the first call."""
        if self.filled:
            return
        self.filled = True
        for file in (file for folder in REGISTERED for file in (ROOT / folder).rglob("*.py")):
            if "\n@register_" in file.read_text("utf-8"):
                below = file.relative_to(ROOT).with_suffix("").parts
                module = self[".".join((PACKAGE, *below))]
                for name, node in module.nodes.items():
                    decorators = getattr(node, "decorator_list", ())
                    if any(ast.unparse(d).startswith("register_") for d in decorators):
                        module.get(name)

    def is_light(self, name: str) -> bool:
        """Return whether a module of this package imports no package that is not imported yet."""
        if name not in self.light:
            seen, left = set(), [name]
            while left:
                one = left.pop()
                if one not in seen and one not in sys.modules:
                    seen.add(one)
                    if one.partition(".")[0] == PACKAGE:
                        left += [one.rpartition(".")[0], *self[one].imported]
                    elif not _is_at_hand(one):
                        seen.clear()
                        break
            self.light[name] = bool(seen) or name in sys.modules
        return self.light[name]

    def imported(self, node: Imports, name: str) -> Any:
        """Return what an import gives, and make it if its module needs another package."""
        [alias] = [alias for alias in node.names if (alias.asname or alias.name) == name]
        of = None if isinstance(node, ast.Import) else str(node.module)
        module = of or alias.name
        ours = module.partition(".")[0] == PACKAGE
        if self.is_light(module) if ours else _is_at_hand(module):
            found = importlib.import_module(module)
            if not of or hasattr(found, alias.name):
                return getattr(found, alias.name) if of else found
        elif ours and of:
            return self[module].get(alias.name)
        raise UndefinedError(name)


_MODULES = _Modules()


def _is_module(name: str) -> bool:
    return name.startswith(f"{PACKAGE}.") and _path(name).is_file()


def _is_at_hand(module: str) -> bool:
    root = module.partition(".")[0]
    return root in sys.stdlib_module_names or root in sys.modules


class _Module(InspectLoader):
    """A module of which single definitions are made.

    Attributes:
        nodes: each name of the module → the statement that defines it.
        imported: the modules that it imports.
    """

    def __init__(self, file: Path, modules: _Modules) -> None:
        self.file, self.modules, self.made = str(file), modules, ModuleType(__name__)
        self.nodes: dict[str, ast.stmt] = {}
        self.imported: list[str] = []
        self.tried: set[str] = set()
        text = file.read_text("utf-8") if file.is_file() else ""  # a folder without __init__.py
        for node in ast.parse(text).body:
            self.nodes |= dict.fromkeys(_defined(node), node)
            if isinstance(node, ast.Import):
                self.imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                submodules = [f"{node.module}.{alias.name}" for alias in node.names]
                self.imported += [str(node.module), *filter(_is_module, submodules)]

    def get(self, name: str) -> Any:
        """Return the object of a name.

        Raises:
            UndefinedError: it needs another package.
        """
        values = vars(self.made)
        if any(one.startswith("register_") for one in self.nodes):
            self.modules.fill()
        if name not in values:
            node = None if name in self.tried else self.nodes.get(name)
            self.tried.add(name)
            if isinstance(node, Imports):
                values[name] = self.modules.imported(node, name)
            elif node is not None:
                self._make(node)
        if name not in values:
            raise UndefinedError(name)
        return values[name]

    def _make(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ClassDef):
            bases = (base if self._have(base) else _plain(base) for base in node.bases)
            node.bases = [base for base in bases if self._have(base)]
            node.body = [part for part in node.body if self._is_kept(part)] or [ast.Pass()]
        if isinstance(node, Definition):
            node.decorator_list = [d for d in node.decorator_list if self._have(d)]
        self._leave_annotations(node)
        self._have(node)
        if isinstance(node, Definition) or self._is_kept(node):
            self.statement = node
            with suppress(NameError):  # of a default or a base
                self.exec_module(self.made)

    def _is_kept(self, part: ast.stmt) -> bool:
        """Return whether a part of a class, or an assignment, needs no other package."""
        if isinstance(part, ast.FunctionDef):
            return part.name in CHECKS
        value = part.value if isinstance(part, ast.Assign | ast.AnnAssign) else None
        return isinstance(part, ast.AnnAssign) if value is None else self._have(value)

    def _leave_annotations(self, node: ast.stmt) -> None:
        """Leave out the annotations that need another package."""
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef):
                part.returns = None
            elif isinstance(part, ast.arg) and part.annotation and not self._have(part.annotation):
                part.annotation = None
            elif isinstance(part, ast.AnnAssign) and not self._have(part.annotation):
                part.annotation = ast.Constant(None)

    def _have(self, node: ast.AST) -> bool:
        """Make what a statement uses, and return whether everything is defined."""
        missing = False
        for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}:
            try:
                if name in self.nodes:
                    self.get(name)
            except UndefinedError:
                missing = True
        return not missing

    def get_source(self, fullname: str) -> None:
        return None

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the statement to run."""
        tree = ast.fix_missing_locations(ast.Module([self.statement], []))
        return self.source_to_code(tree, self.file)


def names_in(tree: ast.Module) -> set[str]:
    """Return the names that a module defines or imports, also inside of an ``if`` or ``try``."""
    return {
        name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in _defined(node)
    }


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, Imports):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, Definition):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _plain(base: ast.expr) -> ast.expr:
    """Return a base class without its type arguments."""
    return base.value if isinstance(base, ast.Subscript) else base
