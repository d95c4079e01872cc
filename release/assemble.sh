#!/usr/bin/env bash
# Makes the files of a release from binaries that are built: archives, charts, bill of materials, manifests for krew and Homebrew, and
# SHA256SUMS of it all. It publishes nothing, and the same input gives the same files.
#
#   release/assemble.sh --binaries DIR --out DIR [--version X.Y.Z] [--repository URL] [--registry HOST/PATH] [--dry-run]
#
#   --binaries    one folder for each target: DIR/x86_64-unknown-linux-musl/milvus-guard
#   --version     as the tag says it; it must be that of Cargo.toml, the charts and the plugins [default: of Cargo.toml]
#   --repository  address of the repository, and --registry of the images and charts [default: of Cargo.toml]
#   --dry-run     a version without a heading in CHANGELOG.md, and no cargo-cyclonedx, are warnings
#
# HELM names the program helm. A binary that runs on this machine is needed for the manual pages and completions.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8 TZ=UTC
die() { echo "error: $*" >&2; exit 1; }
of_cargo() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" Cargo.toml | head -n 1; }

binaries='' out='' dry=''
version=$(of_cargo version) repository=$(of_cargo repository) registry=$(of_cargo registry) homepage=$(of_cargo homepage)
cargo_version=$version
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes; shift; continue ;;
        --binaries | --out | --version | --repository | --registry) [ $# -gt 1 ] || die "$1 needs a value" ;;
        *) die "unknown argument $1" ;;
    esac
    case $1 in
        --binaries) binaries=$(realpath -e -- "$2") ;;
        --out) mkdir -p -- "$2"; out=$(realpath -e -- "$2") ;;
        --version) version=${2#v} ;;
        --repository) repository=${2%/} ;;
        --registry) registry=${2%/} ;;
    esac
    shift 2
done
if [ -z "$binaries" ] || [ -z "$out" ]; then die "--binaries and --out are needed"; fi
[ -z "$(ls -A "$out")" ] || die "$out is not empty"
may_fail() { if [ -n "$dry" ]; then echo "warning: $*" >&2; else die "$*"; fi; }

# One version everywhere.
[ "$version" = "$cargo_version" ] || die "the version is $version, but Cargo.toml has $cargo_version"
for file in charts/*/Chart.yaml plugins/helm/*/plugin.yaml; do
    grep -Eq "^version: \"?$version\"?$" "$file" || die "$file has another version than $version"
done
grep -q "^## \[\?$version" CHANGELOG.md || may_fail "CHANGELOG.md has no heading for $version"
for name in repository homepage registry; do
    case ${!name} in *example.org*) may_fail "$name in Cargo.toml is still a reserved name: ${!name}" ;; esac
done

# Times of files: those of the commit, so that archives are the same when they are made again.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack() { # FOLDER below $work, ARCHIVE
    tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" "$1" |
        gzip --no-name >"$2"
}

# Archives. One of the binaries runs here: it writes what is the same for all.
native=''
for binary in "$binaries"/*/milvus-guard; do
    if [ -x "$binary" ] && "$binary" --version >/dev/null 2>&1; then native=$binary; break; fi
done
[ -n "$native" ] || die "none of the binaries runs on this machine"
"$native" --version | grep -Fq " $version" || die "$native is not version $version"
mkdir -p "$work/shared/completions"
cp LICENSE README.md CHANGELOG.md "$work/shared/"
for shell in bash zsh fish; do "$native" completions "$shell" >"$work/shared/completions/milvus-guard.$shell"; done
"$native" man >"$work/shared/milvus-guard.1"
targets=()
for folder in "$binaries"/*/; do
    target=$(basename "$folder")
    [ -f "$folder/milvus-guard" ] || die "$folder has no milvus-guard"
    name=milvus-guard-$version-$target
    cp -R "$work/shared" "$work/$name"
    install -m 0755 "$folder/milvus-guard" "$work/$name/milvus-guard"
    pack "$name" "$out/$name.tar.gz"
    targets+=("$target")
done
sum() { sha256sum "$out/milvus-guard-$version-$1.tar.gz" | cut -d ' ' -f 1; }
url() { echo "$repository/releases/download/v$version/milvus-guard-$version-$1.tar.gz"; }
has() { [ -f "$out/milvus-guard-$version-$1.tar.gz" ]; }

# Charts, with what only a release knows.
changes=$(awk -v version="$version" '
    /^## / { here = index($0, version) || (!seen && /Unreleased/); if (here) seen = 1; next }
    /^### / { kind = tolower($2); next }
    here && /^- / { if (line) print line; line = "- kind: " kind "\n  description: " substr($0, 3); next }
    here && /^  / { line = line " " substr($0, 3); next }
    END { if (line) print line }' CHANGELOG.md |
    sed -E 's/^  description: (.*)$/\1/; t text; b; :text; s/\\/\\\\/g; s/"/\\"/g; s/^/  description: "/; s/$/"/')
