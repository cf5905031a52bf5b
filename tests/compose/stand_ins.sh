#!/usr/bin/env bash
# Build stand-ins for the images of docker-compose.yaml from Debian packages, under the official
# names: for machines that reach a Debian mirror and no image registry. Needs root (debootstrap), a
# Docker engine, and debootstrap. `make compose-base` runs it.
set -euo pipefail
cd "$(dirname "$0")/standin"

if ! docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/root" >"$folder/log" 2>&1 ||
        { tail -20 "$folder/log" >&2; exit 1; }
    tar -C "$folder/root" -c . | docker import - debian:bookworm-slim >/dev/null
fi
build() { echo "$2"; docker build --quiet --pull=false --file "$1.Dockerfile" --tag "$2" . >/dev/null; }
build airflow apache/airflow:3.3.2-python3.11
build postgres postgres:16
build redis redis:7.2-bookworm
build radosgw retraining-radosgw:test
