"""Run a strategy that proposes single cells, and write its results after each measured cell."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from darts_noise.distributed.collectives import on_first_process
from darts_noise.report.alpha_history import Moment
from darts_noise.report.tracking import set_axis
from darts_noise.runs.run import Run
from darts_noise.runs.search_outputs import STEPS, SearchOutputs, read_known, write_measured
from darts_noise.search.asking import propose
from darts_noise.search.candidate import Candidate, ranked
from darts_noise.search.learnt import CONTROLLER, write_controller
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype
from darts_noise.space.spaces import Space

FIGURES = (
    *("val/loss", "val/accuracy", "noise/loss", "noise/accuracy"),
    *("objective/cell", "objective/best"),
)
"""The figures of a measured cell in ``metrics.csv``."""
RECENT = 20
"""Number of cells over which the history takes the shares of operations."""


def measure_proposals(module: SearchModule, session: Run) -> list[Candidate]:
    """Do what `propose` does. Write the results and print a line after each measurement."""
    known = on_first_process(lambda: read_known(session.path))
    before = {(candidate.genotype, candidate.share) for candidate in known}
    outputs = SearchOutputs(session.path, session.data.train.chance, "cell")
    setting = module.config.strategy
    name = setting if isinstance(setting, str) else next(iter(setting))
    session.console.print(f"measuring the cells that the strategy {name} proposes")

    def told(found: Sequence[Candidate], budget: int) -> None:
        if not session.is_first:
            return
        last, best = found[-1], ranked(found)[0]
        spent = module.gradient_steps + sum(candidate.steps for candidate in found)
        is_new = (last.genotype, last.share) not in before
        row = {**_figures(last, best), STEPS: float(spent), "epoch": len(found) - 1}
        for logger in session.trainer.loggers if is_new else [session.table]:
            logger.log_metrics(row, spent)
        moment = Moment(
            len(found), best.genotype, shares(module.space, [c.genotype for c in found[-RECENT:]])
        )
        outputs.remember(moment, module.space)
        if is_new:
            write_measured(session.path, found, known)
            session.has_results = True
            outputs.write_cell(best.genotype)
            outputs.redraw(moment, module.space, module.num_classes, session.trainer.loggers)
            session.console.print(f"cell {len(found)}  step {spent:,}/{budget:,}  {last}")

    terms = [f"objectives/{term}" for term in module.objectives.terms]
    set_axis(session.wandb, STEPS, [*FIGURES, *terms])
    found = propose(module, session.data, told, known, session.console.print)
    if session.is_first and outputs.history is not None:
        write_measured(session.path, found, ())
        outputs.write_cell(module.genotype())
        outputs.draw(outputs.history.moments[-1], module.space, module.num_classes)
        if module.strategy is not None and module.strategy.controller is not None:
            write_controller(session.path / CONTROLLER, module.strategy.controller)
    return found


def _figures(last: Candidate, best: Candidate) -> dict[str, float]:
    """Return the figures of the last cell that were measured, and the objective of the best."""
    readings = {"val": last.validation, "noise": last.noise}
    figures = {
        f"{split}/{name}": value
        for split, reading in readings.items()
        if reading is not None
        for name, value in reading._asdict().items()
    }
    figures |= {f"objectives/{name}": value for name, value in last.terms.items()}
    for name, candidate in (("cell", last), ("best", best)):
        if candidate.share == 1 and candidate.objective is not None:
            figures[f"objective/{name}"] = candidate.objective
    return figures


def shares(space: Space, cells: Sequence[Genotype]) -> dict[str, list[list[float]]]:
    """Return the share of cells that have each operation on each edge, and each macro choice.

    The layout is that of the relaxed weights of α.

    >>> from darts_noise import Genotype, Space
    >>> space = Space("tiny", ("skip_connect", "conv_3x3"), nodes=1)
    >>> skips = [[("skip_connect", 0), ("skip_connect", 1)]]
    >>> mixed = [[("skip_connect", 0), ("conv_3x3", 1)]]
    >>> shares(space, [Genotype(skips, [2], skips, [2]), Genotype(skips, [2], mixed, [2])])
    {'normal': [[1.0, 0.0], [1.0, 0.0]], 'reduce': [[1.0, 0.0], [0.5, 0.5]]}
    """

    def share(count: int) -> float:
        return count / len(cells)

    found = {}
    for kind in ("normal", "reduce"):
        kept = Counter(
            (operation, predecessor, node)
            for cell in cells
            for node, pairs in enumerate(getattr(cell, kind))
            for operation, predecessor in pairs
        )
        found[kind] = [
            [share(kept[operation, *edge]) for operation in space.operations]
            for edge in space.edges
        ]
    chosen = Counter(chain.from_iterable(cell.macro.items() for cell in cells))
    return found | {
        name: [[share(chosen[name, value]) for value in values]] for name, values in space.macro
    }
