"""Write the tables of the README and the docs from the files in ``docs/results``.

    python -m benchmarks.tables

A page holds a table between two comments, ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
The command rewrites every table of `TABLES`. Run it after a benchmark or a study.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations, product
from pathlib import Path
from statistics import mean, quantiles, stdev
from typing import Any

from scipy import stats

from benchmarks.strategies_on_table import DIGITS
from darts_noise.atomic import write_text
from darts_noise.examine.record import from_json
from darts_noise.examine.sections import list_sections, make_sections
from darts_noise.search.table import CellTable
from darts_noise.space.macro import MACRO, as_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
SUMMARY = (
    ("MNIST", "mnist_bounded_study", ("lambda_1", "lambda_0")),
    ("digits", "digits_bounded_study", ("lambda_1", "lambda_0")),
    ("CIFAR-10", "cifar10_smooth_study", ("lambda_1", "lambda_0")),
)
"""The README's table: data, study, networks."""
FAMILIES = ("uniform", "random_pixels", "random_labels")
"""The noise in the README's table."""

ALIKE = {"reduction", "reductions"}
"""Macro choices that all cells of a study share, which their table leaves out."""
CHOICES = {"normalisation": "norm", "input_filter": "filter"}
"""Shorter names of macro choices."""

BOTH = {
    "time_to_fit": (1, "Epochs", "Largest accuracy"),
    "critical_period": (2, "Test accuracy"),
    "label_complexity": (2, "Complexity", "measured"),
    "frequency": (1, "Epochs to half", "Residual at the end"),
    "wrong_labels": (1, "Average precision"),
}
"""Section of an examination → its columns that name a row, and the columns that are shown."""

BY_CHOICE = "noise_fit_by_choice_digits"

Found = dict[str, Any]
Row = list[str]


def load(name: str) -> Found:
    found: Found = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def load_all(pattern: str) -> Iterator[tuple[str, Found]]:
    """Yield the files of one benchmark, each with its device, precision and number of threads."""
    for path in sorted(RESULTS.glob(f"{pattern}.json")):
        yield described(path.stem, pattern.removesuffix("*")), load(path.stem)


def described(name: str, prefix: str) -> str:
    """Return the device and the options of a benchmark from the name of its file.

    >>> described("search_step_cpu_float32_2_threads", "search_step_")
    'CPU, float32, 2 threads'
    >>> described("retrain_cuda_bf16_compile", "retrain_")
    'GPU, bf16, compiled'
    """
    words = re.sub(r"_(\d+)_threads$", r"_\1 threads", name.removeprefix(prefix)).split("_")
    named = {"cpu": "CPU", "cuda": "GPU", "compile": "compiled", "1 threads": "1 thread"}
    named["imagenet"] = "224×224 pixels"
    return ", ".join(named.get(word, word) for word in words)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


# ---------------------------------------------------------------- what networks learn and memorise


def networks_of(name: str) -> list[Found]:
    """Return the networks of a study, or the networks of `benchmarks.main_job` in the same form."""
    if (RESULTS / name).is_dir():
        found: list[Found] = load(f"{name}/results")["networks"]
        return found
    networks: dict[str, Found] = {}
    for run in load(name)["runs"]:
        λ, noise = run["noise_weight"], run["noise"]
        network = {"network": f"lambda_{λ:g}", "title": f"λ = {λ:g}", "seeds": []}
        measured = {f"{noise['protocol']}/{noise['family']}": run["noise_accuracy"]}
        networks.setdefault(network["network"], network)["seeds"].append({**run, **measured})
        if control := run.get("control"):
            title = f"the cells of λ = {λ:g} with batch norm"
            network = {"network": f"control_{λ:g}", "title": title, "seeds": []}
            measured = dict.fromkeys(measured, control["noise_accuracy"])
            networks.setdefault(network["network"], network)["seeds"].append(
                {**control, **measured}
            )
    return list(networks.values())


def spread(network: Found, figure: str, digits: int = 1) -> str:
    """Return the mean ± the sample deviation over seeds in per cent, and n if seeds are missing.

    >>> spread({"seeds": [{"test": 0.98}, {"test": 0.96}]}, "test", 2)
    '97.00 ± 1.41'
    >>> spread({"seeds": [{"test": 0.98}, {}]}, "test"), spread({"seeds": [{}]}, "test")
    ('98.0 (n = 1)', '')
    >>> spread({"seeds": [{"test": None}]}, "test")
    'diverged'
    """
    seeds = network["seeds"]
    given = [seed[figure] for seed in seeds if figure in seed]
    values = [value for value in given if value is not None]
    if not values:
        return "diverged" if given else ""
    deviation = f" ± {percent(stdev(values), digits)}" if len(values) > 1 else ""
    count = f" (n = {len(values)})" if len(values) < len(seeds) else ""
    return f"{percent(mean(values), digits)}{deviation}{count}"


