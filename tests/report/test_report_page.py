"""The page needs no network, runs no code, and works with a screen reader and a keyboard."""

import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from run_folders import search_run

import darts_noise as dn
from darts_noise.reading import Reading
from darts_noise.report.alpha_history import read_history
from darts_noise.report.page import make_page
from darts_noise.search.candidate import Candidate, write_candidates


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

- uniform: the positive control resnet18 fits 99.90 %. **Enough.**
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
    text = make_page([search_run(tmp_path / "search" / "one")])
    assert "Comparison" not in text


def test_the_candidates_are_listed_as_they_were_measured(tmp_path: Path) -> None:
    run = search_run(tmp_path / "search" / "one")
    last = dn.Genotype.from_json(run / "genotype.json")
    history = read_history(run / "history.json")
    chosen = next(m.genotype for m in history.moments if m.genotype != last)
    chosen.to_json(run / "genotype.json")
    found = [
        Candidate(chosen, Reading(0.1, 0.9712), Reading(2.2, 0.153), 0.25),
        Candidate(last, Reading(math.inf, 0.1)),
    ]
    write_candidates(run / "candidates.json", found)
    text = make_page([run])
    assert "run-1-candidates" in {a["id"] for a in Page(text).all("section")}
    assert "<td>97.12 %</td><td>15.30 %</td><td>0.2500</td>" in text
    assert "<td>10.00 %</td><td>not measured</td><td></td>" in text


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
