"""Images under the names of docker-compose.yaml, for machines that can pull none: real programs, of other packages.

Each has the program of the image it stands in for and takes the variables that our services set, as that image's page
describes them; whatever else those images do is not there. A machine that can pull never sees them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
STAND_INS = {"postgres": "postgres", "caddy": "caddy", "dpage/pgadmin4": "pgadmin", "fsouza/fake-gcs-server": "gcs"}
DEBIAN = "trixie"
PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # of this machine: its registries may have one of their own


def build(image: str, base: str) -> None:
    """Build the stand-in of one image; `base` is the image that ours is made from, or its stand-in.

    Raises:
        KeyError: there is none.
        subprocess.CalledProcessError: it could not be built.
    """
    folder = FOLDER / STAND_INS[image.partition(":")[0]]
    subprocess.run(
        ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE={base}", "--tag", image, folder],
        env=os.environ | {"DOCKER_BUILDKIT": "0"}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def build_base(image: str) -> None:
    """Make a Debian with Python out of Debian's packages, under the name of the image that ours is made from.

    Raises:
        subprocess.CalledProcessError: debootstrap did not end well, as it needs root.
    """
    with tempfile.TemporaryDirectory(prefix="taxi-debian-") as folder:
        root = Path(folder) / "root"
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, root],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (root / "usr/bin/python").symlink_to("python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        if CERTIFICATES.exists():
            (root / CERTIFICATES.relative_to("/")).write_bytes(CERTIFICATES.read_bytes())
        tar = subprocess.Popen(["tar", "--directory", root, "--create", "."], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "import", "--change", f"ENV PIP_CERT={CERTIFICATES} SSL_CERT_FILE={CERTIFICATES}", "-", image],
            stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
