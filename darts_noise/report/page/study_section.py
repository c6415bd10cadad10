"""A study's part of the page: its tables and its plot, as `darts_noise.study` has written them."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

from darts_noise.report.page.elements import scrolling, section, table

TABLE, PLOT = "table.md", "plane.png"
MAX_BYTES = 1 << 23


def is_study(path: Path) -> bool:
    """Whether this is the directory of a study."""
    return (path / TABLE).is_file()


def study_section(path: Path, anchor: str) -> str:
    """The study in a directory as HTML.

    Raises:
        ValueError: a file that is too large to be one of a study.
        OSError: a file that cannot be read.
    """
    parts = list(_parts(_read(path / TABLE).decode("utf-8", "replace")))
    if (path / PLOT).is_file():
        picture = b64encode(_read(path / PLOT)).decode()
        name = "Noise accuracy against test accuracy of every network; the table has the figures"
        image = f'<img alt="{name}" src="data:image/png;base64,{picture}" width="672">'
        parts.append(f"<figure>{scrolling(image, name)}</figure>")
    return section(anchor, f"study {path.resolve().name}", parts)


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes")
    return path.read_bytes()


def _parts(markdown: str) -> Iterator[str]:
    """The few forms of Markdown that a study writes."""
    heading = "Results"
    plain = markdown.replace("**", "")
    for form, group in groupby(plain.splitlines(), lambda line: line[:1]):
        lines = list(group)
        if form == "|":
            head, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
            yield table(heading, head, [row for row in rows if row], numbers=True)
        elif form == "#":
            title = lines[-1].lstrip("# ")
            if lines[-1].startswith("## "):
                heading = title
                yield f"<h3>{escape(title)}</h3>"
        elif form == "-":
            items = "".join(f"<li>{escape(line[1:].strip())}</li>" for line in lines)
            yield f"<ul>{items}</ul>"
        elif form:
            yield from (f"<p>{escape(line)}</p>" for line in lines)
