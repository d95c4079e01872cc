#!/usr/bin/env bash
# Renders what would be applied and judges it. The exit code is an output, so that the report is published before the job fails.
set -euo pipefail

out=${RUNNER_TEMP:?}/milvus-guard-report
rm -rf "$out"
mkdir -p "$out"
fail() {
    echo "::error title=milvus-guard::$1" >&2
    exit 1
}
# The lines of a text that are not empty.
lines() { printf '%s\n' "$1" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; /^$/d'; }

mapfile -t policies < <(lines "${POLICY:-}")
args=(--namespace "$NAMESPACE" --fail-on "$FAIL_ON" --show warn)
for policy in "${policies[@]}"; do args+=(--policy "$policy"); done

if [ -n "${TARGET_VERSION:-}" ]; then
    args+=(--instance "$RELEASE" --target-version "$TARGET_VERSION")
    [ "$BEFORE" = live ] || args+=(--before "$BEFORE")
else
    if [ -z "${AFTER:-}" ]; then
        AFTER=$out/wanted.yaml
        mapfile -t files < <(lines "${VALUES:-}")
        render=("$RELEASE" "$CHART" --namespace "$NAMESPACE")
        [ "$BEFORE" = none ] || render+=(--is-upgrade)
        [ -z "${CHART_VERSION:-}" ] || render+=(--version "$CHART_VERSION")
        for file in "${files[@]}"; do
            path=$(realpath --canonicalize-existing -- "$file") || fail "there is no file of values $file in this checkout"
            render+=(--values "$path")
        done
        folder=.
        # A path and an OCI address are charts without a repository.
        if [ -n "${CHART_REPOSITORY:-}" ] && [[ $CHART != */* ]]; then
            render+=(--repo "$CHART_REPOSITORY")
            # Helm prefers a folder with the name of the chart to the repository: there is none in this one.
            folder=$out
        fi
        echo "helm template ${render[*]}"
        (cd "$folder" && helm template "${render[@]}") >"$AFTER" || fail "helm template failed; its message is above"
    fi
    args+=(--after "$AFTER")
    [ "$BEFORE" = none ] || args+=(--before "$BEFORE")
    [ "$BEFORE" != live ] || args+=(--instance "$RELEASE")
fi

code=0
"$GUARD" check "${args[@]}" --format github --format "json=$out/report.json" --format "markdown=$out/comment.md" \
    --format "sarif=$out/milvus-guard.sarif" || code=$?
# 1 is a verdict, and has annotations of its own.
[ "$code" -le 1 ] || echo "::error title=milvus-guard::there is no verdict (exit code $code); the message is above" >&2
{
    echo "code=$code"
    if [ -s "$out/report.json" ]; then
        echo "verdict=$(sed -n 's/^ *"verdict": "\([a-z]*\)".*/\1/p' "$out/report.json" | head -n 1)"
        echo "report=$out/report.json"
        echo "comment=$out/comment.md"
        echo "sarif=$out/milvus-guard.sarif"
    fi
} >>"$GITHUB_OUTPUT"
if [ -s "$out/comment.md" ] && [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    cat "$out/comment.md" >>"$GITHUB_STEP_SUMMARY"
fi
