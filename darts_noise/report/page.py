"""Runs and studies as one HTML page that needs no network. `page.html` is its template."""

import io
import math
import re
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from darts_noise.errors import counted
from darts_noise.report.alpha_history import AlphaHistory, edge_name, source_name, strengths
from darts_noise.report.card import FIGURES, percent, shown_figures
from darts_noise.report.cells import draw_cells
from darts_noise.report.controller import draw_accuracies, draw_states
from darts_noise.report.curves import (
    Look,
    Panel,
    draw_panel,
    epochs_of,
    looks_of,
    make_comparison,
    make_panels,
)
from darts_noise.report.film_strip import draw_film
from darts_noise.report.heatmap import draw_alpha
from darts_noise.report.metrics import Series
from darts_noise.report.robustness import Robustness, draw_robustness
from darts_noise.report.run_folder import RunFolder, StudyFolder, read_run, read_study
from darts_noise.report.style import OKABE_ITO, RC, lay_out
from darts_noise.search.candidate import Candidate
from darts_noise.search.heat import Heat, differences, standing
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.macro import as_text

if TYPE_CHECKING:
    from darts_noise.search.learnt import Drawn

PANEL_SIZE, LEGEND_SIZE = (3.3, 2.1), (1.7, 2.1)  # inches
PIXELS_PER_INCH = 105.0  # 96 would be the size on paper, too small for a screen
FALLBACK_FONT = "Verdana"  # as wide as DejaVu Sans, if that is not installed
MOST_FRAMES = 12
SWATCH_DASHES = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1.0, 1.6), ":": (1.0, 1.65)}
"""Dashes and gaps of matplotlib's named line styles, in widths of the line."""
ABSENT = "-"  # in the comparison, for a missing figure


@dataclass(frozen=True)
class Drawing:
    """A figure on the page.

    Attributes:
        svg: the element ``<svg>``.
        description: the text for a screen reader.
        caption: the line below it.
    """

    svg: Markup
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table on the page. Its first column names the rows. `numbers`: align the others right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = False


def make_page(
    paths: Sequence[Path],
    explain: Callable[[Path, Exception], str] = lambda path, error: str(error),
) -> str:
    """Return a report of runs and studies as one HTML document without other files.

    Args:
        paths: directories of searches, trainings, studies, ensembles and bundles. A directory that
            cannot be shown is left out, with a line on the page and a warning.
        explain: (directory, error) → what the line says.

    Raises:
        ValueError: no directory can be shown: none is a run or a study, or their files are invalid.
        OSError: no directory can be shown, because a file cannot be read.
    """
    runs: dict[str, RunFolder] = {}
    parts: list[dict[str, Any]] = []
    lacking: list[str] = []  # lines about runs that cannot be shown, or not as a whole
    failed = 0
    for i, path in enumerate(paths, 1):
        try:
            if (study := read_study(path)) is not None:
                parts.append(_study_part(study, f"study-{i}"))
                continue
            run, anchor = read_run(path), f"run-{i}"
            parts.append(_run_part(run, anchor))
            runs[anchor] = run
            if run.lacking:
                lacking.append(f"{path} {run.lacking}")
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
        ) as problem:
            error: Exception = problem
            if not isinstance(problem, OSError | ValueError):
                error = ValueError(f"{path}: a file has another form than expected ({problem!r})")
            failed += 1
            if failed == len(paths):  # nothing is left to show
                raise error from None
            lacking.append(f"{path} is left out: {' '.join(explain(path, error).split())}")
    for line in lacking:
        warnings.warn(line, stacklevel=2)
    comparison = _comparison(runs) if len(runs) > 1 else None
    links = {"comparison": "comparison"} if comparison else {}
    links |= {part["anchor"]: part["title"] for part in parts}
    return _template().render(links=links, comparison=comparison, parts=parts, lacking=lacking)