def size(network: Found) -> str:
    """Return the mean number of parameters over the seeds.

    >>> size({"seeds": [{"parameters": 1200}, {"parameters": 1300}, {}]}), size({"seeds": [{}]})
    ('1,250', '')
    """
    sizes = [seed["parameters"] for seed in network["seeds"] if "parameters" in seed]
    return f"{mean(sizes):,.0f}" if sizes else ""


def noise_figures(seeds: Iterable[Found]) -> list[str]:
    """Return the noise measurements that at least one seed has, such as ``converged/uniform``."""
    keys = dict.fromkeys(key for seed in seeds for key in seed)
    return [key for key in keys if key.startswith(("converged/", "quick/"))]


def heading(figure: str) -> str:
    """Return the column heading of a noise measurement.

    >>> heading("converged/random_pixels"), heading("quick/uniform")
    ('random pixels', 'uniform, quick')
    """
    protocol, _, family = figure.partition("/")
    return family.replace("_", " ") + (", quick" if protocol == "quick" else "")


def summary() -> Iterator[Row]:
    """Yield the README's table: the searched cells of each data set."""
    figures = ["test_accuracy", *(f"converged/{family}" for family in FAMILIES)]
    columns = ["test accuracy", *map(heading, figures[1:])]
    yield ["data", "searched with", "n", "parameters", *columns]
    for data, name, chosen in SUMMARY:
        networks = {network["network"]: network for network in networks_of(name)}
        for network in map(networks.__getitem__, chosen):
            count, shown = str(len(network["seeds"])), [spread(network, f) for f in figures]
            yield [data, network["title"], count, size(network), *shown]


def networks(name: str) -> Iterator[Row]:
    """Yield the table of all networks of a study, with all noise measurements."""
    found = networks_of(name)
    noise = noise_figures(seed for network in found for seed in network["seeds"])
    yield ["network", "n", "parameters", "test", *map(heading, noise)]
    for network in found:
        test, *fits = spread(network, "test_accuracy", 2), *(spread(network, f) for f in noise)
        yield [network["title"], str(len(network["seeds"])), size(network), test, *fits]


def seeds(name: str, network: str) -> Iterator[Row]:
    """Yield the table of the seeds of a network: each cell, its macro choices and its figures."""
    files = sorted((RESULTS / name / "records").glob(f"{network}-*"))
    records = [json.loads(file.read_text("utf-8")) for file in files]
    families = dict.fromkeys(family for record in records for family in record["converged"])
    real = any("real_accuracy" in fit for record in records for fit in record["converged"].values())
    stated = {choice for record in records for choice in record["cell"]["genotype"]["macro"]}
    macro = [choice for choice in MACRO if choice in stated - ALIKE]
    shown = [f"{heading(f'converged/{family}')} (chance)" for family in families]
    named = [CHOICES.get(choice, choice.replace("_", " ")) for choice in macro]
    columns = ["test", *shown, *(["real images"] if real else [])]
    yield ["seed", "normal cell", "reduction cell", *named, *columns]
    for record in records:
        genotype, fits = record["cell"]["genotype"], record["converged"]
        cells = (cell_text(genotype[kind]) for kind in ("normal", "reduce"))
        noise = [
            f"{percent(fits[family]['accuracy'])} ({percent(fits[family]['chance'])})"
            if family in fits
            else ""
            for family in families
        ]
        if real:
            least = min((fit["real_accuracy"] for fit in fits.values()), default=None)
            noise.append("" if least is None else percent(least))
        chosen = (as_text(genotype["macro"].get(choice, MACRO[choice][0])) for choice in macro)
        test = percent(record["test"]["test_accuracy"], 2) if record["test"] else ""
        yield [str(record["seed"]), *cells, *chosen, test, *noise]


def cell_text(nodes: list[list[list[Any]]]) -> str:
    """Return the operations of a cell, node by node.

    >>> cell_text([[["conv_3x3", 0], ["skip_connect", 1]], [["conv_1x1", 2]]])
    'conv_3x3 + skip_connect; conv_1x1'
    """
    return "; ".join(" + ".join(operation for operation, _ in node) for node in nodes)


