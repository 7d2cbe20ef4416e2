"""The fake BigQuery as a process of its own: `python -m tests.emulators.bigquery --port N --storage URL --folder D`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.emulators.bigquery import FakeBigQuery


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.bigquery", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--storage", required=True, help="URL of the Cloud Storage emulator")
    parser.add_argument("--folder", type=Path, help="where to keep the tables; without it, in memory")
    options = parser.parse_args()
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before any thread begins, which would take them otherwise
    with FakeBigQuery(options.storage, options.folder, options.port) as fake:
        print(fake.url, flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
