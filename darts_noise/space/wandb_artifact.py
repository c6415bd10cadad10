"""Read genotypes and bundles from the Weights & Biases artifacts of searches and trainings.

W&B is imported only when it is used, because the import is slow.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from darts_noise.shown import shortened, shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import MAX_BYTES
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
    with artifact_files(name, {FILE: MAX_BYTES}) as folder:
        return Genotype.from_json(folder / FILE)


@contextmanager
def artifact_files(name: str, files: Mapping[str, int | None]) -> Iterator[Path]:
    """Download files of an artifact to a folder that exists within the context.

    Args:
        name: as for `artifact_genotype`.
        files: the names in the artifact, each with the largest number of bytes or None.

    Raises:
        ValueError: there is no API key, no such artifact or file, or a file is too large. A
            ValueError inside the context gets the name of the artifact instead of the folder's
            path.
    """
    place = f"W&B artifact {shortened(name)}"
    if not has_key():
        raise ValueError(f"{place}: no API key; run `wandb login`, or set WANDB_API_KEY")
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = wandb.Api().artifact(name)
            for file, most in files.items():
                entry = artifact.get_entry(file)
                size = entry.size
                if most is not None and size is not None and size > most:
                    raise _TooLargeError(f"expected a {file} of at most {most} bytes, got {size}")
                entry.download(root=folder)
        except _TooLargeError as error:
            raise ValueError(f"{place}: {error}") from None
        except Exception as error:  # any error of W&B, its server or the network
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{place}: {shown(reason)}") from None
        try:
            yield Path(folder)
        except ValueError as error:
            text = str(error).replace(f"{folder}/", f"{place}: ").replace(folder, place)
            raise ValueError(text) from None


class _TooLargeError(ValueError):
    """A file of an artifact has more bytes than are read."""