def by_choice(network: str, changed: str) -> Iterator[Row]:
    """Yield the rows of one network in `benchmarks.noise_fit_by_choice`.

    Args:
        network: ``none``, ``bounded`` or ``batch``.
        changed: ``operation``, or ``choice``: first the network without a changed choice, then the
            networks with one.
    """
    found = load(BY_CHOICE)
    families, setting = ("uniform", "random_pixels", "random_labels"), found["setting"]
    figures = ["parameters", "validation", *(heading(f"converged/{family}") for family in families)]
    yield [changed, *figures, "epochs to 90% of real images"]
    for row in found["rows"].values():
        choice, operation = row["choice"], row["operation"]
        if row["network"] != network:
            continue
        if changed == "choice" and (choice or operation == "conv_3x3"):
            title = f"`{choice}` {as_text(row['value'])}" if choice else "no change"
        elif changed == "operation" and not choice:
            title = f"`{operation}`"
        else:
            continue
        fits = [fitted(row[family]["accuracy"], setting["target"]) for family in families]
        real, epochs = row["real"]["accuracy"] or 0.0, row["real"]["epochs"]
        yield [
            title,
            f"{row['parameters']:,}",
            percent(row["validation"]),
            *fits,
            str(epochs) if real >= setting["real_target"] else f"never ({percent(real)})",
        ]


def fitted(accuracy: float | None, target: float) -> str:
    """Return the accuracy of a training that stops at the target.

    >>> fitted(0.434, 0.99), fitted(0.992, 0.99), fitted(None, 0.99)
    ('43.4', '≥ 99', 'diverged')
    """
    if accuracy is None:
        return "diverged"
    return f"≥ {percent(target, 0)}" if accuracy >= target else percent(accuracy)


def proxies() -> Iterator[Row]:
    """Yield how well a short training of `benchmarks.noise_fit_by_choice` predicts the full one.

    Fewer than five networks say nothing.
    """
    yield ["figure", "short training", "epochs", "Spearman's ρ", "n"]
    for row in (row for row in load(BY_CHOICE)["spearman"] if row["n"] >= 5):
        of = "validation" if row["of"] == "validation" else heading(f"converged/{row['of']}")
        yield [of, row["proxy"], str(row["epochs"]), f"{row['rho']:.2f}", str(row["n"])]


def not_learnt() -> Iterator[Row]:
    yield ["λ", "parameters", "CIFAR-10, test accuracy", "MNIST, training accuracy"]
    for run in load("mnist_not_learnt")["runs"]:
        figures = (percent(run[figure]) for figure in ("test_accuracy", "noise_accuracy"))
        yield [f"{run['noise_weight']:g}", f"{run['parameters']:,}", *figures]


def variants() -> Iterator[Row]:
    yield ["search", "parameters", "test accuracy", "noise accuracy"]
    for name, run in load("variants_mnist")["runs"].items():
        figures = map(percent, (run["test_accuracy"], run["noise"]["accuracy"]))
        yield [name.removeprefix("darts, "), f"{run['parameters']:,}", *figures]


def wrong_labels(data: str, figure: str) -> Iterator[Row]:
    """Yield one figure of `benchmarks.wrong_labels`, with a column for each share of wrong labels.

    Args:
        data: the data set.
        figure: a key of a training in the file. Trainings that lack it have no row.
    """
    shares, rows = by_share(data, figure)
    seeds = max(len(found) for of in rows.values() for found in of.values())
    yield ["network", "trained on", *(f"{percent(share, 0)}% wrong" for share in shares)]
    for named, of in rows.items():
        found = (of.get(share, []) for share in shares)
        complete = ([*each, *[{}] * (seeds - len(each))] for each in found)  # a gap is stated
        yield [*named, *(spread({"seeds": each}, figure) for each in complete)]


def wrong_labels_gain(data: str, figure: str) -> Iterator[Row]:
    """Yield how many points the cell of λ = 1 on all samples has more than the other networks.

    Both have the same seed and wrong labels. In brackets: the 95% interval of the mean, by t.
    """
    shares, rows = by_share(data, figure)
    cell = rows["cell, λ = 1", "all samples"]
    yield ["compared with", "trained on", *(f"{percent(share, 0)}% wrong" for share in shares)]
    for (network, trained), of in rows.items():
        if network != "cell, λ = 1":
            pairs = (
                [
                    100 * (one[figure] - other[figure])
                    for one in cell.get(share, [])
                    for other in of.get(share, [])
                    if one["seed"] == other["seed"]
                ]
                for share in shares
            )
            yield [network, trained, *map(interval, pairs)]


