"""The race over macro choices: who races, who wins, and what it costs."""

import json
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

import darts_noise as dn
from darts_noise.errors import SettingError
from darts_noise.reading_record import Reading
from darts_noise.search import candidate_trainings
from darts_noise.search import race as racing
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.heat import Heat, read_race, standing, write_race
from darts_noise.search.race import combinations, narrowed, race, reference_cells
from darts_noise.space import spaces

NOISE_WEIGHT = 2.0
CONFIG = dn.SearchConfig(
    "noise",
    nodes=1,
    channels=4,
    num_cells=3,
    stem="small",
    noise_samples=32,
    noise_weight=NOISE_WEIGHT,
    race=16,
)


@pytest.fixture
def ready(digits):
    """Makes the arguments of `race`."""

    def make(config, **more):
        data = digits(**more)
        module = dn.SearchModule(narrowed(config, combinations(config)[0]))
        module.build(data)
        return config, module, data

    return make


# ---------------------------------------------------------------- who races


def test_all_combinations_race_if_there_are_few():
    config = replace(CONFIG, macro={"width": [1.0], "pooling": ["none", "average_2"]}, race=18)
    found = combinations(config)
    assert len({tuple(macro.items()) for macro in found}) == len(found) == 3 * 3 * 2
    assert {macro["width"] for macro in found} == {1.0}
    assert combinations(replace(config, race=1000)) == found


@pytest.mark.parametrize("count", [4, 16, 107])
@pytest.mark.parametrize("seed", range(3))
def test_a_sample_has_every_value_of_every_choice(count, seed):
    config = replace(CONFIG, race=count, seed=seed)
    found = combinations(config)
    assert len({tuple(macro.items()) for macro in found}) == len(found) == count
    for name, values in spaces.get_space("noise").macro:
        counts = Counter(macro[name] for macro in found)
        assert counts.keys() == set(values)
        if count == 16:
            assert max(counts.values()) - min(counts.values()) <= 3
    assert combinations(config) == found
    assert combinations(replace(config, seed=seed + 100)) != found


MAPPINGS = [
    {"gain": "free"},
    {"gain": ["bounded"], "logit_scale": [256, 1024], "colour": "all"},
    {"gain": "bounded", "logit_scale": 1024.0},  # is among those of the second
]


def test_the_combinations_of_a_list_are_those_of_all_its_mappings():
    config = replace(CONFIG, space="nas_bench_201", macro=MAPPINGS)
    found = [tuple(macro.items()) for macro in combinations(config)]
    free, low, high = found
    assert free == (("gain", "free"), ("logit_scale", 1.0), ("colour", "all"))
    assert (low, high) == tuple(
        (("gain", "bounded"), ("logit_scale", scale), ("colour", "all")) for scale in (256, 1024)
    )
    drawn = {macro["gain"] for macro in combinations(replace(config, race=2))}
    assert drawn == {"free", "bounded"}
    only = replace(config, macro=[{"gain": ["free", "bounded"]}])
    assert combinations(only) == combinations(replace(config, macro={"gain": ["free", "bounded"]}))


def test_a_list_without_a_race_is_refused():
    with pytest.raises(SettingError, match=r"^macro: expected one mapping.* race"):
        replace(CONFIG, race=0, macro=MAPPINGS)


@pytest.mark.parametrize("cells", [1, 3])
def test_each_combination_is_trained_in_so_many_cells(ready, monkeypatch, cells):
    played = Played(monkeypatch)
    config, module, data = ready(replace(CONFIG, race=2, race_cells=cells))
    heats = race(config, module, data)
    winner = standing(heats)[0]
    assert len(reference_cells(module)) == len(winner.noise) == len(winner.validation) == cells
    whole = played.whole(winner.macro, reference_cells(module), 1.0)
    assert winner.objective == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"race": 1}, r"^race: expected 0 \(no race\), or 2 or more, got 1$"),
        ({"race": -1}, r"^race: expected 0"),
        ({"space": "darts"}, r"^model.race: expected 0, because no macro choice of space 'darts'"),
        ({"space": "bounded", "macro": {"logit_scale": [64.0]}}, r"^model.race: expected 0"),
        ({"macro": {"width": [3.0]}}, r"^macro.width: expected some of"),
        ({"macro": [{"width": 1.0}, {"width": 3.0}]}, r"^macro.width: expected some of"),
        ({"macro": [{"width": 1.0}, {"widht": 1.0}]}, r"^macro: .*'width'"),
        ({"macro": ["width"]}, r"^macro: expected choices"),
        ({"macro": []}, r"^macro: expected choices"),
        ({"race_cells": 0}, r"^race_cells: expected 1 or more"),
        ({"space": "darts", "macro": [{"width": 1.0}] * 2}, r"^model.race: expected 0"),
    ],
)
def test_a_race_that_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(SettingError, match=message):
        combinations(replace(CONFIG, **changes))


