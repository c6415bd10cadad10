"""Read genotypes from the Weights & Biases artifacts that searches and trainings upload.

W&B is imported only when it is used, because the import is slow.
"""

import re
import tempfile
from pathlib import Path

from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import MAX_BYTES
from darts_noise.space.shown import shortened, shown
from darts_noise.wandb_key import has_key

PATH = re.compile(r"([\w.-]+/){0,2}[\w.-]+:[\w.-]+")
"""``entity/project/name:version``. Entity and project may be missing: the account's defaults."""
FILE = "genotype.json"


def is_artifact_path(name: str) -> bool:
    """Return whether a name has the form of an artifact's path.

    >>> is_artifact_path("me/darts_noise/search-digits:v3"), is_artifact_path("darts_v2")
    (True, False)
    """
    return PATH.fullmatch(name) is not None


def artifact_genotype(name: str) -> Genotype:
    """Load the genotype of an artifact. No other file of the artifact is downloaded.

    Args:
        name: ``entity/project/name:version``. The version may be an alias such as ``latest``.

    Raises:
        ValueError: there is no API key, no such artifact, or no genotype in the artifact.
    """
    place = f"W&B artifact {shortened(name)}"
    if not has_key():
        raise ValueError(f"{place}: no API key; run `wandb login`, or set WANDB_API_KEY")
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        try:
            entry = wandb.Api().artifact(name).get_entry(FILE)
            size = entry.size
            file = entry.download(root=folder) if size is None or size <= MAX_BYTES else None
        except Exception as error:  # any error of W&B, its server or the network
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{place}: {shown(reason)}") from None
        if file is None:
            raise ValueError(f"{place}: expected a {FILE} of at most {MAX_BYTES} bytes, got {size}")
        try:
            return Genotype.from_json(file)
        except ValueError as error:
            reason = str(error).removeprefix(f"{Path(file)}: ")
            raise ValueError(f"{place}: {FILE}: {reason}") from None