def interval(values: list[float], digits: int = 1) -> str:
    """Return the mean with its 95% interval, by Student's t. Of two values it would say nothing.

    >>> interval([1.0, 2.0, 3.0]), interval([1.0, 2.0]), interval([])
    ('+2.0 (-0.5 to +4.5)', '+1.5 (n = 2)', '')
    """
    if len(values) < 3:
        return f"{mean(values):+.{digits}f} (n = {len(values)})" if values else ""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    ends = mean(values), mean(values) - half, mean(values) + half
    shown, low, high = (f"{end:+.{digits}f}" for end in ends)
    return f"{shown} ({low} to {high})"


def by_share(
    data: str, figure: str
) -> tuple[list[float], dict[tuple[str, str], dict[float, list[Found]]]]:
    """Return all shares, and the trainings with a figure by network, method and share."""
    runs = [run for run in load(f"wrong_labels_{data}")["runs"] if figure in run]
    rows: dict[tuple[str, str], dict[float, list[Found]]] = {}
    for run in sorted(runs, key=lambda run: (run["network"], run["method"])):
        network = re.sub(r"^lambda_(.+)$", r"cell, λ = \1", run["network"]).replace("_cnn", " CNN")
        trained = "all samples" if run["method"] == "none" else f"`{run['method']}`"
        rows.setdefault((network, trained), {}).setdefault(run["share"], []).append(run)
    return sorted({run["share"] for run in runs}), rows


def results_of(section: str) -> Iterator[tuple[str, Any, Found]]:
    """Yield each data set of `benchmarks.examine_pair` with the section and its results by network.

    A data set on which the section was not measured is left out.
    """
    made = make_sections((section,), {})[section]
    for file in sorted(RESULTS.glob("examine_*.json")):
        found = load(file.stem)["sections"].get(section, {})
        results = {network: from_json(made.result, result) for network, result in found.items()}
        if results:
            yield file.stem.removeprefix("examine_"), made, results


def examined() -> list[str]:
    """Return the sections that are measured on a data set."""
    measured = {name for _, found in load_all("examine_*") for name in found["sections"]}
    return [name for name in list_sections() if name in measured]


def answers(section: str) -> Iterator[Row]:
    """Yield the answer of a section for each data set and network."""
    yield ["data", "network", "answer"]
    for data, made, results in results_of(section):
        for network, result in results.items():
            yield [data, network, made.sentence(result)]


def side_by_side(section: str, keys: int, *columns: str) -> Iterator[Row]:
    """Yield the first table of a section with both networks beside each other.

    Args:
        section: name of the section.
        keys: number of its first columns, which name a row.
        columns: the columns that are shown for each network.
    """
    for i, (data, made, results) in enumerate(results_of(section)):
        tables = {network: made.tables(result)[0] for network, result in results.items()}
        if i == 0:
            named = next(iter(tables.values())).head[:keys]
            shown = [f"{network}: {column.lower()}" for network in tables for column in columns]
            yield ["data", *(key.lower() for key in named), *shown]
        rows: dict[tuple[str, ...], Row] = {}
        for table in tables.values():
            places = [list(table.head).index(column) for column in columns]
            for row in table.rows:
                rows.setdefault(tuple(row[:keys]), []).extend(row[place] for place in places)
        yield from ([data, *key, *cells] for key, cells in rows.items())


# ---------------------------------------------------------------- what it costs


