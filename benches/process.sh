#!/usr/bin/env bash
# Whole processes, in turn: `check` on a pair of manifests against a process that only parses the same two files.
# Usage: benches/process.sh BEFORE.yaml AFTER.yaml [RUNS]. Needs GNU time (Debian: time) and perl.
set -euo pipefail
before=$1 after=$2 runs=${3:-21}
cd "$(dirname "$0")/.."
cargo build --release --quiet --bin milvus-guard --example parse_only
bin=${CARGO_TARGET_DIR:-target}/release
wall() { perl -MTime::HiRes=time -e '$t=time; system("@ARGV >/dev/null 2>&1"); printf "%.3f\n", (time-$t)*1000' -- "$@"; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
for _ in 1 2; do wall "$bin/milvus-guard" check --before "$before" --after "$after" -n milvus >/dev/null; done
for _ in $(seq "$runs"); do
    wall "$bin/milvus-guard" check --before "$before" --after "$after" -n milvus >>"${TMPDIR:-/tmp}/guard.$$"
    wall "$bin/examples/parse_only" "$before" "$after" >>"${TMPDIR:-/tmp}/parse.$$"
    wall "$bin/milvus-guard" rules list >>"${TMPDIR:-/tmp}/list.$$"
done
guard=$(median <"${TMPDIR:-/tmp}/guard.$$"); parse=$(median <"${TMPDIR:-/tmp}/parse.$$"); list=$(median <"${TMPDIR:-/tmp}/list.$$")
ratio=$(paste "${TMPDIR:-/tmp}/guard.$$" "${TMPDIR:-/tmp}/parse.$$" | awk '{print $1/$2}' | median)
rm -f "${TMPDIR:-/tmp}/guard.$$" "${TMPDIR:-/tmp}/parse.$$" "${TMPDIR:-/tmp}/list.$$"
printf 'check %s ms, parse only %s ms, ratio (median of pairs) %s, rules list %s ms\n' "$guard" "$parse" "$ratio" "$list"
if [ -x /usr/bin/time ]; then
    /usr/bin/time -f 'check: %M kB peak' "$bin/milvus-guard" check --before "$before" --after "$after" -n milvus >/dev/null 2>"${TMPDIR:-/tmp}/rss.$$" || true
    tail -1 "${TMPDIR:-/tmp}/rss.$$"; rm -f "${TMPDIR:-/tmp}/rss.$$"
fi
