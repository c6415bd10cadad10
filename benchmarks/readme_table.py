"""The tables of performance and of the studies, made from the files in ``docs/results``.

    python -m benchmarks.readme_table

prints them and writes them into ``docs/performance.md`` and ``README.md``, each between two
comments. A benchmark that has not been run has no row, a study no table; run the command again
after it.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from darts_noise.atomic import write_text
from darts_noise.study.results import mean_of_seeds

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BEGIN = "<!-- performance: python -m benchmarks.readme_table -->"
END = "<!-- end of performance -->"
STUDY_BEGIN = "<!-- studies: python -m benchmarks.readme_table -->"
STUDY_END = "<!-- end of studies -->"
STUDIES = {"MNIST": "mnist_study", "CIFAR-10 (JPEG)": "cifar10_study"}
"""The data of a study → its folder, without the database, below docs/results."""
PROTOCOLS = ("converged/", "quick/")
NAMES = {"candidates": "operations"}
"""What a size of the growth is called beside `--model.candidates`."""
HEAD = ("what", "setting", "textbook or plain", "here", "ratio")

Row = tuple[str, str, str, str, str]
"""The cells below `HEAD`; that of the file comes last and is added by `table`."""


def search_step(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """The shared supernet beside the textbook's, and the twin's part in it."""
    device = described(name, "search_step_")
    textbook, shared, aware = (
        found["sides"][side] for side in ("textbook", "shared", "shared, noise-aware")
    )
    setting = f"{device}, {sizes(found)}; n = {len(shared['seconds'])}"
    yield (
        "search step",
        setting,
        seconds(textbook["median_s"]),
        seconds(shared["median_s"]),
        f"{found['textbook_over_shared']:g} × as fast",
    )
    yield (
        "search step, peak memory",
        setting,
        mebibytes(textbook["peak_mib"]),
        mebibytes(shared["peak_mib"]),
        times(found["memory_shared_over_textbook"]),
    )
    yield (
        "search step, launches of a pass and its backward",
        sizes(found),
        f"{found['launches']['textbook']:,}",
        f"{found['launches']['shared']:,}",
        times(found["launches"]["shared"] / found["launches"]["textbook"]),
    )
    yield (
        "noise-aware search step, beside one of λ = 0",
        setting,
        seconds(shared["median_s"]),
        seconds(aware["median_s"]),
        f"{times(found['noise_aware_over_plain'])} the time",
    )


def retrain(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """Training with the Trainer as `train.py` runs it beside a plain loop."""
    device = described(name, "retrain_")
    plain, package = found["sides"]["plain"], found["sides"]["package"]
    n = len(package["images_per_s"])
    yield (
        "training",
        f"{device}, {sizes(found)}; n = {n}",
        f"{plain['median_images_per_s']:,.0f} images/s",
        f"{package['median_images_per_s']:,.0f} images/s",
        f"{found['package_over_plain']:g} × as fast",
    )
    yield (
        "training, peak memory",
        device,
        mebibytes(plain["peak_mib"]),
        mebibytes(package["peak_mib"]),
        times(found["memory_package_over_plain"]),
    )


def loading(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """The share of a step that goes into its batches."""
    device = described(name, "loading_")
    for kind, size, of in (
        ("search", "search_batch", "noise-aware search step"),
        ("training", "train_batch", "training step"),
    ):
        step = found[kind]
        setting = {**found["setting"], "batch": found["setting"][size]}
        yield (
            f"batches of a {of}",
            f"{device}, {sizes({**found, 'setting': setting})}; n = {found['repeats']}",
            f"whole step: {seconds(step['step_median_s'])}",
            seconds(step["batches_median_s"]),
            f"{step['median_percent']:g} % of it",
        )


def growth(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """The exponents of a search step's time and memory in each of its sizes, varied alone."""
    setting = f"{described(name, 'growth_')}, {sizes(found)}, each varied alone"
    for what, figure in (("time", "time_s"), ("peak memory", "peak_mib")):
        grown = [
            f"{NAMES.get(size, size)}^{of[figure]['exponent']:g}"
            for size, of in found["sizes"].items()
        ]
        yield f"search step, growth of the {what}", setting, "", "∝ " + ", ".join(grown), ""