def ensembles() -> Iterator[Row]:
    """Yield the accuracies of `benchmarks.ensembles`, without and under attack."""
    other, member, itself = "another network", "the first member", "the ensemble"
    heads = [f"FGSM on {other}", f"FGSM on {member}", f"FGSM on {itself}", f"PGD on {itself}"]
    yield ["networks", "rule", "no attack", *heads]
    runs = load("ensembles_mnist")["runs"]
    first = [run for run in runs if run["size"] == min(run["size"] for run in runs)]
    alone = [
        {"clean": clean, "fgsm": fgsm, "pgd": run["fgsm+pgd"]["outside_alone"][1]}
        for run in first
        for clean, fgsm in [run["fgsm"]["outside_alone"]]
    ]
    figures = [spread({"seeds": alone}, name) for name in ("clean", "fgsm", "pgd")]
    yield ["1, the other network", "", figures[0], "", "", *figures[1:]]
    kinds = ("clean", "outside", "member", "itself", "pgd")
    rows = [(first, "1, the first member", "single")]
    for size in sorted({run["size"] for run in runs}):
        of_size = [run for run in runs if run["size"] == size]
        rows += [(of_size, str(size), rule) for rule in ("mean", "max", "vote")]
    for chosen, networks, rule in rows:
        seeds = [
            {
                "clean": run["fgsm"]["accuracy"][rule],
                **{k: v[rule][0] for k, v in run["fgsm"]["attacked"].items()},
                "pgd": run["fgsm+pgd"]["attacked"]["itself"][rule][0],
            }
            for run in chosen
        ]
        shown = "" if rule == "single" else rule
        yield [networks, shown, *(spread({"seeds": seeds}, kind) for kind in kinds)]


def performance() -> Iterator[Row]:
    """Yield the figures that a user asks for first. A ratio compares two sides of one file."""
    yield ["question", "figure", "measured"]
    step, training = load("search_step_cpu_float32_1_threads"), load("retrain_cpu_float32")
    waits = {k: f"{of['wall_s']['median']:.1f} s" for k, of in load("startup")["commands"].items()}
    network, ways = "`darts_v2`, 16 channels, 8 cells", load("latency")["batches"]["1"]
    eager, onnx = (ways[way]["cpu_ms"]["median"] for way in ("eager", "ONNX Runtime"))
    processes = {k: of["images_per_s"] for k, of in load("processes")["timed"].items()}
    share = 100 * load("processes")["expected"]["DARTS's supernet"]["64 GPUs"]
    form = "DARTS, 16 channels, 8 cells, batch size 16, 1 thread"
    both = (load("search_step_cpu_float32_2_threads"), step)
    low, high = sorted(of["textbook_over_shared"] for of in both)
    speed = f"{low:.1f} to {high:.1f} × textbook"
    yield ["How fast is a search step?", speed, form.replace("1 thread", "2 threads and 1")]
    memory = f"{step['memory_shared_over_textbook']:.2f} × textbook"
    yield ["How much memory does it take?", memory, form]
    aware = f"{step['noise_aware_over_plain']:.1f} × a plain step"
    yield ["What does the noise penalty cost?", aware, form]
    for title, found in (
        ("How fast is training?", training),
        ("… in bf16?", load("retrain_cpu_bf16")),
        ("… compiled?", load("retrain_cpu_float32_compile")),
    ):
        rate = found["sides"]["package"]["median_images_per_s"]
        figure = f"{found['package_over_plain']:.2f} × a plain loop ({rate:.0f} images/s)"
        yield [title, figure, f"{network}, 2 threads"]
    figure = f"{eager / onnx:.0f} × eager ({onnx:.1f} ms)"
    yield ["How fast is inference by ONNX Runtime?", figure, f"{network}, one image, 1 thread"]
    gain = processes["two, twice the batch"] / processes["one process"]
    figure = f"{gain:.2f} × one; 64 GPUs: {share:.0f}% of linear (estimate)"
    yield ["How fast are two processes?", figure, "search on digits, 2 cores"]
    yield ["How soon does a search begin?", waits["search.py, first step"], "from the command"]
    yield ["How soon does `--help` answer?", waits["search.py --help"], "from the command"]


def performance_in_short() -> Iterator[Row]:
    """Yield the three rows of `performance` for the README."""
    head, step, _, penalty, training, *_ = performance()
    yield from (head, step, penalty, training)


CORRELATED = {
    "uniform": "noise fit",
    "robust_0.05": "attack",
    "pruned_0.8": "80% pruned",
    "wrong_labels": "wrong labels",
}
"""The figures in the tables of `benchmarks.correlations`, with their names."""


