"""A figure as SVG inside a page: named for who cannot see it, and with ids of its own."""

import io
import re
from html import escape

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.style import RC

PIXELS_PER_INCH = 105.0  # 96 would be the size on paper, which is small to read on a screen
FALLBACK_FONT = "Verdana"  # as wide as DejaVu Sans, where that is not installed


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The element ``<svg>``; it never grows beyond its natural size.

    Args:
        figure: to draw.
        name: of the figure, unlike all others on the page; its ids begin with it.
        description: what a screen reader says.
    """
    file = io.StringIO()
    with matplotlib.rc_context(RC):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{name}-", text)
    text = text.replace("'DejaVu Sans'", f"'DejaVu Sans', {FALLBACK_FONT}")
    head, _, rest = text.partition(">")
    width, height = (round(inches * PIXELS_PER_INCH) for inches in figure.get_size_inches())
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" {box[0]} role="img" '
        f'aria-label="{escape(description)}">{rest.strip()}'
    )
