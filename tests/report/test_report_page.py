"""The page needs no network, runs no code, and works with a screen reader and a keyboard."""

import json
import math
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from run_folders import search_run

import darts_noise as dn
from darts_noise.reading_record import Reading
from darts_noise.report.alpha_history import read_history
from darts_noise.report.page import make_page
from darts_noise.search.candidate import Candidate, write_candidates
from darts_noise.search.heat import Heat, write_race
from darts_noise.search.learnt import write_controller
from darts_noise.search.strategies.controller import Controller


class Page(HTMLParser):
    """The elements of a document, as (tag, attributes); fails where they are not nested."""

    EMPTY = ("meta", "img", "path", "use", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY or "svg" in self.open:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


STUDY = """# tiny

| network | n | test accuracy |
| --- | --- | --- |
| λ = 0 | 2 | 98.10 ± 0.20 |
| <b>bold</b> | 2 | 97.00 |

Accuracies in per cent.

- uniform: the positive control resnet18 fits 99.90%. **Enough.**
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    evil = "<script>alert(1)</script>"
    study = folder / "study" / "tiny"
    study.mkdir(parents=True)
    (study / "table.md").write_text(STUDY)
    paths = [
        search_run(folder / "search" / "one", noise_weight=1.0, cell=evil),
        search_run(folder / "search" / "two", "darts", noise_weight=0.0),
        study,
    ]
    return make_page(paths)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_is_fetched_and_nothing_runs(text: str, page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png")), value
        assert not any(name.startswith("on") for name in attributes)
    assert not page.all("script", "link", "iframe", "object")
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in text
    assert "&lt;script&gt;alert(1)" in text
    [policy] = [a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_every_id_is_one_and_every_reference_finds_it(text: str, page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", text))
    used |= {(a["href"] or "")[1:] for a in page.all("a")}
    linked = {a.get("xlink:href") or "#" for _, a in page.elements}
    used |= {link[1:] for link in linked if link.startswith("#")} - {""}
    used |= {a["aria-labelledby"] or "" for _, a in page.elements if a.get("aria-labelledby")}
    assert used <= set(ids)


def test_it_can_be_read_aloud(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    for picture in page.all("svg"):
        if picture.get("aria-hidden") == "true":  # a piece of a line, beside its name in a legend
            continue
        assert picture["role"] == "img"
        assert len(picture["aria-label"] or "") > 5
    assert all(picture["alt"] for picture in page.all("img"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_what_scrolls_can_be_reached_with_the_keys_and_has_a_name(page: Page) -> None:
    boxes = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert boxes
    assert all(box["tabindex"] == "0" and box["role"] and box["aria-label"] for box in boxes)
    assert len(page.all("summary")) == len(page.all("details"))
    assert page.all("a")[0]["href"] == "#main"


def test_runs_and_studies_are_all_there(text: str, page: Page) -> None:
    sections = {a["id"] for a in page.all("section")}
    assert {"comparison", "run-1", "run-2", "study-3", "run-1-changes", "run-2-card"} <= sections
    assert '<h2 id="run-1-title">search one</h2>' in text
    assert "validation accuracy by epoch; search one from 0.1 (epoch 1) to 0.7 (epoch 4)" in text
    assert "<td>98.10 ± 0.20</td>" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert re.search(r'<th scope="row">λ</th><td>1</td><td>0</td>', text)


def test_of_one_run_nothing_is_compared(tmp_path: Path) -> None:
    text = make_page([search_run(tmp_path / "search" / "one", alpha=False)])
    assert "Comparison" not in text


def test_the_candidates_are_listed_as_they_were_measured(tmp_path: Path) -> None:
    run = search_run(tmp_path / "search" / "one")
    last = dn.Genotype.from_json(run / "genotype.json")
    history = read_history(run / "history.json")
    chosen = next(m.genotype for m in history.moments if m.genotype != last)
    chosen.to_json(run / "genotype.json")
    (run / "history.json").unlink()
    found = [
        Candidate(chosen, Reading(0.1, 0.9712), Reading(2.2, 0.153), 0.25),
        Candidate(last, Reading(math.inf, 0.1)),
    ]
    write_candidates(run / "candidates.json", found)
    text = make_page([run])
    assert "run-1-candidates" in {a["id"] for a in Page(text).all("section")}
    assert "<td>97.12%</td><td>15.30%</td><td>0.2500</td>" in text
    assert "<td>10.00%</td><td>not measured</td><td></td>" in text
    found[0] = replace(found[0], terms={"latency": 0.125})
    write_candidates(run / "candidates.json", found)
    assert "<td>15.30%</td><td>0.1250</td><td>0.2500</td>" in make_page([run])
    found[0] = replace(found[0], terms={}, bound=True)
    write_candidates(run / "candidates.json", found)
    assert "<td>≥ 15.30%</td><td>≥ 0.2500</td>" in make_page([run])


def test_a_race_is_drawn_and_listed_with_its_winner_first(tmp_path: Path) -> None:
    run = search_run(tmp_path / "search" / "one", alpha=False)
    reading = Reading(1.5, 0.25)
    heats = [
        Heat({"width": 1.0}, (40, 4), (reading,) * 2, (Reading(0.5, 0.9712),) * 2, 0.75),
        Heat({"width": 0.25}, (40, 4), (reading,) * 2, (), 0.875),
        Heat({"width": 0.5}, (40, 4), (reading,) * 2, (reading,) * 2, math.inf),
        Heat({"width": 1.0}, (100, 10), (reading,) * 2, (Reading(0.5, 0.98),) * 2, 1.25),
    ]
    write_race(run / "race.json", [dn.load_genotype("darts_v1")] * 2, heats)
    text = make_page([run])
    assert "run-1-race" in {a["id"] for a in Page(text).all("section")}
    rows = re.findall(
        r'<tr><th scope="row">(\d)</th><td>([\d.]+)</td><td>(\d+)</td>(.*?)</tr>', text
    )
    assert [row[:3] for row in rows] == [
        ("1", "1", "100"),
        ("2", "0.25", "40"),
        ("3", "0.5", "40"),
    ]
    assert rows[0][3] == "<td>98.00%</td><td>25.00%</td><td>1.2500</td>"
    assert rows[1][3] == "<td>not measured</td><td>25.00%</td><td>≥ 0.8750</td>"
    assert "Objective of 3 combinations" in text
    (run / "race.json").write_text("{")
    with pytest.raises(ValueError, match=r"race\.json: "):
        make_page([run])


def test_what_a_controller_has_learnt_is_drawn_and_listed(tmp_path: Path) -> None:
    run = search_run(tmp_path / "search" / "one", alpha=False)
    controller = Controller(dn.Space("tiny", ("skip_connect", "conv_3x3"), nodes=1), 3, 1)
    write_controller(run / "controller.safetensors", controller)
    cells = list(dict.fromkeys(controller.sample(300)[0]))
    found = [Candidate(cell, Reading(0.1, 0.9712), None, 0.1) for cell in cells]
    write_candidates(run / "candidates.json", found)
    text = make_page([run])
    page = Page(text)
    assert "run-1-learnt" in {a["id"] for a in page.all("section")}
    images = [a.get("xlink:href") or "" for a in page.all("image")]
    assert len(images) >= 2  # the maps of the trained and the untrained controller
    assert all(image.startswith("data:image/png") for image in images)
    rows = dict(re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', text))
    assert rows["Different cells of 1,000 draws"] == "<td>16</td><td>16</td>"
    assert rows["Draws of measured cells"] == "<td>1,000</td><td>1,000</td>"
    [connections] = [cells for name, cells in rows.items() if "connections" in name]
    assert connections == "<td>none</td><td>none</td>"
    assert "<td>97.12%, 97.12%, 97.12%</td>" in text
    (run / "controller.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"controller\.safetensors: expected the controller"):
        make_page([run])


@pytest.mark.parametrize("damaged", ["[1]", '{"candidates": [1]}', "{"])
def test_damaged_candidates_are_named(tmp_path: Path, damaged: str) -> None:
    run = search_run(tmp_path / "search" / "one")
    (run / "candidates.json").write_text(damaged)
    with pytest.raises(ValueError, match=r"candidates\.json: "):
        make_page([run])


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    run = search_run(tmp_path / "search" / "one")
    for name in ("card.json", "history.json", "genotype.json"):
        (run / name).unlink()
    page = Page(make_page([run]))
    assert {a["id"] for a in page.all("section")} == {"run-1", "run-1-curves"}


def test_six_runs_with_long_names_are_told_apart_without_a_warning(tmp_path: Path) -> None:
    names = [f"a_run_with_a_name_of_more_than_forty_letters_{i}" for i in range(6)]
    runs = [search_run(tmp_path / "search" / name, alpha=False) for name in names]
    for run in runs:
        (run / "genotype.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = make_page(runs)
    # The legend is text that wraps on a narrow screen. A line shows the style of each curve.
    [legend] = re.findall(r'<ul class="legend".*?</ul>', text, re.DOTALL)
    assert re.findall(r"<span>search (\w+)</span>", legend) == names
    looks = re.findall(r'stroke="(\S+)" \S+ stroke-dasharray="([^"]+)"', legend)
    assert len(set(looks)) == 6
    [panel] = re.findall(r'aria-label="validation accuracy by epoch.*?</svg>', text, re.DOTALL)
    for colour, _ in looks:
        assert colour == "#000000" or colour.lower() in panel.lower()  # black is SVG's default


def test_the_page_follows_the_colour_scheme_of_the_screen(text: str) -> None:
    rules = text[text.index("<style>") : text.index("</style>")]
    light, _, dark = rules.partition("(prefers-color-scheme: dark)")
    named = dict(re.findall(r"(--\w+): (#\w+)", light))
    changed = dict(re.findall(r"(--\w+): (#\w+)", dark))
    assert changed.keys() == named.keys() == {"--paper", "--ink", "--quiet", "--line", "--link"}
    assert not re.findall(r"(?:background|color): #", rules)  # colours that do not change
    assert re.search(r"svg, .scroll img { filter: invert", dark)  # figures are drawn on white


@pytest.mark.parametrize(
    ("file", "place"),
    [
        *(("card.json", place) for place in range(3)),
        *((file, 1) for file in ("genotype.json", "history.json", "metrics.csv")),
    ],
)
def test_a_broken_run_is_named_and_the_others_have_their_page(
    tmp_path: Path, file: str, place: int
) -> None:
    runs = [search_run(tmp_path / "search" / f"run-{i}", alpha=False) for i in range(3)]
    for run in runs:  # the cards are enough, and drawing would take a second
        for drawn in ("genotype.json", "metrics.csv"):
            (run / drawn).unlink()
    (runs[place] / file).write_text('{"a",\nx\n')
    with pytest.warns(UserWarning, match=rf"run-{place} is left out: .*{file}") as told:
        text = make_page(runs)
    assert len(told) == 1
    shown = {a["id"] for a in Page(text).all("section")}
    wanted = {f"run-{i + 1}" for i in range(3)}
    assert shown & wanted == wanted - {f"run-{place + 1}"}
    assert "comparison" in shown
    assert text.count("is left out: ") == 1


def test_a_card_with_another_form_is_named_too(tmp_path: Path) -> None:
    """As one that an older version has written."""
    runs = [search_run(tmp_path / "search" / f"run-{i}", alpha=False) for i in range(2)]
    card = json.loads((runs[1] / "card.json").read_text())
    (runs[1] / "card.json").write_text(json.dumps({**card, "control": {"network": "x"}}))
    with pytest.warns(UserWarning, match=r"run-1 is left out: .*another form than expected"):
        assert "run-0" in make_page(runs)
    with pytest.raises(ValueError, match="another form than expected"):
        make_page(runs[1:])


def test_a_page_of_broken_runs_alone_is_an_error(tmp_path: Path) -> None:
    runs = [search_run(tmp_path / "search" / f"run-{i}") for i in range(2)]
    for run in runs:
        (run / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"run-1.card\.json: not JSON"):
        make_page(runs)
