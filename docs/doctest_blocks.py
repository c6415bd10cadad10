"""Shows the doctests of a docstring as code on the API page; Markdown takes ``>>>`` for quotes."""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)


class DoctestBlocks(griffe.Extension):
    """An extension of the reader of docstrings; `mkdocs.yml` names it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
