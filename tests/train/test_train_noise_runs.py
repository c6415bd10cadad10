"""An interrupted measurement continues; a file of another measurement is refused."""

import json

import pytest
from noise_networks import ONE_RATE, few_digits, linear, measure, wide

import darts_noise as dn
from darts_noise.data.images import LabelledImages

GRID = dn.NoiseGrid(sgd_rates=(0.05, 0.1), adam_rates=(3e-3,), muon_rates=(), seeds=1, scales=(1,))


class Interrupted:
    """A network that is built a number of times; the next time somebody presses Ctrl-C."""

    def __init__(self, network, times):
        self.network, self.left = network, times

    def __call__(self, num_classes, in_channels):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.network(num_classes, in_channels)


def content(path):
    """The file, but for the times."""
    kept = json.loads(path.read_text())
    return {**kept, "runs": [{**run, "seconds": None} for run in kept["runs"]]}


@pytest.mark.parametrize("protocol", ["converged", "selectivity"])
@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_an_interrupted_measurement_goes_on_to_the_record_of_an_unbroken_one(
    tmp_path, protocol, done
):
    settings = {"protocol": protocol, "grid": GRID, "epochs": 4}
    if protocol == "converged":
        settings["controls"] = {"wide": wide}
    unbroken = measure(linear, path=tmp_path / "unbroken.json", **settings)
    of_network = sum(run.network == "network" for run in unbroken.runs)
    path = tmp_path / "broken.json"
    if done >= of_network:
        settings["controls"] = {"wide": Interrupted(wide, 1 + done - of_network)}
        network = linear
    else:
        network = Interrupted(linear, 1 + done)  # once for its identity
    with pytest.raises(KeyboardInterrupt):
        measure(network, path=path, **settings)
    on_file = len(content(path)["runs"]) if path.exists() else 0
    assert on_file == done
    left = len(unbroken.runs) - done
    if protocol == "converged":
        settings["controls"] = {"wide": Interrupted(wide, 1 + left)}
    again = Interrupted(linear, 1 + left)
    went_on = measure(again, path=path, **settings)
    assert went_on == unbroken
    assert content(path) == content(tmp_path / "unbroken.json")
    assert again.left == left - max(of_network - done, 0)  # finished runs were not made again


def test_rates_seeds_and_controls_can_be_added_to_a_file(tmp_path):
    path = tmp_path / "runs.json"
    measure(linear, grid=ONE_RATE, epochs=2, path=path)
    larger = {"grid": GRID, "controls": {"wide": wide}, "epochs": 2}
    added = measure(Interrupted(linear, 1 + 2 + 2), path=path, **larger)
    assert added == measure(linear, **larger)
    two_seeds = dn.NoiseGrid(sgd_rates=(0.1,), adam_rates=(), muon_rates=(), seeds=2, scales=(1,))
    fewer = measure(Interrupted(linear, 1 + 2), grid=two_seeds, epochs=2, path=path)
    assert fewer == measure(linear, grid=two_seeds, epochs=2)
    with pytest.raises(ValueError, match="holds another measurement, whose network 'wide'"):
        measure(linear, path=path, **{**larger, "controls": {"wide": linear}})


@pytest.mark.parametrize("protocol", ["converged", "selectivity"])
def test_trainings_on_real_images_are_not_repeated_for_another_family(tmp_path, protocol):
    settings = {"protocol": protocol, "grid": ONE_RATE, "epochs": 2}
    measure(linear, path=tmp_path / "uniform.json", **settings)
    (tmp_path / "damaged.json").write_text('{"format": "darts_noise.noise_runs/1"}')
    alone = measure(linear, family="gaussian", **settings)
    once = Interrupted(linear, 1 + 1)  # for its identity, and for the training on the noise
    path = tmp_path / "gaussian.json"
    assert measure(once, family="gaussian", path=path, **settings) == alone
    assert [run["data"] for run in content(path)["runs"]] == ["noise", "real"]
    (tmp_path / "uniform.json").unlink()
    assert measure(Interrupted(linear, 1), family="gaussian", path=path, **settings) == alone


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"epochs": 3}, {"samples": 50}, {"images": few_digits(150)}, {"batch_size": 10}],
)
def test_trainings_on_real_images_of_another_measurement_are_not_taken(tmp_path, other):
    settings = {"family": "gaussian", "grid": ONE_RATE, "epochs": 2}
    measure(linear, path=tmp_path / "other.json", **{**settings, "family": "uniform", **other})
    network = Interrupted(linear, 1 + 2)
    measure(network, path=tmp_path / "runs.json", **settings)
    assert network.left == 0


def test_a_file_from_before_there_were_initial_scales_is_read(tmp_path):
    path = tmp_path / "runs.json"
    fit = measure(linear, grid=ONE_RATE, epochs=2, path=path)
    kept = json.loads(path.read_text())
    del kept["about"]["real images"]
    for run in kept["runs"]:
        del run["initial_scale"]
    path.write_text(json.dumps(kept))
    assert measure(Interrupted(linear, 1), grid=ONE_RATE, epochs=2, path=path) == fit


def shifted():
    """Digits with another mean: uniform noise is the same, what the network sees of it is not."""
    digits = few_digits()
    return LabelledImages(digits.images // 2, digits.labels, digits.classes)


OTHERS = {
    "seed": {"seed": 1},
    "family": {"family": "gaussian"},
    "samples": {"samples": 50},
    "epochs": {"epochs": 3},
    "batch_size": {"batch_size": 10},
    "weight_decay": {"grid": dn.NoiseGrid((0.1,), (), 1, weight_decay=0.1, scales=(1,))},
    "gradient_clip": {"grid": dn.NoiseGrid((0.1,), (), 1, gradient_clip=0, scales=(1,))},
    "network": {"network": wide},
    "protocol": {"protocol": "selectivity"},
    "mean": {"images": shifted()},
    "precision": {"trainer": {"accelerator": "cpu", "precision": "bf16-mixed"}},
}


@pytest.mark.parametrize("key", OTHERS)
def test_a_file_of_another_measurement_is_refused_in_one_line(tmp_path, key):
    path = tmp_path / "runs.json"
    measure(linear, epochs=2, path=path)
    before = path.read_text()
    other = {"network": linear, "epochs": 2, **OTHERS[key]}
    with pytest.raises(ValueError, match=f"path: .*runs.json holds another .*{key}") as caught:
        measure(**other, path=path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"format": "other"}', '{"format": "darts_noise.noise_runs/1"}']
)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "runs.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="path: expected runs of a noise fit") as caught:
        measure(linear, path=path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accuracy", float("nan")),
        ("accuracy", "0.9"),
        ("steps", -1),
        ("steps", 1.5),
        ("seed", True),
        ("network", ["network"]),
        ("learning_rate", None),
        ("__class__", "os.system"),
    ],
)
def test_a_file_that_somebody_changed_is_refused(tmp_path, field, value):
    path = tmp_path / "runs.json"
    measure(linear, grid=ONE_RATE, epochs=1, path=path)
    kept = json.loads(path.read_text())
    kept["runs"][0][field] = value
    path.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="path: expected runs of a noise fit"):
        measure(linear, grid=ONE_RATE, epochs=1, path=path)


def test_a_file_too_large_or_too_deep_is_refused(tmp_path):
    path = tmp_path / "runs.json"
    for write in (lambda f: f.truncate(1 << 30), lambda f: f.write("[" * 10**6)):
        with path.open("w") as file:
            write(file)
        with pytest.raises(ValueError, match="path: expected runs of a noise fit"):
            measure(linear, path=path)
