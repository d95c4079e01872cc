#!/usr/bin/env bash
# What milvus-guard is for, in one minute: three upgrades judged, one planned, and the webhook asked. Needs curl, but neither
# a cluster nor the network.
set -euo pipefail
cd "$(dirname "$0")"
# MILVUS_GUARD names a binary; without it cargo builds and runs this checkout.
read -ra guard <<<"${MILVUS_GUARD:-cargo run --quiet --}"

say() { printf '\n\n=== %s\n\n' "$1"; }
judge() { # folder, exit code that is expected
    local code=0
    printf '$ milvus-guard check --before %s/before.yaml --after %s/after.yaml -n milvus --show warn\n\n' "$1" "$1"
    "${guard[@]}" check --before "$1/before.yaml" --after "$1/after.yaml" -n milvus --show warn || code=$?
    printf '\n(exit code %s)\n' "$code"
    [ "$code" = "$2" ] || { echo "expected exit code $2" >&2; exit 1; }
}

say "1. helm upgrade from 2.1.4 to 2.2.16, the metadata migration forgotten"
judge 1-skipped-migration 1
say "2. A good upgrade from 2.4.24 to 2.5.27"
judge 2-good-upgrade 0
say "3. A new chart that swaps the message queue by default"
judge 3-queue-swap 1
say "4. The whole way from 2.1.4 to 2.5.27"
echo '$ milvus-guard plan --from 2.1.4 --to 2.5.27 -n milvus'
echo
"${guard[@]}" plan --from 2.1.4 --to 2.5.27 -n milvus
webhook/run.sh