def correlations(of: str, *others: str) -> Iterator[Row]:
    """Yield ρ of pairs of figures in `benchmarks.correlations`, with 95% intervals.

    Args:
        of: ``rho``, or ``partial`` for the partial correlations.
        others: figures whose correlation with each of `CORRELATED` is given. None: all pairs of
            `CORRELATED`.
    """
    found = load("correlations")["spearman"]
    names = {"all": "all networks", "batch": "batch norm", "none": "no norm"}
    yield ["", *(f"{names[group]} (n = {of_group['n']})" for group, of_group in found.items())]
    pairs = product(others, CORRELATED) if others else combinations(CORRELATED, 2)
    titles = {"test": "test accuracy", "parameters": "parameters", **CORRELATED}
    for first, second in pairs:
        numbers = (
            group[of].get(f"{first}, {second}", group[of].get(f"{second}, {first}"))
            for group in found.values()
        )
        yield [
            f"{titles[first]}, {titles[second]}",
            *("" if n is None else f"{n[0]:.2f} ({n[1]:.2f} to {n[2]:.2f})" for n in numbers),
        ]


def small_space() -> Iterator[Row]:
    """Yield the figures of the networks in ``darts_noise/tables/digits.csv``, for each norm."""
    rows = CellTable.from_csv(DIGITS).rows
    yield ["norm", "networks", "test accuracy", "uniform noise", "fit 99% of it", "random labels"]
    for norm in ("batch", "none"):
        of = [row.figures for row in rows if row.genotype.choice("normalisation") == norm]
        spans = {
            name: [percent(cut) for cut in quantiles((row[name] for row in of), n=4)]
            for name in ("test", "uniform", "random_labels")
        }
        shown = {name: f"{half} ({low} to {high})" for name, (low, half, high) in spans.items()}
        fitted = sum(row["uniform"] >= 0.99 for row in of)
        counts = str(len(of)), shown["test"], shown["uniform"], str(fitted)
        yield [norm, *counts, shown["random_labels"]]


def regrets() -> Iterator[Row]:
    """Yield the regret of each strategy on the table at parts of the budget."""
    found = load("strategies_on_digits")["strategies"]
    parts = next(iter(found.values()))["regret"]
    heads = (f"regret at {float(part):.0%}" for part in parts)
    yield ["strategy", *heads, "found the best", "test accuracy", "uniform noise"]
    for name, of in found.items():
        numbers = (f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in of["regret"].values())
        figures = percent(of["test"][0]), percent(of["uniform"][0])
        yield [f"`{name}`", *numbers, f"{of['found_best']:.0%}", *figures]


def strategies(name: str) -> Iterator[Row]:
    """Yield the figures of each search strategy in a study, and of networks without a search.

    The fourth column compares the F of each seed with that of random search, with the 95% interval
    of the mean by t.
    """
    found, hypervolumes = networks_of(name), load(f"{name}/results").get("hypervolume", {})
    noise = noise_figures(seed for network in found for seed in network["seeds"])
    columns = ["F", "F − F of `random`", "test", *map(heading, noise), "hypervolume"]
    yield ["search", "n", *columns, "gradient steps"]
    objectives = {
        network.get("strategy"): {s["seed"]: s["objective"] for s in network["seeds"]}
        for network in found
        if "strategy" in network
    }
    for network in found:
        strategy, seeds = network.get("strategy"), network["seeds"]
        shown, accuracies = [""] * 2, [spread(network, f) for f in ("test_accuracy", *noise)]
        volume, steps = "", ""
        if strategy is not None:
            own, random = objectives[strategy], objectives["random"]
            shown[0] = f"{mean(own.values()):.3f}"
            if strategy != "random":
                shown[1] = interval([own[seed] - random[seed] for seed in own if seed in random], 3)
            area = hypervolumes.get(strategy, {"mean": None, "interval": None})
            if area["interval"]:
                low, high = area["interval"]
                volume = f"{area['mean']:.3f} ({low:.3f} to {high:.3f})"
            steps = f"{mean(seed['gradient_steps'] for seed in seeds):,.0f}"
        title = network["title"] if strategy is None else f"`{strategy}`"
        yield [title, str(len(seeds)), *shown, *accuracies, volume, steps]


def predictors() -> Iterator[Row]:
    """Yield Spearman's ρ of each cheap figure with what it should predict, for each norm."""
    groups = load("cheap_predictors")["groups"]
    titles = {"test": "test accuracy", "uniform": "uniform noise"}
    names = {"all": "all", "batch": "batch norm", "none": "no norm"}
    yield ["figure", *(f"{t}, {names[g]}" for t in titles.values() for g in groups)]
    for figure in groups["all"]["test"]:
        found = (groups[g][target][figure]["rho"] for target in titles for g in groups)
        yield [figure, *("" if rho is None else f"{rho:.2f}" for rho in found)]