@dataclass(frozen=True)
class Finding:
    """A question on the page of an examination, and its answer.

    Attributes:
        name: the short name. It is the anchor on the page.
        title: the heading.
        question: the question, in one sentence.
        answer: the answer, in one sentence.
        figures: caption → figure.
        tables: the numbers of the figures.
        sources: the papers.
    """

    name: str
    title: str
    question: str
    answer: str
    figures: Mapping[str, Figure]
    tables: Sequence[Table]
    sources: Sequence[str]

    def shown(self) -> dict[str, Any]:
        """Return the part of the page."""
        drawn = [
            drawing(figure, f"{self.name}-{i}", f"{self.title}; the table has the numbers", caption)
            for i, (caption, figure) in enumerate(self.figures.items())
        ]
        return {"anchor": self.name, **vars(self), "figures": drawn}


def make_findings_page(title: str, about: Table, findings: Sequence[Finding]) -> str:
    """Return the page of an examination as one HTML document without other files."""
    examination = {
        "anchor": "examination",
        "title": title,
        "about": about,
        "findings": [finding.shown() for finding in findings],
    }
    links = {"examination": title, **{finding.name: finding.title for finding in findings}}
    return _template().render(links=links, comparison=None, parts=[examination], lacking=[])


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html")


def _run_part(run: RunFolder, anchor: str) -> dict[str, Any]:
    """Return the part of a run on the page. All ids in it begin with the anchor."""
    part: dict[str, Any] = {
        "anchor": anchor,
        "title": run.title,
        "cell": None if run.genotype is None else _cell(run, run.genotype, anchor),
        "alpha": None,
        "race": None,
        "learnt": None,
        "learnt_accuracies": None,
        "candidates": _candidates(run.candidates) if run.candidates else None,
        "curves": _panels(make_panels(run.series, run.num_classes, run.chance), f"{anchor}-panel"),
        "robustness": [
            _robustness(found, f"{anchor}-attack-{i}") for i, found in enumerate(run.robustness)
        ],
        "card": None,
    }
    if run.card:
        figures = list(shown_figures(run.card).items())
        part["card"] = Table(f"Result card of {run.title}", ("Figure", "Value"), figures)
    if run.history is not None and run.history.moments:
        part |= _alpha(run.history, run.genotype, anchor)
    if run.race:
        part |= _race(run.race, anchor)
    if run.controller is not None:
        part |= _learnt(run, anchor)
    return part


def _cell(run: RunFolder, genotype: Genotype, anchor: str) -> Drawing:
    strength, caption, history = None, "", run.history
    if history is not None and history.moments:
        weights = history.moments[-1].weights
        strength = strengths(genotype, weights, history.operations, history.edges)
        caption = "The wider a line, the larger the weight of its operation."
    figure = draw_cells(genotype, strength=strength)
    return drawing(figure, f"{anchor}-cells", describe_cells(genotype), caption)


def _alpha(history: AlphaHistory, genotype: Genotype | None, anchor: str) -> dict[str, Any]:
    """Return the drawings and tables of α and its history."""
    last = history.moments[-1]
    axes = (history.operations, history.edges)
    heat = draw_alpha(last.weights, *axes, macro=history.macro, genotype=genotype or last.genotype)
    weights = []
    for kind, rows in last.weights.items():
        of_macro = kind in history.macro
        names = [kind] if of_macro else [edge_name(edge) for edge in history.edges]
        head = history.macro[kind] if of_macro else history.operations
        body = [
            (name, *(f"{weight:.3f}" for weight in row))
            for name, row in zip(names, rows, strict=True)
        ]
        first = "" if of_macro else "Edge"
        weights.append(Table(f"Weights: {kind}", (first, *head), body, numbers=True))
    changes = history.changes()
    frames = []
    for i in evenly(len(changes), MOST_FRAMES):
        moment = changes[i]
        strength = strengths(moment.genotype, moment.weights, *axes)
        when = f"{history.counted} {moment.epoch}"
        figure = draw_cells(moment.genotype, when, strength)
        description = f"{when.capitalize()}: {describe_cells(moment.genotype)}"
        frames.append(drawing(figure, f"{anchor}-frame-{moment.epoch}", description))
    meaning = "Weights of α after the last epoch."
    if history.counted == "cell":
        meaning = "Share of the last measured cells that have each operation or choice."
    return {
        "alpha": drawing(
            heat,
            f"{anchor}-alpha",
            "Heat map of the weights; the table below has the numbers",
            f"{meaning} Frames mark the operations of the cell.",
        ),
        "weights": weights,
        "film": drawing(draw_film(history), f"{anchor}-film", describe_film(history)),
        "frames": frames,
        "changes": len(changes),
        "counted": history.counted,
    }


