"""Cells that the config names: compared as the searched ones are, without a search."""

import json
from dataclasses import replace

import pytest
from small_studies import ended_study, settings_of, small_study, written

import darts_noise as dn
from darts_noise.space.spaces import get_space
from darts_noise.study.cells import all_skip_cell, random_cell
from darts_noise.study.networks import compared_networks
from darts_noise.study.units import units_of
from darts_noise.study.work import Worker

CELLS = [random_cell(get_space("noise", 1), seed) for seed in (0, 1)]
ALONE = {"noise_weights": [], "controls": {}, "unseen_families": [], "quick": None}


@pytest.fixture
def files(tmp_path):
    """Of the cells, beside the study's file."""
    for number, cell in enumerate(CELLS):
        cell.to_json(tmp_path / f"{number}.json")
    return ["0.json", "1.json"]


def test_each_seed_has_its_own_of_a_list_and_one_cell_has_the_seeds_of_the_searches(
    files, tmp_path
):
    cells = {"mine": files, "skips": files[0], "v2": "DARTS_V2"}
    settings = settings_of(written(tmp_path, **ALONE, seeds=3, cells=cells))
    keys = [unit.key for unit in units_of(settings)]
    assert [key for key in keys if key.startswith("cell_mine")] == ["cell_mine/0", "cell_mine/1"]
    assert [key for key in keys if "skips" in key] == [f"cell_skips/{seed}" for seed in range(3)]
    worker = Worker(settings, tmp_path, None)
    mine, skips, published = compared_networks(settings)
    found = [worker.cell(mine, seed, None)["genotype"] for seed in (0, 1)]
    assert found == [cell.to_dict() for cell in CELLS]
    assert worker.cell(skips, 2, None)["genotype"] == CELLS[0].to_dict()
    assert worker.cell(published, 0, None)["genotype"]["normal"] == json.loads(
        json.dumps(dn.load_genotype("darts_v2").normal)
    )


def test_a_file_is_found_from_the_folder_of_the_study_or_from_the_present_one(
    files, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    all_skip_cell(1).to_json(tmp_path / "elsewhere" / "here.json")
    file = written(tmp_path, **ALONE, cells={"mine": ["0.json", "here.json"]})
    expected = [str(tmp_path / "0.json"), str(tmp_path / "elsewhere" / "here.json")]
    assert settings_of(file).cells == {"mine": expected}


def test_a_study_of_given_cells_alone_leaves_them_as_files_and_keeps_to_them(files, tmp_path):
    changes = {**ALONE, "cells": {"mine": files[0]}}
    study = ended_study(tmp_path, **changes)
    record = json.loads((study.folder / "records" / "cell_mine-seed0.json").read_text())
    assert record["test"]["test_accuracy"] > 0
    assert dn.load_genotype(study.folder / "cells" / "cell_mine-seed0.json") == CELLS[0]
    assert "| mine | 1 |" in (study.folder / "table.md").read_text()
    more = small_study(tmp_path, **{**changes, "cells": {"mine": files, "v2": "darts_v2"}})
    assert len(more.units) == 3
    replace(CELLS[0], normal=CELLS[1].normal).to_json(tmp_path / "0.json")
    with pytest.raises(ValueError, match=r"cells\.mine\.0\.normal: 'small' was begun with \[\["):
        small_study(tmp_path, **changes)
