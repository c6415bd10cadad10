"""Read untrusted JSON and text files, with a limit on the size and errors of one line."""

import json
from pathlib import Path
from typing import Any

from darts_noise.shown import LONGEST, shown

MAX_BYTES = 1 << 20


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """Read a text file of at most `most` bytes.

    Raises:
        ValueError: the file is missing, too large or not UTF-8 text. The message names the file.
    """
    try:
        # Do not trust the size in the file system: for a device it is 0.
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) <= most:
            return content.decode("utf-8")
        reason = f"expected at most {most} bytes"
    except OSError as error:
        reason = error.strerror or shown(error)
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    raise ValueError(f"{shown_path(path)}: {reason}")


def read_json(path: Path) -> Any:
    """Read a JSON file of at most `MAX_BYTES` bytes.

    Raises:
        ValueError: the file is missing, too large or not JSON. The message names the file.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError:
        reason = "nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"not JSON (line {error.lineno}: {error.msg})"
    except ValueError as error:
        long = "integer string conversion" in str(error)
        reason = "an integer of too many digits" if long else str(error)
    raise ValueError(f"{shown_path(path)}: {reason}")


def shown_path(path: Path) -> str:
    """Return the path; shorten or escape it if it is very long or has unprintable characters."""
    text = str(path)
    return text if text.isprintable() and len(text) <= 10 * LONGEST else shown(text)
