#!/usr/bin/env bash
# Run a command as an ordinary user, in that user's own copy of this tree: as_user.sh COMMAND...
# Needs root. What a suite writes outside its tree and /tmp fails here, as it would for people.
set -euo pipefail

user=retraining-ci
id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
home=$(getent passwd "$user" | cut -d: -f6)

tree=$(mktemp -d -p "$home" tree.XXXXXX)
trap 'rm -rf "$tree"' EXIT
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do [[ -e $file ]] && printf '%s\0' "$file"; done |
    tar --null --files-from=- --create | tar --extract --directory "$tree"
chown -R "$user:" "$tree"

# The rest of the environment (proxies, certificates) stays as it is. Root's folders are not
# readable for the user, so its PATH is Debian's.
cd "$tree" # which runuser keeps
runuser -u "$user" -- env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u XDG_RUNTIME_DIR \
    HOME="$home" USER="$user" LOGNAME="$user" PATH=/usr/local/bin:/usr/bin:/bin "$@" </dev/null
