"""Checks of settings that run before torch is imported, against the same checks with torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from darts_noise.cli.configs import CONFIGS, read_config
from darts_noise.cli.partial_import import REGISTERED, ROOT

CONTRADICTIONS = [
    {"strategy": {"random": {"rugns": 3}}},
    {"strategy": {"random": {"rungs": "three"}}},
    {"strategy": {"random": {"rungs": 9, "reduction": 100}}},
    {"strategy": {"evolution": {"sample": 20}}},
    {"strategy": {"random_labels": {"population": 0}}},
    {"strategy": {"enas": {"share": 2}}},
    {"strategy": "nas", "race": 2},
    {"penalty": {"twin": {"form": "lgo"}}},
    {"penalty": {"gram": {"sampels": 3}}},
    {"penalty": "gram", "twin_steps": 2},
    {"objectives": {"adversarial": {"eps": "big"}}},
    {"objectives": {"adversarial": {"steps": 0}}},
    {"objectives": {"prunability": {"sparsity": 2.0}}},
    {"objectives": {"multiply_adds": {"target": 1}}},
    {"variants": {"pc_darts": {"parts": 3}}},
    {"variants": {"gdas": None, "reinmax": None}},
    {"variants": {"darts_pt": None, "darts_plus": None}},
    {"variants": "oles", "hypergradient": "exact"},
    {"noise_family": "blur:3"},
    {"noise_family": {"dataset:mnist": {"labels": "x"}}},
    {"macro": {"gain": ["fre"]}},
    {"nodes": 0},
    {"channels": 0},
    {"stem": "imagenet", "stem_stride": 2},
]
OTHERS = [
    ("train.noisy_labels.make_selection", [{"co_teaching": {"forget_rate": 2}}]),
    ("examine.sections.make_sections", [["capasity"], {}]),
    ("examine.sections.make_sections", [[], {"capacity": {"labellings": -3}}]),
    ("examine.sections.make_sections", [[], {"influence": {"x": 1}}]),
    ("runs.examine.network_of", ["nowhere", None]),
    ("runs.ensembles.members_of", [["digits"]]),
]
VALID = [
    ("examine.sections.make_sections", [[], {}]),
    ("nets.stems.require_stem", ["small", 8, 2]),
    ("runs.ensembles.members_of", [["digits", "mnist"]]),
]
SCRIPT = """
import json, sys
from darts_noise.cli.partial_import import _MODULES, checked
from darts_noise.search.settings import SearchConfig

def answer(function, arguments):
    try:
        checked(function, *arguments)
    except ValueError as error:
        return str(error)
    return "failed" if _MODULES.failed else "accepted"

searches, others = json.loads(sys.argv[1])
configs = [SearchConfig(**s) for s in searches]
answers = [answer("search.parts.make_parts", [config]) for config in configs]
answers += [answer(*other) for other in others]
print(json.dumps([answers, "torch" in sys.modules]))
"""


def answers(searches: list, others: list) -> list[str]:
    """The answers of a process that has not imported torch."""
    given = json.dumps([searches, others])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, check=True
    )
    found, has_torch = json.loads(done.stdout)
    assert not has_torch
    return found


def test_wrong_settings_have_the_answer_of_the_whole_modules():
    from darts_noise.examine.sections import make_sections
    from darts_noise.runs.ensembles import members_of
    from darts_noise.runs.examine import network_of
    from darts_noise.search.parts import make_parts
    from darts_noise.search.settings import SearchConfig
    from darts_noise.train.noisy_labels import make_selection

    whole = {f.__name__: f for f in (make_sections, members_of, network_of, make_selection)}
    expected = []
    for settings in CONTRADICTIONS:
        with pytest.raises(ValueError, match=r".") as error:
            make_parts(SearchConfig(**settings))
        expected.append(str(error.value))
    for function, arguments in OTHERS:
        with pytest.raises(ValueError, match=r".") as error:
            whole[function.rpartition(".")[2]](*arguments)
        expected.append(str(error.value))
    assert answers(CONTRADICTIONS, OTHERS) == expected


def test_every_registered_class_and_every_shipped_search_is_accepted():
    """Accepted, and not left to torch."""
    import darts_noise as dn

    shipped = [
        read_config(file).get("model") or {}
        for folder in ("search", "variants", "penalties", "strategies")
        for file in sorted((CONFIGS / folder).glob("*.yaml"))
    ]
    shipped += [{"strategy": name} for name in dn.list_strategies()]
    shipped += [{"variants": name} for name in dn.list_variants()]
    shipped += [{"penalty": name} for name in dn.list_penalties()]
    shipped += [{"objectives": name} for name in dn.list_objectives()]
    families = [name for name in dn.list_noise() if name != "dataset"]
    shipped += [{"noise_family": name} for name in [*families, "dataset:mnist"]]
    methods = [("train.noisy_labels.make_selection", [name]) for name in dn.list_noisy_labels()]
    assert set(answers(shipped, [*VALID, *methods])) == {"accepted"}


def test_every_registry_is_in_a_known_folder():
    files = (f for f in ROOT.rglob("*.py") if "\n@register_" in f.read_text("utf-8"))
    folders = {Path(*f.relative_to(ROOT).parts[:-1]) for f in files} - {Path("space/operations")}
    assert {folder.parts[0] for folder in folders} == {*REGISTERED}
