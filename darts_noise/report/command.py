"""``darts-noise report RUN...``: the runs as one HTML page; see docs/reports.md."""

import argparse
from pathlib import Path
from typing import NoReturn

from darts_noise.atomic import write_text
from darts_noise.report.page.document import make_page

PROGRAM = "darts-noise report"
DESCRIPTION = "Writes runs as one HTML page that needs no network."


class _Parser(argparse.ArgumentParser):
    """With errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: error: {' '.join(message.split())}\n")


def main(argv: list[str] | None = None) -> None:
    """Writes the page.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right.
    """
    parser = _Parser(prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="directory of a search, a training or a study, such as runs/search/latest",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page [report.html]"
    )
    given = parser.parse_args(argv)
    try:
        write_text(given.output, make_page(given.runs))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"report: {given.output}")