def search_step() -> Iterator[Row]:
    yield ["device", "supernet", "time of a step (s)", "peak memory (MiB)"]
    for device, found in load_all("search_step_*"):
        for side, of in found["sides"].items():
            yield [device, side, f"{of['median_s']:.2f}", f"{of['peak_mib']:,}"]


def hypergradient() -> Iterator[Row]:
    yield ["method", "time of a step (s)", "time / first order", "memory / first order"]
    for method, of in load("hypergradient")["methods"].items():
        ratios = (f"{of[key]:.2g}" for key in ("time_ratio", "memory_ratio"))
        yield [f"`{method}`", f"{of['median_s']:.1f}", *ratios]


def penalties() -> Iterator[Row]:
    yield ["penalty", "CPU time of a step (s)", "time / λ = 0"]
    steps = load("penalties")["penalties"]
    for name, of in sorted(steps.items(), key=lambda item: item[1]["time_ratio"]):
        shown = "λ = 0" if name == "none" else f"`{name}`"
        yield [shown, f"{of['median_s']:.2f}", f"{of['time_ratio']:.2g}"]


def growth() -> Iterator[Row]:
    """Yield the table of exponents: how the cost of a search step grows with each size."""
    named = {"batch": "batch size", "side": "image side", "candidates": "operations per edge"}
    time = "exponent of the time"
    yield ["device", "size", time, f"{time}, largest two", "exponent of the peak memory"]
    for device, found in load_all("growth_*"):
        for size, of in found["sizes"].items():
            time_s, memory = of["time_s"], of["peak_mib"]
            exponents = time_s["exponent"], time_s["exponent_at_end"], memory["exponent"]
            yield [device, named.get(size, size), *(f"{number:g}" for number in exponents)]


def training() -> Iterator[Row]:
    speeds = ["plain loop (images/s)", "`train.py` (images/s)"]
    yield ["device", *speeds, "speed / plain loop", "memory / plain loop"]
    for device, found in load_all("retrain_*"):
        rates = (f"{of['median_images_per_s']:,.0f}" for of in found["sides"].values())
        ratios = (found["package_over_plain"], found["memory_package_over_plain"])
        yield [device, *rates, *(f"{ratio:.2f}" for ratio in ratios)]


def loading() -> Iterator[Row]:
    yield ["device", "step", "batches (ms)", "whole step (s)", "share (%)"]
    for device, found in load_all("loading_*"):
        for step in ("search", "training"):
            of = found[step]
            times = f"{1000 * of['batches_median_s']:.1f}", f"{of['step_median_s']:.2f}"
            yield [device, step, *times, f"{of['median_percent']:g}"]


def latency() -> Iterator[Row]:
    found = load("latency")["batches"]
    yield ["batch size", *next(iter(found.values()))]
    for batch, ways in found.items():
        yield [batch, *(f"{of['cpu_ms']['median']:.1f}" for of in ways.values())]


def startup() -> Iterator[Row]:
    yield ["command", "time (s)", "CPU time (s)"]
    for command, of in load("startup")["commands"].items():
        yield [f"`{command}`", *(f"{of[key]['median']:.2f}" for key in ("wall_s", "cpu_s"))]


TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "summary": summary,
    "ensembles, MNIST": ensembles,
    "digits": partial(networks, "main_job_digits"),
    "digits, strong": partial(networks, "digits_bounded_study"),
    "digits, λ = 1": partial(seeds, "digits_bounded_study", "lambda_1"),
    "digits, λ = 0": partial(seeds, "digits_bounded_study", "lambda_0"),
    "digits, labels": partial(networks, "digits_labels_study"),
    "digits, labels, λ = 1": partial(seeds, "digits_labels_study", "lambda_1"),
    "digits, labels, λ = 10": partial(seeds, "digits_labels_study", "lambda_10"),
    "digits, labels, darts": partial(networks, "digits_labels_darts_study"),
    "digits, labels, strategies": partial(strategies, "digits_labels_candidates_study"),
    "digits, labels, strategies, darts": partial(
        seeds, "digits_labels_candidates_study", "lambda_1"
    ),
    "digits, labels, strategies, random": partial(
        seeds, "digits_labels_candidates_study", "strategy_random_1"
    ),
    "mnist": partial(networks, "mnist_bounded_study"),
    "digits not permuted": partial(networks, "digits_not_permuted_study"),
    "digits not permuted, λ = 1": partial(seeds, "digits_not_permuted_study", "lambda_1"),
    "digits not flipped": partial(networks, "digits_not_flipped_study"),
    "mnist, Muon": partial(networks, "mnist_muon_study"),
    "mnist, by hand": partial(seeds, "mnist_by_hand_study", "cell_by_hand"),
    "mnist, λ = 1": partial(seeds, "mnist_bounded_study", "lambda_1"),
    "mnist, λ = 0": partial(seeds, "mnist_bounded_study", "lambda_0"),
    "mnist, parts": partial(networks, "mnist_parts_study"),
    "mnist noise": partial(networks, "mnist_study"),
    "mnist noise, searched": partial(seeds, "mnist_study", "lambda_0.5"),
    "mnist noise, random": partial(seeds, "mnist_study", "random"),
    "mnist noise, longer": partial(seeds, "mnist_long_study", "lambda_0.5"),
    "mnist noise, wider": partial(seeds, "mnist_wide_study", "cell_wide"),
    "cifar10": partial(networks, "cifar10_study"),
    "cifar10 smooth": partial(networks, "cifar10_smooth_study"),
    "cifar10 smooth, λ = 1": partial(seeds, "cifar10_smooth_study", "lambda_1"),
    "cifar10 smooth, λ = 0": partial(seeds, "cifar10_smooth_study", "lambda_0"),
    "cifar10 labels": partial(networks, "cifar10_labels_study"),
    "cifar10 labels, λ = 1": partial(seeds, "cifar10_labels_study", "lambda_1"),
    "cifar10, from mnist": partial(seeds, "cifar10_study", "cell_mnist"),
    "operations, no norm": partial(by_choice, "none", "operation"),
    "operations, bounded gain": partial(by_choice, "bounded", "operation"),
    "operations, batch norm": partial(by_choice, "batch", "operation"),
    "choices, no norm": partial(by_choice, "none", "choice"),
    "choices, bounded gain": partial(by_choice, "bounded", "choice"),
    "short trainings": proxies,
    "cifar10 not mnist": partial(networks, "cifar10_not_mnist_study"),
    "cifar10 not mnist, λ = 1": partial(seeds, "cifar10_not_mnist_study", "lambda_1"),
    "cifar10 not mnist, λ = 0": partial(seeds, "cifar10_not_mnist_study", "lambda_0"),
    "not learnt": not_learnt,
    "variants": variants,
    **{
        f"wrong labels, {data}{name}": partial(make, data, figure)
        for data in ("digits", "mnist")
        for name, make, figure in (
            ("", wrong_labels, "test_accuracy"),
            (", best", wrong_labels, "best_test_accuracy"),
            (", gain", wrong_labels_gain, "test_accuracy"),
            (", gain, best", wrong_labels_gain, "best_test_accuracy"),
            (", memorised", wrong_labels, "memorised"),
            (", precision", wrong_labels, "label_precision"),
        )
        if any(figure in run for run in load(f"wrong_labels_{data}")["runs"])
    },
    **{f"answers, {name}": partial(answers, name) for name in examined()},
    **{
        f"both, {name}": partial(side_by_side, name, *BOTH[name])
        for name in examined()
        if name in BOTH
    },
    "performance": performance,
    "performance, in short": performance_in_short,
    "correlations": partial(correlations, "rho"),
    "correlations, partial": partial(correlations, "partial"),
    "correlations, with test": partial(correlations, "rho", "test", "parameters"),
    "small space": small_space,
    "small space, regret": regrets,
    "small space, predictors": predictors,
    "strategies": partial(strategies, "strategies_digits_study"),
    "search step": search_step,
    "hypergradient": hypergradient,
    "penalties": penalties,
    "growth": growth,
    "training": training,
    "loading": loading,
    "latency": latency,
    "startup": startup,
}


def table(name: str) -> str:
    """Return a table in Markdown.

    Raises:
        ValueError: no such table, or a file lacks a figure. The message names the table.
    """
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; expected one of {', '.join(TABLES)}")
    try:
        head, *rows = TABLES[name]()
    except KeyError as missing:
        raise ValueError(f"table {name!r}: its file lacks {missing}") from None
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str) -> str:
    """Return the text of a page with tables filled from the files."""
    return PLACE.sub(lambda place: f"{place[1]}\n{table(place[2])}\n\n{place[3]}", text)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    for page in pages():
        text = page.read_text("utf-8")
        if filled(text) != text:
            write_text(page, filled(text))
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
