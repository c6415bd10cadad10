"""The settings that each command takes: search, train, ensemble train and study."""

from collections.abc import Mapping
from dataclasses import replace

from darts_noise.cli.parser import Command, Option, field_names
from darts_noise.configured import LARGEST_SEED
from darts_noise.data.settings import DataConfig
from darts_noise.runs.settings import RunConfig, TrainerConfig
from darts_noise.search.settings import SearchConfig
from darts_noise.study.settings import DECIDED, StudyConfig
from darts_noise.train.settings import NoiseConfig, TrainConfig

SEED = Option("seed", int, 0, f"seed of all random numbers, 0 to {LARGEST_SEED}")
SEEDED = ("model.seed", "data.seed")
"""Keys that ``--seed`` sets."""
MORE = ("Every other argument of Lightning's Trainer is accepted as --trainer.KEY VALUE.",)


SEARCH = Command(
    "search",
    "Search for a cell that learns the data and cannot learn noise.",
    {"": RunConfig, "trainer.": TrainerConfig, "model.": SearchConfig, "data.": DataConfig},
    [SEED],
    dict.fromkeys(set(field_names(TrainConfig)) - set(field_names(SearchConfig)), "train.py"),
    SEEDED,
    MORE,
    short={f"model.{name}": name for name in ("strategy", "strategy_steps")},
)
TRAIN = Command(
    "train",
    "Train a network of a searched or published cell, on the data and on noise.",
    {
        "": RunConfig,
        "noise_": NoiseConfig,
        "trainer.": TrainerConfig,
        "model.": TrainConfig,
        "data.": DataConfig,
    },
    [SEED],
    dict.fromkeys(set(field_names(SearchConfig)) - set(field_names(TrainConfig)), "search.py"),
    SEEDED,
    MORE,
    short={
        "model.noisy_labels": "noisy_labels",
        **{f"model.adversarial_{name}": f"adversarial.{name}" for name in ("eps", "steps", "norm")},
    },
)

ENSEMBLE = replace(
    TRAIN,
    name="ensemble",
    description="Train networks of one cell with different seeds, for an ensemble.",
    options=[
        *TRAIN.options,
        Option("members", int, 5, "number of networks; the seed of each is one more than the last"),
    ],
    short={**TRAIN.short, "data.bootstrap": "bootstrap"},
    defaults={"noise_check": False},
    configs="train",
)
SETUPS: Mapping[str, Command] = {"search": SEARCH, "train": TRAIN}
"""The commands whose configs a study can name. The study's own keys override these configs."""
STUDY = Command(
    "study",
    "Compare searches, seeds and controls, all trained and measured alike. Repeat to resume.\n"
    "CONFIG is a YAML file or the name of a shipped config; the values in brackets are its values\n"
    "(without CONFIG: those of digits).",
    {"": StudyConfig},
    [
        Option("runs", str, "runs", "folder of all runs"),
        Option("root", str | None, None, "folder of the data. null: the folder in the configs"),
        Option("table", bool, None, "train nothing; write the table from the results so far"),
        *(Option(f"{name}.config", str | None, None, f"config of {name}.py") for name in SETUPS),
    ],
    hidden=DECIDED,
    more=[
        "Settings of a search and of a training: --search.model.channels 8",
        "--train.trainer.max_epochs 40. See python search.py --help and python train.py --help.",
    ],
    brief=[f"{name}." for name in SETUPS],
    usage="CONFIG [--KEY VALUE ...]",
)
