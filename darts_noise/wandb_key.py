"""Find out whether there is an API key for Weights & Biases, without a prompt."""

import netrc
import os
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path
from urllib.parse import urlparse

HOST = "api.wandb.ai"
"""A key for this host is valid for W&B's cloud, whatever address a version of W&B uses."""


def _stated_server() -> str | None:
    """Return the server that ``wandb login --host`` has written down, or None."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    file = ConfigParser(interpolation=None)
    try:
        file.read(folder / "settings", "utf-8")
    except (OSError, UnicodeDecodeError, ConfigParserError):
        return None
    return file.get("default", "base_url", fallback=None)


def has_key() -> bool:
    """Return whether W&B would find an API key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if server := os.environ.get("WANDB_BASE_URL") or _stated_server():
        hosts = [urlparse(server).netloc]
    else:
        import wandb

        hosts = [urlparse(wandb.Settings.model_fields["base_url"].default).netloc, HOST]
    files = [os.environ.get("NETRC") or "", "~/.netrc", "~/_netrc"]
    path = next((p for f in files if f and (p := Path(f).expanduser()).is_file()), None)
    try:
        entries = netrc.netrc(path) if path else None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    found = [entries.authenticators(host) for host in hosts] if entries else []
    return any(entry is not None and entry[2] for entry in found)
