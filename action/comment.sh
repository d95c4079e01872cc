#!/usr/bin/env bash
# One comment for each release on a pull request: written once, replaced afterwards. A token that may not write it (a pull request
# from a fork) is a warning, because the verdict stands without it.
set -euo pipefail

[ -s "${COMMENT:-}" ] || exit 0
marker="<!-- milvus-guard $NAMESPACE/$RELEASE -->"
body=$(mktemp)
{
    echo "$marker"
    # GitHub takes 65,536 characters.
    head --bytes 60000 "$COMMENT"
} >"$body"
warn() { echo "::warning title=milvus-guard::the comment could not be written: $1 needs the permission pull-requests: write"; }

comments="repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments"
# shellcheck disable=SC2016 # $ENV.marker is for jq
known=$(marker=$marker gh api --paginate "$comments" \
    --jq '.[] | select(.user.type == "Bot" and (.body | startswith($ENV.marker))) | .id' | head -n 1) || { warn "reading"; exit 0; }
if [ -n "$known" ]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$known" --field "body=@$body" || warn "replacing"
else
    gh api --silent --method POST "$comments" --field "body=@$body" || warn "creating"
fi
