"""Collect wheels and CIFAR-10 (JPEG) for a GPU machine without a network.

    python -m benchmarks.gpu.pack [--cifar10 ARCHIVE] [--also PACKAGE ...]

Writes to ``.gpu/``, which git ignores: wheels for Python 3.12 on Linux, and a copy of the archive,
a ``.tar.xz`` with ``cifar10-jpeg/{train,test}/<class>/*.jpg``. `unpack` is its other half. Both
import nothing but the standard library.
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".gpu"
WHEELS, SITE, DATA = FOLDER / "wheels", FOLDER / "site", FOLDER / "data"
ARCHIVE = FOLDER / "cifar10-jpeg.tar.xz"
LIMIT = 64 << 20
"""Largest total size in bytes."""
PACKAGES = ("wandb", "jsonargparse[signatures]>=4.49")
"""Packages to collect with their dependencies. PyTorch, torchvision and Lightning are on the
machine."""
TARGET = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
TARGET += [
    f"--platform={tag}_x86_64"
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
]


def pack(packages: list[str], archive: Path | None) -> int:
    """Fill the folder again, and return its size in bytes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    WHEELS.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", f"--dest={WHEELS}", *TARGET]
    subprocess.run([*pip, *packages], check=True)
    if archive is not None:
        shutil.copyfile(archive, ARCHIVE)
    return sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())


def unpack() -> list[str]:
    """Install the wheels of packages that are missing into `SITE`, and unpack the images.

    Returns:
        The names of the installed packages. A process finds them with `SITE` on its path.
    """
    missing = [wheel for wheel in sorted(WHEELS.glob("*.whl")) if not _is_installed(wheel)]
    if missing and not SITE.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, "--no-compile", f"--target={SITE}", *map(str, missing)], check=True)
    if ARCHIVE.is_file() and not DATA.is_dir():
        unfinished = DATA.with_suffix(".part")
        with tarfile.open(ARCHIVE) as tar:
            tar.extractall(unfinished, filter="data")
        unfinished.rename(DATA)
    return [wheel.name.split("-")[0] for wheel in missing]


def _is_installed(wheel: Path) -> bool:
    try:
        importlib.metadata.version(wheel.name.split("-")[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cifar10", type=Path, metavar="ARCHIVE", help="a .tar.xz of JPEG files")
    parser.add_argument("--also", nargs="*", default=[], metavar="PACKAGE", help="further wheels")
    args = parser.parse_args()
    if args.cifar10 is not None and not args.cifar10.is_file():
        parser.error(f"--cifar10: expected a file, got {args.cifar10}")
    size = pack([*PACKAGES, *args.also], args.cifar10)
    print(f"{FOLDER}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        raise SystemExit(f"expected at most {LIMIT >> 20} MiB")


if __name__ == "__main__":
    main()
