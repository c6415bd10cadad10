"""The whole page, of runs and studies."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from darts_noise.report.card import FIGURES, shown_figures
from darts_noise.report.curves import make_comparison
from darts_noise.report.page.elements import section, table
from darts_noise.report.page.run_folder import RunFolder, read_run
from darts_noise.report.page.run_section import panel_list, run_section
from darts_noise.report.page.study_section import is_study, study_section
from darts_noise.report.page.stylesheet import STYLESHEET

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""No request leaves the page, and nothing in it can run."""
ALIKE = "-"  # in the comparison, for a figure that a run does not have


def make_page(paths: Sequence[Path]) -> str:
    """The report of runs and studies as one HTML document that needs no other file.

    Args:
        paths: directories of runs of ``search.py`` and ``train.py`` and of studies.

    Raises:
        ValueError: a directory of none of them, or a file in it that is not what it should be.
        OSError: a file that cannot be read.
    """
    runs: dict[str, RunFolder] = {}
    sections: list[str] = []
    links: dict[str, str] = {}
    for i, path in enumerate(paths, 1):
        if is_study(path):
            anchor = f"study-{i}"
            links[anchor] = f"study {path.resolve().name}"
            sections.append(study_section(path, anchor))
        else:
            anchor = f"run-{i}"
            run = runs[anchor] = read_run(path)
            links[anchor] = run.title
            sections.append(run_section(run, anchor))
    if len(runs) > 1:
        links = {"comparison": "comparison", **links}
        sections.insert(0, _comparison(runs))
    items = "".join(f'<li><a href="#{a}">{escape(title)}</a></li>' for a, title in links.items())
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>darts_noise: {escape(", ".join(links.values()))}</title>
<style>{STYLESHEET}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>Report of darts_noise</h1>
<nav aria-label="Contents"><ul>{items}</ul></nav>
</header>
<main id="main">
{body}
</main>
</body>
</html>
"""


def _comparison(runs: Mapping[str, RunFolder]) -> str:
    """A column of figures and a line in every curve for each run."""
    names = _distinct({anchor: run.title for anchor, run in runs.items()})
    figures = {anchor: shown_figures(run.card) for anchor, run in runs.items()}
    rows: list[Sequence[str]] = [
        (figure.title, *(found.get(figure.title, ALIKE) for found in figures.values()))
        for figure in FIGURES
        if any(figure.title in found for found in figures.values())
    ]
    panels = make_comparison({names[anchor]: run.series for anchor, run in runs.items()})
    parts = [table("Figures of the cards, a column for each run", ("", *names.values()), rows)]
    if panels:
        parts.append(panel_list(panels, "comparison"))
    return section("comparison", "Comparison", parts)


def _distinct(titles: Mapping[str, Any]) -> dict[str, str]:
    """Titles of which no two are alike: those that come again are numbered.

    >>> _distinct({"run-1": "a", "run-2": "b", "run-3": "a"})
    {'run-1': 'a', 'run-2': 'b', 'run-3': 'a (2)'}
    """
    found: dict[str, str] = {}
    for anchor, title in titles.items():
        count = list(titles.values())[: len(found)].count(title)
        found[anchor] = f"{title} ({count + 1})" if count else title
    return found
