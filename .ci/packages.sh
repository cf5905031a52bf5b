#!/usr/bin/env bash
# Install the Debian packages that the suites need and this machine lacks. Needs root.
set -euo pipefail

needed=(git make python3 python3-venv openssl jq libgomp1 chromium fonts-dejavu-core postgresql
        radosgw ceph-mon ceph-osd ceph-mgr ceph-common)
missing=()
for package in "${needed[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

echo "Installing ${missing[*]}"
# Another apt may be at work: wait for its lock.
apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }
apt_get update
apt_get install -y --no-install-recommends "${missing[@]}"