def _race(heats: Sequence[Heat], anchor: str) -> dict[str, Any]:
    """Return the plot and the table of a race."""
    order, rows = standing(heats), []
    winner = differences([heat.macro for heat in order])[0]
    for place, heat in enumerate(order, start=1):
        shown = ("not measured" if share is None else percent(share) for share in heat.accuracies)
        values = map(as_text, heat.macro.values())
        rows.append((str(place), *values, str(heat.epochs[0]), *shown, heat.shown_objective))
    figures = ("Epochs on noise", "Validation accuracy", "Noise accuracy", "Objective")
    return {
        "race": drawing(
            _draw_race(heats),
            f"{anchor}-race-plot",
            f"Objective of {len(order)} combinations after each rung of the race; the table has "
            "the last objective of each",
            f"The winner is blue: {winner}. A cross is a lower bound: the combination "
            "could no longer be kept.",
        ),
        "race_table": Table(
            "Combinations of the choices for the whole network, the winner first; accuracies are "
            "means over the reference cells",
            ("Place", *order[0].macro, *figures),
            rows,
        ),
    }


def _draw_race(heats: Sequence[Heat]) -> Figure:
    """Draw the objective of each combination over the epochs of the rungs."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        winner, *others = standing(heats)
        for last in (*others, winner):
            own = [h for h in heats if h.macro == last.macro and math.isfinite(h.objective)]
            colour = OKABE_ITO["blue"] if last is winner else "#999999"
            axes.plot(
                [h.epochs[0] for h in own], [h.objective for h in own], color=colour, linewidth=1.0
            )
            for heat in own:
                mark = "o" if heat.is_complete else "x"
                axes.plot(heat.epochs[0], heat.objective, mark, color=colour, markersize=3.5)
        epochs = sorted({heat.epochs[0] for heat in heats})
        axes.set_xscale("log")
        axes.set_xticks(epochs, list(map(str, epochs)))
        axes.set_xticks([], minor=True)
        axes.set_xlabel("epochs on noise")
        axes.set_ylabel("objective")
    return figure


def _learnt(run: RunFolder, anchor: str) -> dict[str, Any]:
    """Return the pictures and the table of what a run's controller has learnt."""
    from darts_noise.search.learnt import learnt  # here, because it imports torch

    assert run.controller is not None
    found = learnt(run.controller, run.candidates)
    samples = {"trained": found.trained, "untrained": found.untrained}
    columns: dict[str, dict[str, str]] = {}
    for name, one in samples.items():
        columns[name] = {
            **{
                f"ρ of the distance of states and the {kind} not shared": "none"
                if rho is None
                else f"{rho:.2f}"
                for kind, rho in one.correlations.items()
            },
            f"Different cells of {counted(one.cells, 'draw')}": f"{one.distinct:,}",
            f"Mean number of parts not shared, of {one.parts}": f"{one.differences:.2f}",
        }
        if found.trained.accuracies or found.untrained.accuracies:
            columns[name] |= {
                "Draws of measured cells": f"{len(one.accuracies):,}",
                "Quartiles of their validation accuracy": _quartiles(one),
            }
    part: dict[str, Any] = {
        "learnt": drawing(
            draw_states({name: one.states for name, one in samples.items()}),
            f"{anchor}-states",
            f"Hidden states of the controller for {len(found.trained.states)} cells; the table has "
            "their correlations",
            "A row is a cell. If the rows are alike although the cells differ, the states do not "
            "encode the cell.",
        ),
        "learnt_table": Table(
            "The trained controller, and the same one with random weights. ρ is Spearman's rank "
            "correlation over all pairs of different cells: 1 if the states encode the cell, 0 if "
            "not. The parts of a cell are its operations and its macro choices.",
            ("", *(name.capitalize() for name in samples)),
            [(row, *(of[row] for of in columns.values())) for row in columns["trained"]],
            numbers=True,
        ),
    }
    if found.trained.accuracies and found.untrained.accuracies:
        part["learnt_accuracies"] = drawing(
            draw_accuracies({name: one.accuracies for name, one in samples.items()}),
            f"{anchor}-accuracies",
            "Validation accuracies of the drawn cells; the table has their quartiles",
            "Share of the draws of measured cells that are at most as accurate.",
        )
    return part


