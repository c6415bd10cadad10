"""Noise fit by choice: its trainings are those of the protocol, and a stopped run continues."""

import doctest
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import darts_noise as dn
from benchmarks import commands
from benchmarks import noise_fit_by_choice as by_choice
from benchmarks.noise_fit_by_choice import Measurement, Row, Sizes, all_rows, measure
from darts_noise.space.macro import MACRO

TINY = Sizes(
    samples=40,
    epochs=10,
    noise_batch_size=20,
    noise_rate=0.01,
    data_epochs=4,
    validation_fraction=0.9,
    channels=4,
)
LEARNS_FAST = Row("batch", "conv_1x1")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(commands, "RESULTS", tmp_path)
    return tmp_path


def read(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / f"{by_choice.FILE}.json").read_text())
    return found


def test_a_training_is_one_of_the_protocol_and_a_short_one_has_its_own_schedule() -> None:
    measurement = Measurement(TINY)
    for epochs in (TINY.epochs, 4):
        protocol = dn.noise_fit(
            LEARNS_FAST.genotype,
            measurement.data.train,
            protocol="converged",
            family="random_pixels",
            samples=TINY.samples,
            epochs=epochs,
            batch_size=TINY.noise_batch_size,
            recipe={"channels": TINY.channels, "num_cells": TINY.num_cells, "stem": "small"},
            grid=dn.NoiseGrid(
                sgd_rates=(), adam_rates=(TINY.noise_rate,), muon_rates=(), seeds=1, scales=(1.0,)
            ),
            controls={},
            normalisation=measurement.data.normalisation,
        )
        fit = measurement.fit(LEARNS_FAST.genotype, "random_pixels", epochs)
        real = measurement.fit(LEARNS_FAST.genotype, "real", epochs)
        assert (fit["accuracy"], real["accuracy"]) == (protocol.accuracy, protocol.real_accuracy)
        assert fit["accuracy"] > protocol.chance
        assert list(fit["after"].values()) == sorted(fit["after"].values())


def test_a_training_on_real_images_has_a_target_of_its_own() -> None:
    fit = Measurement(replace(TINY, real_target=0.05)).fit
    epochs = [
        fit(LEARNS_FAST.genotype, name, TINY.epochs)["epochs"] for name in ("real", "uniform")
    ]
    assert epochs == [1, TINY.epochs]


def test_no_figure_needs_test_images() -> None:
    measurement = Measurement(TINY)
    test = {image.numpy().tobytes() for image in measurement.data.test.images}
    measurement.data.test = None  # type: ignore[assignment]
    measurement.validation(LEARNS_FAST.genotype, 1)
    images = [measurement.data.train, measurement.data.validation, measurement.sets["real"]]
    assert not test & {image.numpy().tobytes() for part in images for image in part.images}


def test_every_choice_has_a_row_and_every_row_is_a_network_of_its_own() -> None:
    rows = list(all_rows())
    measured = {row.choice for row in rows} - {None}
    assert measured == set(MACRO) - {"gain", "colour"}  # two of the networks; three channels
    operations = {row.operation for row in rows if row.network == "none"}
    assert operations == set(dn.list_operations()) - set(by_choice.BLIND)
    assert len({row.name for row in rows}) == len(rows)
    measurement = Measurement(TINY)
    images = torch.zeros(2, *measurement.data.image_shape)
    for row in rows:
        if row.choice is not None:
            unchanged = Row(row.network, by_choice.REFERENCE).genotype
            assert row.value != unchanged.choice(row.choice)
        assert measurement.network(row.genotype).eval()(images).shape == (2, 10)


def test_a_row_has_all_figures_and_a_stopped_run_continues(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [LEARNS_FAST, Row("none", "conv_1x1", "pooling", "average_4")]
    made: list[Row] = []
    whole = Measurement.row

    def row(self: Measurement, row: Row, with_proxies: bool) -> dict[str, Any]:
        made.append(row)
        return {**whole(self, row, with_proxies), "cpu_s": 1.0}

    monkeypatch.setattr(Measurement, "row", row)
    measure(TINY, rows)
    unbroken = read(results)
    assert list(unbroken["rows"]) == [row.name for row in rows]
    first = unbroken["rows"][LEARNS_FAST.name]
    assert set(first) >= {"validation", "uniform", "random_pixels", "random_labels", "real"}
    assert set(first["proxies"]["uniform"]) == {"1", "2", "4"}
    assert unbroken["spearman"]

    stopped = {**unbroken, "rows": {LEARNS_FAST.name: first}}
    (results / f"{by_choice.FILE}.json").write_text(json.dumps(stopped))
    made.clear()
    measure(TINY, rows)
    assert made == rows[1:]
    assert read(results) == unbroken


def test_a_file_of_another_setting_is_kept(results: Path) -> None:
    file = results / f"{by_choice.FILE}.json"
    text = json.dumps({"setting": {"samples": 7}, "rows": {}})
    file.write_text(text)
    with pytest.raises(SystemExit, match="another setting"):
        measure(TINY, [LEARNS_FAST])
    assert file.read_text() == text


def test_the_correlation_of_ranks() -> None:
    def row(short: float | None, full: float) -> dict[str, Any]:
        noise = {"accuracy": full, "after": {"5": full**2}}
        families = dict.fromkeys(by_choice.FAMILIES, noise)
        return {**families, "proxies": {"uniform": {"5": short}}}

    rows = [row(0.3, 0.1), row(0.2, 0.2), row(0.1, 0.9), row(None, 0.5)]
    found = {(r["of"], r["proxy"], r["epochs"]): r for r in by_choice.correlations(rows)}
    own = found["uniform", "own schedule", 5]
    part = found["uniform", "first part of the full", 5]
    assert (own["rho"], own["n"]) == (-1, 3)
    assert (part["rho"], part["n"]) == (1, 4)


def test_the_examples() -> None:
    assert doctest.testmod(by_choice).failed == 0
