"""``darts-noise predict``: image files are classified as the network classifies their pixels."""

import csv
import io
import json

import pytest
import torch
from conftest import refused
from PIL import Image

import darts_noise as dn
from darts_noise.cli.program import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Test images of digits as files of another size, with their labels."""
    folder, test = tmp_path_factory.mktemp("images"), dn.load_dataset("digits").test
    files = []
    for i in range(70):
        large = test.images[i].repeat_interleave(3, 1).repeat_interleave(3, 2)
        files.append(folder / f"{i}, one.png")
        Image.fromarray(large[0].numpy()).save(files[-1])
    return files, test.labels[:70]


def test_the_classes_are_those_of_the_images(files):
    found = dn.predict("digits", files[0])
    assert [one.image for one in found] == files[0]
    right = sum(
        int(one.label) == label for one, label in zip(found, files[1].tolist(), strict=True)
    )
    assert right > 60
    net, images = dn.load_pretrained("digits"), dn.pretrained_config("digits").images
    alone = net(images.normalisation(dn.load_dataset("digits").test.images[:1])).softmax(-1)[0]
    batched = torch.tensor(list(found[0].probabilities.values()))
    # The logit scale of 4096 makes rounding visible, which depends on the size of a batch.
    torch.testing.assert_close(batched, alone, atol=2e-3, rtol=0)
    assert found[0].probability == max(found[0].probabilities.values())


def test_the_command_prints_text_json_or_csv(files, capsys):
    paths = [str(file) for file in files[0][:3]]
    expected = dn.predict("digits", paths)
    main(["predict", "digits", *paths])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{paths[0]}: {expected[0].label} ({100 * expected[0].probability:.1f}%)"
    main(["predict", "digits", *paths, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in rows] == [one.label for one in expected]
    assert rows[2]["probabilities"] == expected[2].probabilities
    main(["predict", "digits", *paths, "--csv"])
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"] for row in table] == paths
    assert float(table[1]["probability"]) == pytest.approx(expected[1].probability, abs=1e-6)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["digits"], "IMAGE"),
        (["digist", "a.png"], "did you mean 'digits'"),
        (["digits", "nothing.png"], "nothing.png: cannot read the image"),
        (["digits", "."], ".: expected an image file, got a folder"),
    ],
)
def test_what_is_wrong_is_one_line(argv, message, capsys):
    assert message in refused(lambda argv: main(["predict", *argv]), argv, capsys)


def test_a_plugin_of_the_command_runs_first(files, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("raise ValueError('it ran')")
    argv = ["predict", "digits", str(files[0][0]), "--plugins", str(file)]
    assert "it ran" in refused(main, argv, capsys)


def test_a_search_and_another_folder_are_told_from_a_trained_network(small_runs, tmp_path, capsys):
    argv = [str(small_runs.search), "a.png"]
    error = refused(lambda argv: main(["predict", *argv]), argv, capsys)
    assert "got a search" in error
    assert f"train.py --model.genotype {small_runs.search}" in error
    argv = [str(tmp_path), "a.png"]
    error = refused(lambda argv: main(["predict", *argv]), argv, capsys)
    assert f"{tmp_path}: expected the folder of a bundle or of a training run" in error


def test_a_network_that_does_not_state_its_images_is_refused(tmp_path, files):
    net = dn.create_model("darts_v1", in_channels=1, channels=4, num_cells=3, stem="small")
    dn.save_pretrained(net, tmp_path)
    with pytest.raises(ValueError, match="expected a network with classes and the size"):
        dn.predict(tmp_path, files[0])
