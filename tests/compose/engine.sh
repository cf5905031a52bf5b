#!/usr/bin/env bash
# Run a command with a Docker engine and `docker compose`: engine.sh COMMAND...
#
# With what this machine has; where no engine runs but docker.io is installed, with an engine of its
# own, of which nothing stays behind but images and caches, in $COMPOSE_SCRATCH. Where the client has
# no `compose`, with Debian's plugins, unpacked there too. Starting an engine needs root.
set -euo pipefail

scratch=${COMPOSE_SCRATCH:-/var/tmp/retraining-compose}
mkdir -p "$scratch"

if ! docker compose version >/dev/null 2>&1; then
    export DOCKER_CONFIG=$scratch/config
    if ! docker compose version >/dev/null 2>&1; then
        # Debian 12 has no compose 2; trixie's runs there. The system's own sources stay as they are.
        apt=$scratch/apt plugins=$DOCKER_CONFIG/cli-plugins
        mkdir -p "$apt"/{lists,archives}/partial "$apt/parts" "$plugins"
        sed 's/bookworm/trixie/g' /etc/apt/sources.list.d/debian.sources >"$apt/parts/trixie.sources"
        from=(-qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/parts"
            -o "Dir::State::lists=$apt/lists" -o "Dir::Cache::archives=$apt/archives"
            -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
        apt-get "${from[@]}" update
        (cd "$apt" && apt-get "${from[@]}" download docker-compose docker-buildx)
        for package in "$apt"/*.deb; do dpkg -x "$package" "$apt/unpacked"; done
        cp "$apt"/unpacked/usr/libexec/docker/cli-plugins/* "$plugins"
    fi
fi
docker version >/dev/null 2>&1 && exec "$@"

export DOCKER_HOST=unix://$scratch/docker.sock
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
policy=$(iptables -S FORWARD | sed -n 's/^-P FORWARD //p')
dockerd --data-root "$scratch/root" --exec-root "$scratch/exec" --pidfile "$scratch/pid" \
    --host "$DOCKER_HOST" >"$scratch/log" 2>&1 &
engine=$!

clean_up() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    # What the engine adds and never takes away: chains, rules that lead there, bridges (no other
    # engine runs here).
    iptables-save | grep -viE 'docker|br-[0-9a-f]{12}' | iptables-restore
    iptables --policy FORWARD "$policy"
    ip -br link | grep -oE '^(docker0|br-[0-9a-f]{12})' | xargs -r -n 1 ip link delete
    echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
}
trap clean_up EXIT

for _ in $(seq 120); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || { tail -5 "$scratch/log" >&2; exit 1; }
    sleep 0.5
done
"$@"