# ---------------------------------------------------------------- who wins


def test_the_winner_learns_and_does_not_memorise(ready, monkeypatch):
    """Batch norm memorises, and a bounded gain with logits of at most 1 learns nothing."""
    macro = {"gain": ("free", "bounded"), "reduction": ("average",), "logit_scale": (1.0, 1024.0)}
    operations = ("conv_3x3", "skip_connect")
    space = spaces.Space("toy", operations, 1, macro=tuple(macro.items()))
    monkeypatch.setitem(spaces._SPACES, "toy", space)
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 20)
    monkeypatch.setattr(racing, "SHARES", (1.0,))
    config = replace(CONFIG, space="toy", channels=6, race=4, candidate_epochs=60, noise_weight=3.0)
    config = replace(config, race_cells=1)
    heats = race(*ready(config, train_samples=400, batch_size=50))
    found = {tuple(heat.macro.values()): heat for heat in heats}
    assert standing(heats)[0] is found["bounded", "average", 1024.0]
    assert found["bounded", "average", 1024.0].objective < 2.0
    assert found["bounded", "average", 1.0].objective > 2.2
    assert found["free", "average", 1.0].noise[0].accuracy > 0.95


class Played:
    """Trainings that take no time: their figures are random numbers, seeded by the combination."""

    def __init__(self, monkeypatch):
        self.salt = 0
        self.trained: list[tuple[str, int]] = []  # kind and steps
        monkeypatch.setattr(CandidateTrainings, "on_noise", self._on_noise(self))
        monkeypatch.setattr(CandidateTrainings, "on_data", self._on_data(self))

    def figures(self, genotype, share):
        """The losses on noise after each epoch, and the loss on validation images."""
        drawn = random.Random(f"{self.salt} {genotype.normal} {genotype.macro} {share}")
        start = drawn.uniform(0.0, 2.4)
        return [start + drawn.uniform(0, 0.3) for _ in range(5)], drawn.uniform(0, 3)

    @staticmethod
    def _on_noise(played):
        def on_noise(self, genotype, channels, noise, enough, share):
            losses, _ = played.figures(genotype, share)
            while losses:
                loss = losses.pop(0)
                if enough(loss):
                    break
            played.trained.append(("noise", 5 - len(losses)))
            self.steps += 5 - len(losses)
            return Reading(loss, 0.5)

        return on_noise

    @staticmethod
    def _on_data(played):
        def on_data(self, genotype, channels, share):
            self.steps += 5
            played.trained.append(("data", 5))
            return Reading(played.figures(genotype, share)[1], 0.5)

        return on_data

    def whole(self, macro, cells, share):
        """F of a combination, by its definition."""
        total = 0.0
        for cell in cells:
            losses, validation = self.figures(replace(cell, macro=macro), share)
            total += validation + NOISE_WEIGHT * max(0.0, 1 - min(losses) / math.log(10))
        return total / len(cells)


@pytest.mark.parametrize("count", [2, 3, 8, 24])
def test_the_savings_never_change_the_winner(ready, monkeypatch, count):
    """Against all trainings made to their end."""
    played, saved = Played(monkeypatch), 0
    config, module, data = ready(replace(CONFIG, race=count))
    cells, everybody = reference_cells(module), combinations(config)
    for played.salt in range(25):
        left = everybody
        for share in racing.SHARES[-math.ceil(math.log2(count)) :]:
            keep = 1 if share == 1 else math.ceil(len(left) / 2)
            found = {i: played.whole(macro, cells, share) for i, macro in enumerate(left)}
            left = [left[i] for i in sorted(found, key=found.__getitem__)[:keep]]
        heats = race(config, module, data)
        [winner, *others] = standing(heats)
        assert [winner.macro] == left
        assert winner.objective == pytest.approx(played.whole(winner.macro, cells, 1.0), abs=1e-5)
        assert all(heat.objective >= winner.objective for heat in others if heat.epochs[0] == 100)
        for heat in heats:
            share = heat.epochs[0] / 100
            assert heat.objective <= played.whole(heat.macro, cells, share) + 1e-5
            saved += not heat.is_complete
    assert saved > 5


def test_the_last_rung_has_the_length_of_a_candidates_training(ready, monkeypatch):
    played = Played(monkeypatch)
    for count, lengths in ((2, {100}), (3, {40, 100}), (16, {40, 100})):
        config = replace(CONFIG, race=count, candidate_epochs=10)
        heats = race(*ready(config))
        assert {heat.epochs[0] for heat in heats} == lengths
        assert {heat.epochs for heat in heats} <= {(40, 4), (100, 10)}
        assert sum(heat.steps for heat in heats) == sum(steps for _, steps in played.trained)
        played.trained.clear()