def _quartiles(drawn: "Drawn") -> str:
    if not drawn.accuracies:
        return ABSENT
    return ", ".join(percent(value) for value in np.quantile(drawn.accuracies, [0.25, 0.5, 0.75]))


def _robustness(found: Robustness, name: str) -> dict[str, Any]:
    """Return the plot, the warnings and the table of accuracies under attack."""
    rows = [
        (f"{size:g}", *(percent(values[i]) for values in found.accuracies.values()))
        for i, size in enumerate(found.eps)
    ]
    return {
        "drawing": drawing(
            draw_robustness(found),
            name,
            f"Accuracy under attack by eps: {found.title}; the table has the numbers",
            f"Accuracy if each image may change by at most eps: {found.title}.",
        ),
        "warnings": found.warnings,
        "table": Table(f"Accuracy: {found.title}", ("eps", *found.accuracies), rows, numbers=True),
    }


def _candidates(found: Sequence[Candidate]) -> Table:
    terms = dict.fromkeys(name for candidate in found for name in candidate.terms)
    rows = [
        (
            str(place),
            percent(candidate.validation.accuracy),
            _noise_of(candidate),
            *(f"{candidate.terms.get(name, math.nan):.4f}" for name in terms),
            "" if candidate.objective is None else f"{candidate.least}{candidate.objective:.4f}",
            describe_cells(candidate.genotype),
        )
        for place, candidate in enumerate(found, start=1)
    ]
    head = ("Place", "Validation accuracy", "Noise accuracy", *terms, "Objective", "Cell")
    title = "Measured cells; the first was chosen"
    if any(candidate.bound for candidate in found):
        title += ". ≥: the training on noise stopped when the cell could no longer win"
    return Table(title, head, rows)


def _noise_of(candidate: Candidate) -> str:
    if candidate.noise is None:
        return "not measured"
    return f"{candidate.least}{percent(candidate.noise.accuracy)}"


def _comparison(runs: Mapping[str, RunFolder]) -> dict[str, Any]:
    """Return the comparison: for each run a column of figures and a line in every curve."""
    names = distinct([run.title for run in runs.values()])
    cards = [shown_figures(run.card) for run in runs.values()]
    rows = [
        (figure.title, *(card.get(figure.title, ABSENT) for card in cards))
        for figure in FIGURES
        if any(figure.title in card for card in cards)
    ]
    series = {name: run.series for name, run in zip(names, runs.values(), strict=True)}
    return {
        "table": Table("Figures of the cards, a column for each run", ("", *names), rows),
        "legend": [(name, _swatch(look)) for name, look in looks_of(series).items()],
        "curves": _panels(make_comparison(series), "comparison"),
    }


def _swatch(look: Look) -> Markup:
    """Return a piece of a line, for the legend; the name beside it is text that can wrap."""
    colour, style = look
    _, dashes = style if isinstance(style, tuple) else (0, SWATCH_DASHES[style])
    return Markup(
        '<svg width="40" height="8" viewBox="0 0 40 8" aria-hidden="true">'
        '<path d="M0 4h40" stroke="{}" stroke-width="2" stroke-dasharray="{}"/></svg>'
    ).format(colour, " ".join(f"{2 * length:g}" for length in dashes) or "none")


def _study_part(study: StudyFolder, anchor: str) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "title": study.title,
        "blocks": list(_blocks(study.table)),
        "picture": None if study.plane is None else b64encode(study.plane).decode(),
    }


