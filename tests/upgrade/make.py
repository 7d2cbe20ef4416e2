"""Make the backup that later versions are tested against: `python -m tests.upgrade.make`.

It belongs to a release: made once by its version, kept for ever, and never made again by another.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

MONTH = "2020-04"
ROWS = 300
FOLDERS = Path(__file__).parent


def main() -> None:
    folder = FOLDERS / version("taxi-assets")
    if folder.exists():
        raise SystemExit(f"{folder} is there already: it stays as its version made it.")
    taxi = str(Path(sys.executable).with_name("taxi"))
    home = Path(tempfile.mkdtemp(prefix="taxi-upgrade-", dir="/tmp"))
    home.chmod(0o755)  # as root, Postgres runs as another user
    empty = ("TAXI_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "GCP_DATASET")
    environment = os.environ | dict.fromkeys(empty, "") | {
        "TAXI_HOME": str(home), "TAXI_SOURCE": str(home / "files"), "TAXI_SECRETS": os.devnull,
    }  # fmt: skip
    environment.pop("DAGSTER_HOME", None)
    try:
        for arguments in (
            ["sample", "--month", MONTH, "--rows", str(ROWS), str(home / "files")],
            ["settings", "set", "GCP_DATASET", "trips"],
            ["backfill", "--from", MONTH, "--to", MONTH],
            ["backup", str(folder)],
        ):
            subprocess.run([taxi, *arguments], env=environment, check=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    folder.chmod(0o755)
    for path in folder.iterdir():
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
