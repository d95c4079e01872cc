#!/bin/sh
# Run by Helm when the plugin is installed or updated: links milvus-guard into the plugin. The variable MILVUS_GUARD_PROGRAM names the
# program; without it, milvus-guard is searched on PATH.
set -eu
guard=${MILVUS_GUARD_PROGRAM:-$(command -v milvus-guard || true)}
if [ -z "$guard" ] || [ ! -x "$guard" ]; then
    echo "milvus-guard was not found${guard:+ at $guard}. Put it on PATH, or set MILVUS_GUARD_PROGRAM to its path. Then remove the plugin and install it again." >&2
    exit 1
fi
case $guard in
/*) ;;
*) guard=$PWD/$guard ;;
esac
"$guard" --version
mkdir -p "$HELM_PLUGIN_DIR/bin"
# The name under which the program is called says what it is to do.
for name in helm-guard helm-guard-post-render; do
    ln -sf "$guard" "$HELM_PLUGIN_DIR/bin/$name"
done
# Helm runs this one where a shell completes a command of the plugin.
ln -sf "$guard" "$HELM_PLUGIN_DIR/plugin.complete"