for chart in charts/*/; do
    name=$(basename "$chart")
    cp -R "$chart" "$work/$name"
    sed -i "s|^home: .*|home: $homepage|; s|^sources: .*|sources: [$repository]|" "$work/$name/Chart.yaml"
    {
        printf '  artifacthub.io/prerelease: "%s"\n' "$(case $version in *-*) echo true ;; *) echo false ;; esac)"
        printf '  artifacthub.io/images: |\n    - name: milvus-guard\n      image: %s/milvus-guard:%s\n' "$registry" "$version"
        printf '      platforms: [linux/amd64, linux/arm64]\n'
        printf '  artifacthub.io/links: |\n    - name: documentation\n      url: %s/docs\n' "$homepage"
        printf '  artifacthub.io/changes: |\n'
        printf '%s\n' "$changes" | sed 's/^/    /'
    } >>"$work/$name/Chart.yaml"
    "${HELM:-helm}" package "$work/$name" --destination "$work" >/dev/null
    # Helm writes the time of packing into the archive.
    rm -rf "${work:?}/repacked"
    mkdir "$work/repacked"
    tar --extract --gzip --file "$work/$name-$version.tgz" -C "$work/repacked"
    tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work/repacked" "$name" |
        gzip --no-name >"$out/$name-$version.tgz"
done

# What the program is made of.
if cargo cyclonedx --version >/dev/null 2>&1; then
    cargo cyclonedx --quiet --format json --describe binaries --override-filename milvus-guard.cdx >/dev/null
    mv milvus-guard.cdx.json "$out/milvus-guard-$version.cdx.json"
    find . -name milvus-guard.cdx.json -not -path './target/*' -delete
else
    may_fail "cargo-cyclonedx is missing: no bill of materials (cargo install cargo-cyclonedx --locked)"
fi

# krew: kubectl guard.
{
    cat <<EOF
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: guard
spec:
  version: v$version
  homepage: $homepage
  shortDescription: Prevent unsafe Milvus upgrades
  description: |
    Judges upgrades of Milvus before they are applied, plans the path from one version to another, and performs rolling upgrades and the
    metadata migration of 2.1 to 2.2.
  platforms:
EOF
    for pair in linux/amd64/x86_64-unknown-linux-musl linux/arm64/aarch64-unknown-linux-musl \
        darwin/amd64/x86_64-apple-darwin darwin/arm64/aarch64-apple-darwin; do
        IFS=/ read -r os arch target <<<"$pair"
        has "$target" || continue
        cat <<EOF
    - selector:
        matchLabels: {os: $os, arch: $arch}
      uri: $(url "$target")
      sha256: $(sum "$target")
      files:
        - {from: milvus-guard-$version-$target/milvus-guard, to: .}
        - {from: milvus-guard-$version-$target/LICENSE, to: .}
      bin: milvus-guard
EOF
    done
} >"$out/guard.yaml"

# Homebrew.
{
    cat <<EOF
class MilvusGuard < Formula
  desc "Prevent unsafe Milvus upgrades on Kubernetes"
  homepage "$homepage"
  version "$version"
  license "Apache-2.0"

EOF
    for system in macos/apple-darwin linux/unknown-linux-musl; do
        has "aarch64-${system#*/}" || has "x86_64-${system#*/}" || continue
        printf '  on_%s do\n' "${system%/*}"
        for cpu in arm/aarch64 intel/x86_64; do
            target=${cpu#*/}-${system#*/}
            has "$target" || continue
            printf '    on_%s do\n      url "%s"\n      sha256 "%s"\n    end\n' "${cpu%/*}" "$(url "$target")" "$(sum "$target")"
        done
        printf '  end\n\n'
    done
    cat <<'EOF'
  def install
    bin.install "milvus-guard"
    bin.install_symlink "milvus-guard" => "kubectl-guard"
    bin.install_symlink "milvus-guard" => "kubectl_complete-guard"
    man1.install "milvus-guard.1"
    bash_completion.install "completions/milvus-guard.bash" => "milvus-guard"
    zsh_completion.install "completions/milvus-guard.zsh" => "_milvus-guard"
    fish_completion.install "completions/milvus-guard.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/milvus-guard --version")
  end
end
EOF
} >"$out/milvus-guard.rb"

cp release/artifacthub-repo.yml "$out/"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
echo "$version for ${targets[*]}:"
cat "$out/SHA256SUMS"