def test_a_combination_that_diverges_does_not_win(ready, monkeypatch):
    Played(monkeypatch)
    config, module, data = ready(replace(CONFIG, race=4))
    best = standing(race(config, module, data))[0].macro
    usual = CandidateTrainings.on_noise

    def diverges(self, genotype, *args, **more):
        fit = usual(self, genotype, *args, **more)
        return Reading(math.inf, 0.1) if genotype.macro == best else fit

    monkeypatch.setattr(CandidateTrainings, "on_noise", diverges)
    heats = race(config, module, data)
    assert standing(heats)[0].macro != best
    [lost] = [heat for heat in heats if heat.macro == best]
    assert lost.objective == math.inf


def test_without_a_penalty_validation_alone_decides(ready, monkeypatch):
    played = Played(monkeypatch)
    heats = race(*ready(replace(CONFIG, race=4, noise_weight=0.0)))
    assert {kind for kind, _ in played.trained} == {"data"}
    assert all(not heat.noise for heat in heats)


def test_of_equal_combinations_the_one_that_led_wins():
    one, other = {"logit_scale": 1.0}, {"logit_scale": 16.0}
    heats = [
        Heat(macro, (epochs, 1), objective=objective)
        for macro, epochs, objective in ((one, 40, 0.2), (other, 40, 0.1), (other, 100, 0.5))
    ]
    assert standing([*heats, Heat(one, (100, 1), objective=0.5)])[0].macro == other


def test_the_line_of_a_heat_has_the_epochs_of_the_training_that_it_shows():
    noise = Heat({}, (100, 40), noise=(Reading(2.3, 0.1),), objective=0.1)
    assert str(noise).startswith("100 epochs  noise 0.100")
    on_data = replace(noise, validation=(Reading(0.2, 0.9),), cells=1)
    assert str(on_data).startswith("40 epochs  val 0.900")


# ---------------------------------------------------------------- one training, random numbers


def test_the_last_heat_is_the_measurement_of_a_candidate(ready, monkeypatch):
    """The same cell with the same choices, measured at the end of a search."""
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
    monkeypatch.setattr(racing, "SHARES", (1.0,))
    config = replace(CONFIG, race=2, candidate_epochs=1, macro={"pooling": ["average_4"]})
    config, module, data = ready(config)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    heats = race(config, module, data)
    assert torch.equal(torch.get_rng_state(), before)
    winner = standing(heats)[0]
    trainings = CandidateTrainings(module, data)
    cells = [replace(cell, macro=winner.macro) for cell in reference_cells(module)]
    measured = [trainings.measured(cell) for cell in cells]
    assert [c.validation for c in measured] == list(winner.validation)
    assert [c.noise for c in measured] == list(winner.noise)
    assert sum(c.steps for c in measured) == winner.steps


def test_the_reference_cells_are_cells_of_the_space():
    made = [
        reference_cells(dn.SearchModule(space="robust_darts_s1", race=4, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]
    space = spaces.get_space("robust_darts_s1")
    for cell in made[0]:
        for kind in ("normal", "reduce"):
            allowed = dict(zip(space.edges, space.candidates(kind), strict=True))
            for node, pairs in enumerate(getattr(cell, kind)):
                assert all(name in allowed[predecessor, node] for name, predecessor in pairs)


# ---------------------------------------------------------------- the file


def test_a_race_is_read_as_it_was_written(tmp_path):
    cell = dn.Architecture("bounded", nodes=1).genotype()
    heats = [
        Heat({"logit_scale": 64.0}, (5, 2), (Reading(2.25, 0.125),), (), 0.1 + 0.2, 7),
        Heat({"logit_scale": 64.0}, (15, 6), (), (Reading(math.inf, 0.1),) * 2, math.inf, 9),
    ]
    write_race(tmp_path / "race.json", [cell, cell], heats)
    assert read_race(tmp_path / "race.json") == ([cell, cell], heats)


@pytest.mark.parametrize(
    "damage",
    [
        *({"macro": 1}, {"macro": {"widht": 1.0}}, {"macro": {"width": 3.0}}),
        *({"epochs": [1]}, {"epochs": [1, 2.0]}, {"epochs": 1}, {"steps": "1"}),
        *({"noise": None}, {"noise": [[1.0]]}, {"validation": [[1.0, 0.1]] * 3}),
        *({"objective": "x"}, {"more": 1}),
    ],
)
def test_what_is_no_race_is_refused(tmp_path, damage):
    row = Heat({"logit_scale": 64.0}, (5, 2)).to_dict()
    file = tmp_path / "race.json"
    file.write_text(json.dumps({"cells": [], "heats": [{**row, **damage}]}))
    with pytest.raises(ValueError, match=r"race\.json: "):
        read_race(file)
    file.write_text("[1]")
    with pytest.raises(ValueError, match=r"race\.json: expected the cells and heats of a race"):
        read_race(file)
