"""The HTML elements that the page is made of; all text is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from darts_noise.report.page.inline_svg import inline_svg


def section(anchor: str, title: str, body: Iterable[str], level: int = 2) -> str:
    """A section with its heading; `body` is HTML."""
    heading = f'<h{level} id="{anchor}-title">{escape(title)}</h{level}>'
    inside = "\n".join(body)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{heading}\n{inside}\n</section>'
    )


def drawing(drawn: Figure, name: str, description: str, caption: str = "") -> str:
    """A figure that scrolls sideways, by keys as well, where the page is too narrow for it."""
    svg = inline_svg(drawn, name, description)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{scrolling(svg, caption or description)}{below}</figure>"


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False
) -> str:
    """A table whose first column names its rows; `numbers` sets the others to the right."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for name, *cells in rows:
        inside = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{inside}</tr>')
    kind = ' class="numbers"' if numbers else ""
    body = "\n".join(lines)
    return scrolling(
        f"<table{kind}><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>\n"
        f"<tbody>{body}</tbody></table>",
        caption,
    )


def folded(summary: str, body: str) -> str:
    """What is seen after a click, or Enter; `body` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def scrolling(inside: str, name: str) -> str:
    """A box that scrolls sideways and can be reached with the Tab key; `inside` is HTML."""
    return (
        f'<div class="scroll" role="group" aria-label="{escape(name)}" tabindex="0">{inside}</div>'
    )
