#!/bin/sh
# Leaves the manifests of the workspace, with empty sources, in the current folder: what is built then are the dependencies alone.
# patches stays: a dependency builds with it.
set -eu
[ -f Cargo.lock ] || { echo "run it in a copy of the sources" >&2; exit 1; }
[ ! -e .git ] || { echo "this deletes sources: run it in a copy, not in a clone" >&2; exit 1; }
find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './patches/*' ! -path './.cargo/*' ! -path './release/*' -delete
find . -name Cargo.toml ! -path './patches/*' | while read -r manifest; do
    folder=$(dirname "$manifest")
    mkdir -p "$folder/src"
    : >"$folder/src/lib.rs"
done
for main in src xtask/src; do echo 'fn main() {}' >"$main/main.rs"; done
# Cargo wants to see every target that a manifest names.
mkdir -p benches
awk '/^\[/ { bench = ($0 == "[[bench]]") } bench && $1 == "name" { gsub(/"/, "", $3); print $3 }' Cargo.toml |
    while read -r bench; do echo 'fn main() {}' >"benches/$bench.rs"; done
