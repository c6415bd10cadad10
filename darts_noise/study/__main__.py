"""``python -m darts_noise.study``: see the package's docstring and README.md."""

import argparse
import os
import shlex
import sys
from typing import NoReturn

from darts_noise.cli.parser import fail

PROGRAM = "python -m darts_noise.study"


class OneLineArguments(argparse.ArgumentParser):
    """Answers a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def main(argv: list[str] | None = None) -> None:
    """Runs a study, or goes on with it; started on several machines they share the work.

    Args:
        argv: the arguments; those of the process by default.

    Raises:
        SystemExit: 2 after one line about what the user can put right; 130 after a Ctrl-C.
    """
    parser = OneLineArguments(prog=PROGRAM, description=main.__doc__)
    parser.add_argument("config", help="a YAML file; see configs/study/")
    parser.add_argument("--runs", default="runs", help="folder that holds all runs")
    parser.add_argument("--root", help="folder that holds the data, in place of the configs'")
    parser.add_argument(
        "--table", action="store_true", help="rewrite table and plot from what is there"
    )
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as for search.py and train.py
    command = f"{PROGRAM} {shlex.join(sys.argv[1:] if argv is None else argv)}"
    sys.argv[0] = "study"  # how the messages of the scripts' parsers begin
    from darts_noise.cli.session import quiet_lightning

    try:
        import optuna  # noqa: F401
    except ImportError:
        fail("a study needs Optuna: pip install -e '.[study]'")
    from darts_noise.study.run import Study
    from darts_noise.study.settings import load_settings

    quiet_lightning()
    try:
        study = Study(load_settings(args.config), args.runs, args.root, command)
        if args.table:
            study.write()
        else:
            study.run()
    except ValueError as error:
        fail(error)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"table: {study.folder / 'table.md'}")


if __name__ == "__main__":
    main()
