#!/bin/sh
# Builds the program for release, for this machine or for the target that is named; on Linux a static binary. No path of the machine
# gets into it. A binary that is not static, or that does not start here, is an error.
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
    # Packed relocations are 0.7 MB less. glibc reads them from 2.36 on, musl from 1.2.4 on.
    *-linux-*) RUSTFLAGS="$RUSTFLAGS -C link-arg=-Wl,--build-id=none,-z,pack-relative-relocs" ;;
esac
export RUSTFLAGS CARGO_INCREMENTAL=0
cargo build --locked --release --bin milvus-guard --target "$target"
binary=${CARGO_TARGET_DIR:-target}/$target/release/milvus-guard
case $target in
    *-musl)
        headers=$(readelf --program-headers "$binary")
        case $headers in *INTERP*) echo "$binary is not static: it needs a loader" >&2; exit 1 ;; esac
        ;;
esac
case $target in
    "$(uname -m)"-*-linux-*) "$binary" --version ;;
esac
echo "$binary: $(wc -c <"$binary") bytes"
