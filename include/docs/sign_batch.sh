#!/usr/bin/env bash
# Sign a delivery without Python; needs openssl >= 3, jq >= 1.6 and GNU coreutils. Writes batch.dsse.json
# into the folder DELIVERY, or DELIVERY.dsse.json beside a single file. Raise SEQUENCE with every batch.
# Usage: sign_batch.sh DELIVERY ed25519.pem PROVIDER SOURCE WEEK SEQUENCE
set -euo pipefail
type=application/vnd.in-toto+json work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
if [ -d "$1" ]; then root=$1 what=. manifest=$1/batch.dsse.json
else root=$(dirname "$1") what=./$(basename "$1") manifest=$1.dsse.json; fi
(cd "$root" && find "$what" -type f ! -path ./batch.dsse.json -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z --) |
  jq -Rsc 'split("\u0000") | map(select(length > 0) | {name: .[68:], digest: {sha256: .[:64]}}) |
    if . == [] then error("no file to sign") else . end' >"$work/subject"
jq -cnj --slurpfile subject "$work/subject" --arg provider "$3" --arg dataset "$4" --arg batch "$5" \
  --argjson sequence "$6" --arg createdAt "$(date -u +%FT%TZ)" \
  '{_type: "https://in-toto.io/Statement/v1", subject: $subject[0],
    predicateType: "https://secure-retraining.dev/dataset-batch/v1",
    predicate: {$provider, $dataset, $batch, $sequence, $createdAt}}' >"$work/payload"
{ printf 'DSSEv1 %d %s %d ' ${#type} $type "$(wc -c <"$work/payload")"; cat "$work/payload"; } >"$work/pae"
openssl pkeyutl -sign -rawin -inkey "$2" -in "$work/pae" | base64 -w0 >"$work/signature"
base64 -w0 "$work/payload" >"$work/encoded"
jq -cn --rawfile payload "$work/encoded" --rawfile sig "$work/signature" --arg payloadType $type \
  '{$payload, $payloadType, signatures: [{keyid: "", $sig}]}' >"$work/manifest"
mv "$work/manifest" "$manifest"
