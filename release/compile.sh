#!/bin/sh
# Builds the program for release, static, for this machine or for the target that is named. No path of the machine gets into it.
#   release/compile.sh [TARGET]
set -eu
target=${1:-$(uname -m)-unknown-linux-musl}
case $target in
    *-musl)
        command -v musl-gcc >/dev/null || { echo "musl-gcc is missing (Debian: apt-get install musl-tools)" >&2; exit 1; }
        variable=CC_$(echo "$target" | tr - _)
        export "$variable=musl-gcc"
        ;;
esac
RUSTFLAGS="--remap-path-prefix=$(pwd)=/milvus-guard --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
case $target in
    *-linux-*) RUSTFLAGS="$RUSTFLAGS -C link-arg=-Wl,--build-id=none" ;;
esac
export RUSTFLAGS CARGO_INCREMENTAL=0
exec cargo build --locked --release --bin milvus-guard --target "$target"
