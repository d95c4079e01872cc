#!/usr/bin/env bash
# Puts milvus-guard on PATH: a program that is there already, else a released archive whose checksum is right.
set -euo pipefail
fail() {
    echo "::error title=milvus-guard::$1" >&2
    exit 1
}

if [ -n "${GUARD_PROGRAM:-}" ]; then
    program=$(command -v -- "$GUARD_PROGRAM") || fail "there is no program $GUARD_PROGRAM"
    echo "program=$program" >>"$GITHUB_OUTPUT"
    exit 0
fi

version=${GUARD_VERSION:-${GUARD_REF:-}}
version=${version#v}
if ! [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
    fail "'$version' is not a version: use the action at a tag such as v0.1.0, or set the input version"
fi
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) target=x86_64-unknown-linux-musl ;;
    Linux-aarch64 | Linux-arm64) target=aarch64-unknown-linux-musl ;;
    *) fail "no archive is released for $(uname -s) on $(uname -m)" ;;
esac

archive=milvus-guard-$version-$target.tar.gz
folder=${RUNNER_TEMP:?}/milvus-guard-$version
mkdir -p "$folder"
cd "$folder"
fetch() {
    local address=$GUARD_DOWNLOADS/v$version/$1
    curl --fail --silent --show-error --location --retry 3 --output "$1" "$address" ||
        fail "$address could not be downloaded: is there a release $version?"
}
fetch "$archive"
if [ -n "${GUARD_SHA256:-}" ]; then
    echo "$GUARD_SHA256  $archive" >expected
else
    fetch SHA256SUMS
    # The line of this archive only; without one there is nothing to compare with.
    awk -v name="$archive" '$2 == name' SHA256SUMS >expected
fi
if ! [ -s expected ] || ! sha256sum --check --strict --quiet expected; then
    fail "the checksum of $archive is not the one that was released"
fi
tar --extract --gzip --no-same-owner --file "$archive" --strip-components 1
echo "program=$folder/milvus-guard" >>"$GITHUB_OUTPUT"
echo "$folder" >>"$GITHUB_PATH"
"$folder/milvus-guard" --version
