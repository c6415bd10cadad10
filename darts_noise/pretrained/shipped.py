"""Find bundles: one folder per bundle in ``darts_noise/bundles``, or anywhere on this machine.

The module imports no torch, so a missing bundle is refused without it.
"""

from pathlib import Path

from darts_noise.errors import unknown
from darts_noise.shown import shortened
from darts_noise.space.json_file import shown_path
from darts_noise.space.published import BUNDLES
from darts_noise.space.wandb_artifact import is_artifact_path

CONFIG = "config.json"
GENOTYPE = "genotype.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SEALED = (GENOTYPE, WEIGHTS)
"""The files whose checksums are in the config."""
SIZES = ("channels", "num_cells", "stem", "stem_stride")
"""Settings of the size and the stem of a network, which its config states."""
OF_A_RUN = "bundle"
"""Name of the bundle's folder in the folder of a training run."""


def list_pretrained() -> list[str]:
    """Return the names of the trained networks in the package, sorted.

    >>> "digits" in list_pretrained()
    True
    """
    return sorted(file.parent.name for file in BUNDLES.glob("*/config.json"))


def is_artifact(source: str | Path) -> bool:
    """Return whether a bundle is a W&B artifact and no folder of this machine."""
    return is_artifact_path(str(source)) and not Path(source).is_dir()


def find_bundle(source: str | Path) -> Path:
    """Return the folder of a bundle on this machine; see `load_pretrained`."""
    if str(source) in list_pretrained():
        return BUNDLES / source
    folder = Path(source)
    if folder.is_dir():
        for place in (folder, folder / OF_A_RUN):
            if (place / CONFIG).is_file():
                return place
        expected = f"{shown_path(folder)}: expected the folder of a bundle or of a training run"
        if (folder / "alpha.json").is_file():
            raise ValueError(
                f"{expected}, got a search, whose network is not trained; train its cell first: "
                f"train.py --model.genotype {shown_path(folder)}"
            )
        raise ValueError(f"{expected}, got one without {CONFIG} and {OF_A_RUN}/{CONFIG}")
    message = unknown("trained network", shortened(str(source)), list_pretrained())
    raise ValueError(
        f"{message}, or the folder of a bundle or of a training run, or a W&B artifact"
    )


def require_bundle_folder(folder: Path) -> None:
    """Raise a ValueError if files of another project, such as its README.md, would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{shown_path(folder)}: expected a folder, got a file")
    names = {path.name for path in folder.glob("[!.]*")}
    lost = sorted(names & {GENOTYPE, WEIGHTS, CONFIG, CARD})
    if lost and not (names <= set(SEALED) or set(SEALED) <= names):
        raise ValueError(
            f"{shown_path(folder)}: expected a new folder or a bundle, got a folder with "
            f"another {lost[0]}"
        )
