"""Examine a network that memorises beside one that does not.

    python -m benchmarks.examine_pair --data digits

The pair is a cell of bounded gain and one with batch norm. On digits it is the cell of the default
search (seed 0) and the same cell with batch norm, on MNIST the cells that a search with λ = 1 and
one with λ = 0 found. All sections of `darts_noise.examine` measure both.

The results are in ``docs/results/examine_<data>.json``. For each section, the folder
``docs/results/examine`` has the picture of both networks and a page. A new page lacks a conclusion;
the command keeps one that is written there. Then ``python -m benchmarks.tables`` fills the tables.
A command that was stopped goes on.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import darts_noise as dn
from benchmarks import commands
from benchmarks.tables import BOTH
from darts_noise.atomic import write_text
from darts_noise.cli.configs import CONFIGS, read_config
from darts_noise.cli.measuring import SIZES
from darts_noise.examine.record import as_json
from darts_noise.examine.sections import make_sections
from darts_noise.report.page import drawing

BOUNDED, BATCH_NORM = "bounded gain", "batch norm"
PICTURES = {"frequency": (0, 1), "influence": (2,), "two_phases": (0, 2)}
"""Section → its figures on the picture, by number. Other sections: the first one."""
SIDES = ("width", "height")
HIDDEN = 200
"""How many times as long an axis must be to hide a curve of another."""
PRESETS: dict[str, dict[str, Any]] = {"digits": {}, "mnist": {}}
"""Data → settings of the examination."""
ALL_IMAGES = {"capacity": 2000}
"""Section → its largest number of images, out of all training images. The other sections take 500
out of half of them."""


CONCLUSION = re.compile(r"<!-- conclusion -->\n(.*?)<!-- end of conclusion -->", re.DOTALL)


def pair(data: str) -> dict[str, dn.Genotype]:
    """Return both cells by name."""
    if data == "mnist":
        folder = commands.RESULTS / "mnist_bounded_study" / "cells"
        files = {BOUNDED: "lambda_1-seed0", BATCH_NORM: "lambda_0-seed0"}
        return {name: dn.load_genotype(folder / f"{file}.json") for name, file in files.items()}
    runs = json.loads((commands.RESULTS / "main_job_digits.json").read_text("utf-8"))["runs"]
    run = next(run for run in runs if (run["noise_weight"], run["seed"]) == (1, 0))
    cells = {BOUNDED: run["genotype"], BATCH_NORM: run["control"]["genotype"]}
    return {name: dn.Genotype.from_dict(cell) for name, cell in cells.items()}


def alike(figures: Sequence[Figure]) -> None:
    """Give the axes of like figures the same limits, if they have lines.

    Limits of which one would hide the curves of another stay as they are.
    """
    for axes in zip(*(figure.axes for figure in figures), strict=True):
        lined = axes if all(each.lines for each in axes) else ()
        for side in ("xlim", "ylim"):
            limits = [getattr(each, f"get_{side}")() for each in lined]
            spans = [high - low for low, high in limits]
            for each in lined if max(spans, default=0) < HIDDEN * min(spans, default=1) else ():
                low, high = min(low for low, _ in limits), max(high for _, high in limits)
                getattr(each, f"set_{side}")(low, high)


def picture(rows: Sequence[Mapping[str, Figure]], description: str) -> str:
    """Return an SVG of figures: one column for each network, with its name above."""
    grid: list[list[tuple[str, int, int]]] = []
    for i, row in enumerate(rows):
        alike(list(row.values()))
        grid.append([])
        for name, figure in row.items():
            if i == 0:
                figure.suptitle(name, weight="bold", size=9)
            svg = str(drawing(figure, f"figure-{i}-{len(grid[i])}", f"{description}, {name}").svg)
            width, height = (int(svg.split(f'{key}="')[1].split('"')[0]) for key in SIDES)
            grid[i].append((svg, width, height))
    column = max(width for row in grid for _, width, _ in row)
    parts, top = [], 0
    for drawn in grid:
        for i, (svg, _, _) in enumerate(drawn):
            parts.append(svg.replace("<svg ", f'<svg x="{i * column}" y="{top}" ', 1))
        top += max(height for _, _, height in drawn)
    width = column * len(grid[0])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" '
        f'height="{top}" role="img" aria-label="{description}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{"".join(parts)}\n</svg>\n'
    )


def write_page(name: str, section: dn.Section[Any], folder: Path) -> None:
    """Write the page of a section with the pictures that exist, and keep its conclusion."""
    path = folder / f"{name}.md"
    written = CONCLUSION.search(path.read_text("utf-8")) if path.is_file() else None
    pictures = [
        f"![{section.title} of both networks on {data}]({name}_{data}.svg)\n\n"
        for data in PRESETS
        if (folder / f"{name}_{data}.svg").is_file()
    ]
    both = f"<!-- table: both, {name} -->\n<!-- end of table -->\n\n" if name in BOTH else ""
    write_text(
        path,
        f"# {section.title}\n\n{section.question}\n\nThis page compares [two networks](index.md): "
        "one of bounded gain that sees smooth images only, and one with batch norm.\n\n"
        "<!-- conclusion -->\n"
        f"{written[1] if written else ''}<!-- end of conclusion -->\n\n{''.join(pictures)}"
        f"<!-- table: answers, {name} -->\n<!-- end of table -->\n\n{both}"
        "[What is measured, and its source](../../examine.md)\n",
    )


def examine_pair(data: str, root: str, runs: Path, only: Sequence[str]) -> None:
    """Examine both networks, section by section, and write the results and the pictures."""
    config, preset = read_config(CONFIGS / "train" / f"{data}.yaml"), PRESETS[data]
    recipe = dn.TrainConfig(**{k: v for k, v in config["model"].items() if k in SIZES})
    cells = pair(data)
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.examine_pair --data {data}",
        "settings": {**preset, "samples of sections": ALL_IMAGES},
        **commands.surroundings(),
        "cells": {name: cell.to_dict() for name, cell in cells.items()},
        "sections": {},
    }
    file = commands.RESULTS / f"examine_{data}.json"
    if only and file.is_file():
        stored = json.loads(file.read_text("utf-8"))
        if stored["cells"] == result["cells"]:  # otherwise its sections are of other networks
            result["sections"] = stored["sections"]
    for name, section in make_sections(only, preset.get("sections", {})).items():
        images, settings, apart = dn.ImageDataModule(data, root=root), preset, ""
        if name in ALL_IMAGES:  # an examination of its own, because its images are others
            images = dn.ImageDataModule(data, root=root, validation_fraction=0.0)
            settings, apart = {**preset, "samples": ALL_IMAGES[name]}, f"-{name}"
        found = {
            network: dn.examine(
                cell,
                images,
                recipe=recipe,
                runs=runs,
                name=f"{data}-{network.replace(' ', '_')}{apart}",
                accelerator="cpu",
                only=(name,),
                **settings,
            ).results[name]
            for network, cell in cells.items()
        }
        result["sections"][name] = {network: as_json(each) for network, each in found.items()}
        commands.store(f"examine_{data}", result)
        drawn = {network: list(section.figures(each).values()) for network, each in found.items()}
        rows = [
            {network: figures[i] for network, figures in drawn.items()}
            for i in PICTURES.get(name, (0,))
        ]
        file = commands.RESULTS / "examine" / f"{name}_{data}.svg"
        file.parent.mkdir(exist_ok=True)
        write_text(file, picture(rows, f"{section.title}, {data}"))
        write_page(name, section, file.parent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=PRESETS, default="digits")
    parser.add_argument("--root", default="data", help="folder that holds the data")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--only", nargs="*", default=(), help="sections [all]")
    args = parser.parse_args()
    examine_pair(args.data, args.root, args.runs, args.only)


if __name__ == "__main__":
    main()
