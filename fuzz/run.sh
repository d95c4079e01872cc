#!/usr/bin/env bash
# Fuzzes each reader of untrusted input for SECONDS_EACH (60). Needs cargo-fuzz: cargo install cargo-fuzz --locked.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fuzz list | while read -r target; do
    mkdir -p "fuzz/corpus/$target"
    case $target in
        manifests) cp -n examples/demo/*/*.yaml fuzz/corpus/manifests/ 2>/dev/null || true ;;
        catalogue) cp -n crates/core/src/milvus/catalogue/data/*.yaml fuzz/corpus/catalogue/ 2>/dev/null || true ;;
    esac
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="${SECONDS_EACH:-60}" -max_len=65536 -timeout=10 -rss_limit_mb=1024 </dev/null
done
