"""What ``--help`` prints, stored, so that it need not wait for torch and Lightning.

    python -m darts_noise.cli.help_text

asks both scripts for their help and writes it to ``darts_noise/cli/help/``, with the versions of
the packages that have a say in it. With other versions installed, the scripts make it themselves.
It does not depend on the terminal: `parser.OneLineParser.format_help` has one width.
"""

import contextlib
import io
import json
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).with_name("help")
SCRIPTS = ("search", "train")
PACKAGES = ("pytorch-lightning", "jsonargparse")


def installed() -> dict[str, str]:
    """The versions that the text may depend on.

    Raises:
        PackageNotFoundError: one of the packages is not there.
    """
    return {package: version(package) for package in PACKAGES}


def stored_help(script: str, program: str) -> str | None:
    """The stored text; None where it is not there or was made with other versions.

    Args:
        script: ``search`` or ``train``.
        program: how it was called, which the first line repeats.
    """
    try:
        if json.loads((FOLDER / "versions.json").read_text("utf-8")) != installed():
            return None
        text = (FOLDER / f"{script}.txt").read_text("utf-8")
    except (OSError, ValueError, PackageNotFoundError):
        return None
    return text.replace(f"usage: {script}.py ", f"usage: {program} ", 1)


def live_help(script: str) -> str:
    """What the script's own parser prints."""
    main = import_module(f"darts_noise.cli.{script}").main
    original, text = sys.argv, io.StringIO()
    sys.argv = [f"{script}.py"]  # which the help repeats
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main(["--help"])
    finally:
        sys.argv = original
    return text.getvalue()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for script in SCRIPTS:
        (FOLDER / f"{script}.txt").write_text(live_help(script), "utf-8")
    (FOLDER / "versions.json").write_text(json.dumps(installed(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