def hypergradient(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """Each α gradient beside the first-order one."""
    supernet = "shared" if "shared" in found["command"] else "textbook"
    methods = dict(found["methods"])
    first = methods.pop("first_order")
    for method, of in methods.items():
        yield (
            f"α gradient, `{method}`",
            f"CPU, {supernet} supernet, {sizes(found)}; n = {len(of['seconds'])}",
            f"`first_order`: {seconds(first['median_s'])}",
            seconds(of["median_s"]),
            f"{times(of['time_ratio'])} the time, {times(of['memory_ratio'])} the memory",
        )


def penalties(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """A search step with each penalty beside one of λ = 0, by the processor's time."""
    steps = dict(found["penalties"])
    plain = steps.pop("none")
    for penalty, of in sorted(steps.items(), key=lambda item: item[1]["time_ratio"]):
        yield (
            f"search step, penalty `{penalty}`, processor time",
            f"CPU, {sizes(found)}; n = {len(of['seconds'])}",
            f"λ = 0: {seconds(plain['median_s'])}",
            seconds(of["median_s"]),
            f"{times(of['time_ratio'])} the time",
        )


def startup(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """The commands of a user beside the import of Lightning alone."""
    wall = {command: of["wall_s"]["median"] for command, of in found["commands"].items()}
    plain = wall["import pytorch_lightning"]
    for command, what in (
        ("search.py --help", "`python search.py --help`"),
        ("train.py --help", "`python train.py --help`"),
        ("search.py, first step", "`python search.py` to its first step"),
    ):
        yield (
            what,
            f"CPU; n = {found['n']}",
            f"`import pytorch_lightning`: {seconds(plain)}",
            seconds(wall[command]),
            times(wall[command] / plain),
        )


def latency(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """A batch through an exported network, beside the eager one; one thread's processor time."""
    for batch, ways in found["batches"].items():
        setting = {**found["setting"], "batch": batch}
        took = {way: of["cpu_ms"]["median"] / 1000 for way, of in ways.items()}
        for way, value in took.items():
            if way != "eager":
                yield (
                    f"inference, {way}, processor time",
                    f"CPU, {sizes({**found, 'setting': setting})}; n = {found['n']}",
                    f"eager: {seconds(took['eager'])}",
                    seconds(value),
                    f"{times(value / took['eager'])} the time",
                )


SOURCES: dict[str, Callable[[str, dict[str, Any]], Iterator[Row]]] = {
    "search_step_*": search_step,
    "hypergradient": hypergradient,
    "penalties": penalties,
    "growth_*": growth,
    "retrain_*": retrain,
    "loading_*": loading,
    "latency": latency,
    "startup": startup,
}
"""The files of the table, without their ending, in its order."""


def described(name: str, prefix: str) -> str:
    """What a file's name says of the run, besides its number of threads.

    >>> described("retrain_cuda_bf16_compile", "retrain_")
    'GPU, bf16, compiled'
    """
    words = {"cpu": "CPU", "cuda": "GPU", "compile": "compiled"}
    rest = re.sub(r"_\d+_threads$", "", name.removeprefix(prefix))
    return ", ".join(words.get(word, word) for word in rest.split("_"))


def sizes(found: dict[str, Any]) -> str:
    setting = found["setting"]
    threads = int(setting.get("threads", found["hardware"]["threads"]))
    return (
        f"{threads} thread{'s' * (threads > 1)}, {setting['channels']} channels, "
        f"{setting['cells']} cells, batch {setting['batch']}"
    )


def seconds(value: float) -> str:
    """Two figures where they are milliseconds, else three at most.

    >>> seconds(0.00341), seconds(2.96), seconds(107.916)
    ('3.4 ms', '2.96 s', '108 s')
    """
    return f"{1000 * value:.2g} ms" if value < 0.1 else f"{value:.3g} s"


def mebibytes(value: float) -> str:
    return f"{value:,.0f} MiB"


def times(ratio: float) -> str:
    """Two figures.

    >>> times(35.8), times(0.926)
    ('36 ×', '0.93 ×')
    """
    return f"{ratio:.2g} ×"


def table(results: Path = RESULTS) -> str:
    """The table in Markdown, with a line for each row and none after the last.

    Raises:
        ValueError: a file of results that lacks a figure; the message names both.
    """
    lines = [[*HEAD, "file"], ["---"] * (len(HEAD) + 1)]
    for pattern, rows in SOURCES.items():
        for path in sorted(results.glob(f"{pattern}.json")):
            file = f"[{path.name}](results/{path.name})"
            try:
                found = json.loads(path.read_text("utf-8"))
                lines += [[*row, file] for row in rows(path.stem, found)]
            except KeyError as missing:
                raise ValueError(f"{path}: there is no {missing} in it") from None
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def studies(results: Path = RESULTS) -> str:
    """The networks of every study, controls among them; empty without results.

    Raises:
        ValueError: results that lack a figure; the message names both.
    """
    found = {data: folder for data, folder in STUDIES.items() if (results / folder).is_dir()}
    if not found:
        return ""
    files = ", ".join(f"[{f}](docs/results/{f}/results.json)" for f in found.values())
    how = (
        "Accuracies in per cent, mean ± standard deviation over n seeds. Noise: the largest "
        "training accuracy of a few trainings on a small fixed set of it; quick: of one on as many "
        "images as the data have, with their recipe. Every seed, command, hardware and versions: "
        f"{files}."
    )
    tables = [study(data, results / folder / "results.json") for data, folder in found.items()]
    return "\n\n".join([*tables, how])


def study(data: str, path: Path) -> str:
    """The table of one study.

    Args:
        data: what its networks have learnt, the head of their column.
        path: of its results.

    Raises:
        ValueError: as `studies`.
    """
    try:
        networks = json.loads(path.read_text("utf-8"))["networks"]
        measured = dict.fromkeys(column for of in networks for column in of)  # each once, in order
        columns = [c for c in measured if c == "test_accuracy" or c.startswith(PROTOCOLS)]
        heads = [heading(column) for column in columns]
        lines = [[data, "n", "parameters", *heads], ["---"] * (3 + len(columns))]
        for of in networks:
            # A network that is measured on noise alone has no training to state them.
            parameters = f"{of['parameters']['mean']:,.0f}" if "parameters" in of else ""
            shown = [mean_of_seeds(of.get(column), len(of["seeds"])) for column in columns]
            lines.append([of["title"], str(len(of["seeds"])), parameters, *shown])
    except KeyError as missing:
        raise ValueError(f"{path}: there is no {missing} in it") from None
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def heading(column: str) -> str:
    """What a column is called.

    >>> heading("converged/random_pixels"), heading("quick/uniform"), heading("test_accuracy")
    ('noise: random pixels', 'noise, quick: uniform', 'test accuracy')
    """
    name = column.replace("converged/", "noise: ").replace("quick/", "noise, quick: ")
    return name.replace("_", " ")


def filled(text: str, rows: str, begin: str = BEGIN, end: str = END) -> str:
    """The text with the rows between its two comments.

    Raises:
        ValueError: the comments are not there, or not once.
    """
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected {begin!r} and {end!r} once each")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = f"\n\n{rows}\n\n" if rows else "\n\n"
    return f"{before}{begin}{body}{end}{after}"


def main() -> None:
    for path, rows, begin, end in (
        (ROOT / "docs" / "performance.md", table(), BEGIN, END),
        (ROOT / "README.md", studies(), STUDY_BEGIN, STUDY_END),
    ):
        write_text(path, filled(path.read_text("utf-8"), rows, begin, end))
        print(rows)


if __name__ == "__main__":
    main()
