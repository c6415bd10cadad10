"""A run's part of the page: its cell, α, how both went, and its card."""

from collections.abc import Iterator, Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from darts_noise.report.alpha_history import AlphaHistory, Moment, edge_name, strengths
from darts_noise.report.card import shown_figures
from darts_noise.report.cells import draw_cells
from darts_noise.report.curves import Panel, draw_panel, epochs_of, make_panels
from darts_noise.report.film_strip import draw_film
from darts_noise.report.heatmap import draw_alpha
from darts_noise.report.page.alternatives import (
    describe_cells,
    describe_film,
    describe_lines,
)
from darts_noise.report.page.elements import drawing, folded, scrolling, section, table
from darts_noise.report.page.inline_svg import inline_svg
from darts_noise.report.page.run_folder import RunFolder
from darts_noise.report.style import RC
from darts_noise.search.candidate import Candidate

PANEL_SIZE, LEGEND_SIZE = (3.3, 2.1), (1.7, 2.1)  # inches
MOST_FRAMES = 12


def run_section(run: RunFolder, anchor: str) -> str:
    """All of a run as HTML; what it has not written is left out.

    Args:
        run: read from its directory.
        anchor: the section's id, with which all ids in it begin.

    Raises:
        ValueError: files that do not belong together.
    """
    parts = list(_parts(run, anchor))
    return section(anchor, run.title, parts or ["<p>Nothing yet.</p>"])


def panel_list(panels: Sequence[Panel], anchor: str) -> str:
    """Panels as figures beside one another, each with its description."""
    epochs, drawn = epochs_of(panels), []
    for i, panel in enumerate(panels):
        description = describe_lines(panel.title, panel.series) if panel.title else "legend"
        with matplotlib.rc_context(RC):
            size = PANEL_SIZE if panel.title else LEGEND_SIZE
            figure = Figure(figsize=size, layout="constrained")
            draw_panel(figure.subplots(), panel, epochs)
        drawn.append(f"<figure>{inline_svg(figure, f'{anchor}-{i}', description)}</figure>")
    return f'<div class="panels">{"".join(drawn)}</div>'


def _parts(run: RunFolder, anchor: str) -> Iterator[str]:
    history, weights = run.history, run.weights
    if run.genotype is not None:
        yield section(f"{anchor}-cell", "Cell", [_cells(run, anchor)], 3)
    if history is not None and weights is not None:
        figure = draw_alpha(
            weights,
            history.operations,
            history.edges,
            macro=history.macro,
            genotype=run.genotype or history.moments[-1].genotype,
        )
        caption = "Weights of α after the last epoch; frames are what the cell has."
        tables = "\n".join(_weights_tables(history, weights))
        heat = drawing(figure, f"{anchor}-alpha", "Heat map of α; the table below says it", caption)
        body = [heat, folded("The weights as tables", tables)]
        yield section(f"{anchor}-weights", "Architecture weights", body, 3)
        film = drawing(draw_film(history), f"{anchor}-film", describe_film(history))
        frames = _frames(history, anchor)
        yield section(f"{anchor}-changes", "How the genotype changed", [film, frames], 3)
    if run.candidates:
        yield section(f"{anchor}-candidates", "Candidates", [_candidates(run.candidates)], 3)
    if panels := make_panels(run.series, run.num_classes):
        curves = panel_list(panels, f"{anchor}-panel")
        yield section(f"{anchor}-curves", "Curves", [curves], 3)
    if run.card:
        card = table(
            f"Result card of {run.title}", ("Figure", "Value"), shown_figures(run.card).items()
        )
        yield section(f"{anchor}-card", "Card", [card], 3)


def _cells(run: RunFolder, anchor: str) -> str:
    assert run.genotype is not None
    history, strength, caption = run.history, None, ""
    if history is not None and run.weights is not None:
        strength = strengths(run.genotype, run.weights, history.operations, history.edges)
        caption = "The wider a line, the larger the weight of its operation."
    figure = draw_cells(run.genotype, strength=strength)
    return drawing(figure, f"{anchor}-cells", describe_cells(run.genotype), caption)


def _candidates(found: Sequence[Candidate]) -> str:
    rows = []
    for place, candidate in enumerate(found, start=1):
        noise, objective = candidate.noise, candidate.objective
        rows.append(
            (
                str(place),
                f"{100 * candidate.validation.accuracy:.2f} %",
                "not measured" if noise is None else f"{100 * noise.accuracy:.2f} %",
                "" if objective is None else f"{objective:.4f}",
                describe_cells(candidate.genotype),
            )
        )
    head = ("Place", "Validation accuracy", "Noise accuracy", "Objective", "Cell")
    return table("Cells that α proposed, as measured; the first was taken", head, rows)


def _weights_tables(
    history: AlphaHistory, weights: Mapping[str, Sequence[Sequence[float]]]
) -> Iterator[str]:
    for kind, rows in weights.items():
        of_macro = kind in history.macro
        head = history.macro[kind] if of_macro else history.operations
        names = [kind] if of_macro else [edge_name(edge) for edge in history.edges]
        body = [
            (name, *(f"{weight:.3f}" for weight in row))
            for name, row in zip(names, rows, strict=True)
        ]
        yield table(f"Weights: {kind}", ("" if of_macro else "Edge", *head), body, numbers=True)


def _frames(history: AlphaHistory, anchor: str) -> str:
    """The cells after the epochs that changed them; of many, some from first to last."""
    changes = history.changes()
    shown = [changes[i] for i in _spread(len(changes), MOST_FRAMES)]
    items = []
    for moment in shown:
        name = f"{anchor}-frame-{moment.epoch}"
        items.append(f"<li>{_frame(history, moment, name)}</li>")
    count = f"{len(shown)} of {len(changes)}" if len(shown) < len(changes) else f"{len(shown)}"
    strip = f'<ol class="frames">{"".join(items)}</ol>'
    summary = f"The cells themselves, each from the epoch on that made it ({count})"
    return folded(summary, scrolling(strip, "Film strip"))


def _frame(history: AlphaHistory, moment: Moment, name: str) -> str:
    strength = strengths(moment.genotype, moment.weights, history.operations, history.edges)
    figure = draw_cells(moment.genotype, f"epoch {moment.epoch}", strength)
    description = f"Epoch {moment.epoch}: {describe_cells(moment.genotype)}"
    return inline_svg(figure, name, description)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the first `count` numbers, evenly, the first and the last among them.

    >>> _spread(3, 12), _spread(10, 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]
