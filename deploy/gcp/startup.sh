#!/usr/bin/env bash
# What the machine does at each start: it gets Docker, the repository's files and the service that runs the stack, where
# they are not there yet. `sudo journalctl -u google-startup-scripts` shows how it went.
set -euo pipefail

CHECKOUT=/opt/taxi-assets
RELEASE=/etc/taxi/release  # what was deployed last; the metadata say what to begin with

metadata() {
    curl --fail --silent --show-error --retry 5 --header 'Metadata-Flavor: Google' \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

export DEBIAN_FRONTEND=noninteractive
packages=(apache2-utils docker.io docker-cli docker-compose git postgresql-client unattended-upgrades)
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}"
fi

if [ ! -f "$RELEASE" ]; then
    install -d -m 755 /etc/taxi
    printf 'IMAGE=%s\nREF=%s\n' "$(metadata taxi-image)" "$(metadata taxi-ref)" > "$RELEASE"
fi

if [ ! -d "$CHECKOUT/.git" ]; then
    git init --quiet "$CHECKOUT"
    git -C "$CHECKOUT" remote add origin "$(metadata taxi-repository)"
fi
if ! git -C "$CHECKOUT" rev-parse --quiet --verify HEAD >/dev/null; then
    git -C "$CHECKOUT" fetch --quiet --depth 1 origin "$(sed -n 's/^REF=//p' "$RELEASE")"
    git -C "$CHECKOUT" checkout --quiet --detach FETCH_HEAD
fi

install -m 755 "$CHECKOUT/deploy/gcp/taxi-deploy" /usr/local/sbin/taxi-deploy
install -m 644 "$CHECKOUT/deploy/gcp/taxi.service" /etc/systemd/system/taxi.service
systemctl daemon-reload
systemctl enable --quiet docker taxi
systemctl start --no-block taxi
