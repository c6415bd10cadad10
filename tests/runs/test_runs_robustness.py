"""``darts-noise certify`` and ``attack``: a module, a run and a bundle give the same figures."""

import json
import shutil

import pytest
import torch
from conftest import refused

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.data.images import Normalisation

FAST = ["--attacks", "fgsm", "--eps", "0.05", "0.2", "--samples", "40"]


@pytest.fixture
def run(small_runs, tmp_path):
    """A copy of a training, without what is not read."""
    for name in ("config.yaml", "card.json"):
        shutil.copy(small_runs.train / name, tmp_path / name)
    return shutil.copytree(small_runs.train / "bundle", tmp_path / "bundle").parent


def test_a_run_a_bundle_and_a_module_have_the_same_certificate(run, digits):
    of_run, of_bundle = dn.certify(run), dn.certify(run / "bundle")
    net = dn.load_pretrained(run)
    images = dn.pretrained_config(run).images
    data = digits()
    data.normalisation = Normalisation(images.mean, images.std)  # a module has none of its own
    of_module = dn.certify(net, data)
    for other in (of_bundle, of_module):
        torch.testing.assert_close(other.radii, of_run.radii)
        assert torch.equal(other.correct, of_run.correct)
    assert of_run.radii.shape == (len(dn.load_dataset("digits").test),)
    assert of_run.logit_scale == net.genotype.choice("logit_scale")
    attacked = [
        dn.attack(n, d, attacks=("fgsm",), samples=40) for n, d in ((run, None), (net, data))
    ]
    assert attacked[0].accuracy() == attacked[1].accuracy()
    assert torch.equal(attacked[0].radii, attacked[1].radii)
    assert len(dn.certify(run, samples=7).radii) == 7


def test_the_commands_print_a_table_and_write_a_file_of_their_own(run, tmp_path, capsys):
    for argv, name in ((["certify"], "certificate"), (["attack", *FAST], "attack_linf")):
        command, *options = argv
        for _ in range(2):  # the second replaces the file of the first
            main([command, str(run), *options])
        printed = capsys.readouterr().out
        assert "certified" in printed
        assert f"file: {run / name}.json" in printed
        found = json.loads((run / f"{name}.json").read_text())
        assert found["format"].startswith(f"darts_noise.{name.split('_')[0]}/")
    assert found["accuracy"]["strongest"] == list(
        dn.attack(run, attacks=("fgsm",), eps=(0.05, 0.2), samples=40).accuracy()
    )
    main(["certify", "digits", "--samples", "5"])  # in the package: no file
    assert "file:" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["certify", "attack"])
def test_a_file_that_is_not_replaced_is_named_before_the_work(command, tmp_path, capsys):
    mine = tmp_path / "notes.json"
    mine.write_text("{}")
    for output, message in ((mine, "notes.json is another file"), (tmp_path, "expected a file")):
        with pytest.raises(SystemExit) as ended:
            main([command, "digits", f"--output={output}"])
        printed = capsys.readouterr()
        assert ended.value.code == 2
        assert message in printed.err
        assert not printed.out  # no table
    assert mine.read_text() == "{}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["certify", "digist"], "did you mean 'digits'"),
        (["certify", "digits", "--samples", "0"], "samples: expected 1 or more, got 0"),
        (["certify", "digits", "--eps", "0"], "eps: expected more than 0"),
        (["certify", "digits", "--esp", "1"], "unknown option '--esp': did you mean '--eps'?"),
        (["attack", "digits", "--norm", "l1"], "norm: unknown norm 'l1'"),
        (["attack", "digits", "--attacks", "pdg"], "did you mean 'pgd'"),
        (["attack", "digits", "--steps", "many"], "--steps"),
        (["attack", "digits", "--seed", "-1"], "seed: expected 0"),
    ],
)
def test_what_is_wrong_is_one_line(argv, message, capsys):
    assert message in refused(main, argv, capsys)


def test_a_network_whose_layers_amplify_has_no_certificate(tmp_path, capsys):
    net = dn.create_model("darts_v1", in_channels=1, channels=4, num_cells=1, stem="small")
    dn.save_pretrained(net, tmp_path, images=dn.pretrained_config("digits").images)
    message = refused(main, ["certify", str(tmp_path)], capsys)
    assert "no certificate: expected gain 'bounded'" in message


def test_a_module_needs_its_data_and_the_data_must_fit(digits):
    net = dn.load_pretrained("digits")
    with pytest.raises(dn.SettingError, match="data: expected an ImageDataModule"):
        dn.certify(net)
    other = dn.create_model(net.genotype, num_classes=3, in_channels=1, channels=4, num_cells=3)
    with pytest.raises(dn.SettingError, match="images of 3 classes"):
        dn.attack(other, digits())
