"""Settings of one installation, read from the environment when they are used, never at import.

Only the places of things belong here; what is done with them belongs to the other resources.
"""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def setting(name: str) -> str | None:
    """The value of an environment variable, or None where it is unset or empty."""
    return os.environ.get(name, "").strip() or None


def taxi_home() -> Path:
    """The folder that keeps the state of this installation: `TAXI_HOME`, or `.taxi` beside pyproject.toml."""
    home = setting("TAXI_HOME")
    return Path(home).expanduser().resolve() if home else PROJECT / ".taxi"
