"""``--resume [RUN]``: which run goes on, with the settings that it was begun with."""

from pathlib import Path

from darts_noise.cli.parser import UserError

OPTION = "--resume"
BESIDE = ("--runs", "--wandb", "--wandb_project", "--trust")
"""What may be given with it: where runs are, how they are tracked, and whose classes are made."""


def take_up(argv: list[str], kind: str) -> tuple[list[str], Path | None]:
    """The arguments of the run that is to go on, and its folder.

    Args:
        argv: those of the command line.
        kind: of the script, ``search`` or ``train``.

    Returns:
        The arguments as they are and None where none is to go on.

    Raises:
        SystemExit: 0 where the run has ended.
        UserError: no such run, or a setting beside the option that is the run's own.
    """
    named, others = _split(argv)
    if named is None:
        return argv, None
    root = "runs"
    for option, value in others.items():
        if option not in BESIDE:
            allowed = ", ".join(BESIDE)
            raise UserError(
                f"resume: the settings are those of the run; expected only {allowed} beside "
                f"{OPTION}, got {option}"
            )
        root = value if option == "--runs" else root
    run = _find(Path(root) / kind, named, kind)
    if all((run / name).is_file() for name in ("card.json", "card.md")):  # the last that it writes
        print(f"{run} has ended; its card is {run / 'card.md'}")
        raise SystemExit(0)
    others |= {"--runs": str(run.parent.parent), "--name": run.name}
    return [
        "--config",
        str(run / "config.yaml"),
        *(f"{option}={value}" for option, value in others.items()),
    ], run


def _split(argv: list[str]) -> tuple[str | None, dict[str, str]]:
    """The run that is named ("" for the newest, None without the option), and other options."""
    named: str | None = None
    others: dict[str, str] = {}
    words = list(argv)
    while words:
        option, equals, value = words.pop(0).partition("=")
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        if option == OPTION:
            named = value
        else:
            others[option] = value
    return named, others


def _find(folder: Path, named: str, kind: str) -> Path:
    if not named:
        configs = list(folder.glob("[!.]*/config.yaml"))
        # `latest` is a second name of one of them.
        runs = [config for config in configs if not config.parent.is_symlink()]
        if not runs:
            raise UserError(f"resume: no run in {folder}")
        return max(runs, key=lambda config: config.stat().st_mtime).parent
    for run in (folder / named, Path(named)):
        if (run / "config.yaml").is_file():
            run = run.parent / run.resolve().name if run.is_symlink() else run
            if run.resolve().parent.name != kind:
                raise UserError(f"resume: expected a run of {kind}.py, got {named!r}")
            return run
    raise UserError(f"resume: expected the name or the folder of a run in {folder}, got {named!r}")
