"""Damaged and invented files of every kind that is read: a ``ValueError`` of one line, or a value.

Each input is a real file in which stretches were replaced, doubled or cut, or text of its grammar.
"""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import darts_noise as dn
from darts_noise.cli.configs import merge_configs, read_config
from darts_noise.cli.options import SEARCH
from darts_noise.cli.parser import Parser
from darts_noise.search.learnt import read_controller, write_controller
from darts_noise.search.strategies.controller import Controller
from darts_noise.space.published import BUNDLES
from darts_noise.space.spaces import get_space
from darts_noise.train.noise_record import NoiseRun
from darts_noise.train.run_file import FORMAT, RunFile

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.yaml"))
RUN = NoiseRun("network", "noise", "sgd", 0.1, 0, 0.5, 3, 30, None, False, 1.5)
HEADER = "cell,normalisation,validation,uniform,steps\n"
PLAIN = """\
"Genotype(normal=[('conv_1x1', 0), ('noise', 1)], reduce=[('noise', 0), ('noise', 1)])",none,0.9,1,9
"""
COMPLETE = """\
|none~0|+|nor_conv_3x3~0|skip_connect~1|,batch,0.8,0.4,7
|none~0|+|nor_conv_3x3~0|skip_connect~1|,layer,0.7,1e-3,8
"""
RUNS = {"format": FORMAT, "about": {"seed": 0}, "runs": [RUN.to_dict()]}


def read_genotype(path):
    dn.load_genotype(path)


PARSER = Parser(SEARCH)


def read_configs(path):
    merge_configs([read_config(path)] * 2)
    PARSER.parse([], [path])


def read_runs(path):
    RunFile(path, {"seed": 0})


def read_bundle(path):
    dn.load_pretrained(path.parent)


def read_table(path):
    dn.CellTable.from_csv(path, noise="uniform")


def controller():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "controller"
        write_controller(path, Controller(get_space("low_pass", 1), 2, 1))
        return path.read_bytes()


READERS = {
    "controller.safetensors": (lambda path: read_controller(path).sample(2), [controller()]),
    "cells.csv": (read_table, [(HEADER + rows).encode() for rows in (PLAIN, COMPLETE)]),
    "genotype.json": (
        read_genotype,
        [json.dumps(dn.load_genotype(name).to_dict()).encode() for name in dn.list_genotypes()],
    ),
    "config.json": (read_bundle, [(BUNDLES / "digits" / "config.json").read_bytes()]),
    "config.yaml": (read_configs, [path.read_bytes() for path in CONFIGS]),
    "noise_runs.json": (read_runs, [json.dumps(RUNS).encode()]),
}
PIECES = [
    *(b"NaN", b"1e999", b"-1", b"true", b"null", b"[", b"]", b"{", b"}", b",", b":", b"\n", b"\t"),
    *(
        b'"',
        b"'",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!python/name:os.system ",
        b"!!binary x",
        b"? ",
        b"- ",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b'"\\ud800"',
        b"__import__('os')",
        b"9" * 5000,
        b"[" * 2000,
    ),
]
CHECKS = list(HealthCheck)
CHANGE = st.tuples(
    st.integers(0, 1 << 16),
    st.integers(0, 40),
    st.sampled_from(PIECES) | st.binary(max_size=8),
    st.booleans(),
)


def changed(original, changes):
    """The file after each (place, length, replacement, whether what was there is kept)."""
    content = original
    for place, length, piece, keep in changes:
        start = place % (len(content) + 1)
        end = start if keep else start + length
        content = content[:start] + piece + content[end:]
    return content


def fuzz(name, folder, examples):
    reader, originals = READERS[name]
    path = folder / name

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=CHECKS)
    @given(st.sampled_from(originals), st.lists(CHANGE, min_size=1, max_size=4))
    def check(original, changes):
        path.write_bytes(changed(original, changes))
        try:
            reader(path)
        except ValueError as error:
            message = str(error)
            assert message
            assert message.isprintable()
            assert len(message) < 2000

    check()


@pytest.mark.parametrize("name", READERS)
def test_only_a_value_error_escapes(name, tmp_path):
    fuzz(name, tmp_path, 200)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", READERS)
def test_only_a_value_error_escapes_from_very_many(name, tmp_path):
    """More than 100,000 inputs in all."""
    fuzz(name, tmp_path, 40_000)
