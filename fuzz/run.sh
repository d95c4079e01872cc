#!/usr/bin/env bash
# Fuzzes each reader of untrusted input for SECONDS_EACH (60). Needs cargo-fuzz: cargo install cargo-fuzz --locked.
set -euo pipefail
cd "$(dirname "$0")/.."
for target in manifests helm_release policies review tape backup metadata; do
    mkdir -p "fuzz/corpus/$target"
    if [ "$target" = manifests ]; then cp -n examples/demo/*/*.yaml fuzz/corpus/manifests/ 2>/dev/null || true; fi
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="${SECONDS_EACH:-60}" -max_len=65536 -timeout=10 -rss_limit_mb=1024
done