def _blocks(markdown: str) -> Iterator[tuple[str, Any]]:
    """Yield (tag, content) of the few kinds of Markdown that a study writes."""
    heading = "Results"
    for mark, group in groupby(markdown.replace("**", "").splitlines(), lambda line: line[:1]):
        lines = list(group)
        if mark == "|":
            head, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
            yield "table", Table(heading, head, [row for row in rows if row], numbers=True)
        elif mark == "#":
            if lines[-1].startswith("## "):
                heading = lines[-1].lstrip("# ")
                yield "h3", [heading]
        elif mark == "-":
            yield "ul", [line[1:].strip() for line in lines]
        elif mark:
            yield "p", lines


def _panels(panels: Sequence[Panel], anchor: str) -> list[Drawing]:
    epochs, drawn = epochs_of(panels), []
    for i, panel in enumerate(panels):
        description = (
            describe_lines(panel.title, panel.series, panel.axis) if panel.title else "legend"
        )
        with matplotlib.rc_context(RC):
            size = PANEL_SIZE if panel.title else LEGEND_SIZE
            figure = Figure(figsize=size, layout="constrained")
            draw_panel(figure.subplots(), panel, epochs)
        drawn.append(drawing(figure, f"{anchor}-{i}", description))
    return drawn


def drawing(figure: Figure, name: str, description: str, caption: str = "") -> Drawing:
    """Return a figure as SVG that never grows beyond its natural size.

    `name` is unique on the page: the ids inside begin with it.
    """
    file = io.StringIO()
    with matplotlib.rc_context(RC):
        lay_out(figure)
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
    start = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'width="{}" height="{}" {} role="img" aria-label="{}">'
    ).format(width, height, Markup(box[0]), description)
    return Drawing(start + Markup(rest.strip()), description, caption)


def describe_cells(genotype: Genotype) -> str:
    """Return the cells in words: every node as a sum of operations."""
    macro = [f"{name} {as_text(value)}" for name, value in genotype.macro.items()]
    cells = [
        f"Normal cell: {_describe_cell(genotype.normal)}.",
        f"Reduction cell: {_describe_cell(genotype.reduce)}.",
    ]
    return " ".join(([f"{', '.join(macro).capitalize()}."] if macro else []) + cells)


def _describe_cell(cell: Cell) -> str:
    return "; ".join(
        f"node {i} is {' plus '.join(f'{name} of {source_name(p)}' for name, p in pairs)}"
        for i, pairs in enumerate(cell)
    )


def describe_film(history: AlphaHistory) -> str:
    """Return a text about the epochs or cells after which the genotype changed."""
    changes = [str(moment.epoch) for moment in history.changes()[1:]]
    unit = history.counted
    kept = f"The operation kept on each edge over {counted(len(history.moments), unit)}"
    if not changes:
        return f"{kept}; the genotype never changed."
    after = unit if len(changes) == 1 else f"{unit}s"
    times = f"{counted(len(changes), 'time')}, after the {after} {', '.join(changes)}"
    return f"{kept}; the genotype changed {times}."


def describe_lines(title: str, lines: Mapping[str, Series], axis: str = "epoch") -> str:
    """Return a text about the start and the end of each line.

    >>> describe_lines("loss", {"train": [(1, 2.3), (2, 1.5), (3, 0.5)]})
    'loss by epoch; train from 2.3 (epoch 1) to 0.5 (epoch 3)'
    """
    parts = [
        f"{name} from {points[0][1]:.3g} ({axis} {points[0][0]:g}) "
        f"to {points[-1][1]:.3g} ({axis} {points[-1][0]:g})"
        for name, points in lines.items()
        if points
    ]
    return f"{title} by {axis}; {'; '.join(parts)}"


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the first `count` numbers, evenly spaced, with both ends.

    >>> evenly(3, 12), evenly(10, 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def distinct(titles: Sequence[str]) -> list[str]:
    """Return unique titles: repeated ones get a number.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    counts = [titles[: i + 1].count(title) for i, title in enumerate(titles)]
    return [t if n == 1 else f"{t} ({n})" for t, n in zip(titles, counts, strict=True)]
