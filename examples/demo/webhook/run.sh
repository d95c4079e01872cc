#!/usr/bin/env bash
# The webhook without a cluster: a real `milvus-guard serve`, asked by curl what an API server would ask. Part of ../run.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra guard <<<"${MILVUS_GUARD:-cargo run --quiet --}"

case_folder=1-skipped-migration
work=$(mktemp -d)
server=
address=
stop() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap 'stop; rm -rf "$work"' EXIT

say() { printf '\n\n=== %s\n\n' "$1"; }
fail() { printf '%s\n' "$1" >&2; exit 1; }

# The running state, as `kubectl get -o yaml` would print it: with its namespace.
awk '/^  namespace: / { next } { print } /^metadata:/ { print "  namespace: milvus" }' "$case_folder/before.yaml" >"$work/running.yaml"

# Starts the server with these further arguments and waits until it says where it listens.
serve() {
    printf '$ milvus-guard serve --no-cluster --tls-self-signed --before running.yaml%s\n\n' "${*:+ $*}"
    "${guard[@]}" serve --no-cluster --tls-self-signed --tls-ca-out "$work/ca.crt" --listen 127.0.0.1:0 \
        --metrics-listen 127.0.0.1:0 --shutdown-delay 0 --before "$work/running.yaml" "$@" 2>"$work/log" &
    server=$!
    address=
    for _ in $(seq 300); do
        address=$(sed -n 's|^milvus-guard: serving on https://\([^,]*\),.*|\1|p' "$work/log")
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    fail "the server did not start: $(cat "$work/log")"
}

# A file as the inside of a JSON string.
json_text() { sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' "$1" | awk '{ gsub("\t", "\\t"); printf "%s\\n", $0 }'; }
in_base64() { base64 | tr -d '\n'; }

# What Helm asks the API server to store before it touches anything. Helm packs it with gzip too; the guard reads both.
release_review() {
    local release
    release=$({
        printf '{"name":"my-release","namespace":"milvus","version":2,"info":{"status":"pending-upgrade"},"manifest":"'
        json_text "$case_folder/after.yaml"
        printf '"}'
    } | in_base64 | in_base64)
    cat <<EOF
{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
  "uid": "1", "operation": "CREATE", "namespace": "milvus", "name": "sh.helm.release.v1.my-release.v2",
  "resource": {"group": "", "version": "v1", "resource": "secrets"}, "userInfo": {"username": "somebody"},
  "object": {"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
    "metadata": {"name": "sh.helm.release.v1.my-release.v2", "namespace": "milvus",
      "labels": {"owner": "helm", "name": "my-release", "version": "2", "status": "pending-upgrade"}},
    "data": {"release": "$release"}}}}
EOF
}

# The proxy of before.yaml with an image, as the API server holds it.
proxy() {
    cat <<EOF
{"apiVersion": "apps/v1", "kind": "Deployment",
 "metadata": {"name": "my-release-milvus-proxy", "namespace": "milvus", "labels": {"helm.sh/chart": "milvus-3.2.18",
   "app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "my-release", "app.kubernetes.io/version": "2.1.4",
   "app.kubernetes.io/managed-by": "Helm", "component": "proxy"}},
 "spec": {"replicas": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "milvus",
     "app.kubernetes.io/instance": "my-release", "component": "proxy"}},
   "template": {"metadata": {"labels": {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "my-release",
       "component": "proxy"}},
     "spec": {"containers": [{"name": "proxy", "image": "$1", "args": ["milvus", "run", "proxy"]}]}}}}
EOF
}

# The change of its image, as kubectl asks for it.
image_review() {
    cat <<EOF
{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
  "uid": "2", "operation": "UPDATE", "namespace": "milvus", "name": "my-release-milvus-proxy",
  "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "userInfo": {"username": "somebody"},
  "options": {"fieldManager": "kubectl-set"},
  "oldObject": $(proxy milvusdb/milvus:v2.1.4),
  "object": $(proxy "$1")}}
EOF
}

# Sends a review (stdin) to a path, as an API server would.
ask() {
    curl --silent --show-error --noproxy '*' --cacert "$work/ca.crt" --max-time 20 \
        -H 'Content-Type: application/json' --data-binary @- "https://$address/$1?timeout=10s"
}
# A text of the answer, as its reader sees it.
text_of() { printf '%b' "$(sed -nE 's/.*"'"$1"'":"(([^"\\]|\\.)*)".*/\1/p')"; }
allowed() { case $1 in *'"allowed":true'*) return 0 ;; *) return 1 ;; esac }
# The warnings of an answer, one a line, as kubectl prints them.
warnings_of() {
    sed -nE 's/.*"warnings":\["(([^]"\\]|\\.|",")*)"\].*/\1/p' <<<"$1" | sed 's/","/\
/g' | sed -e 's/^/Warning: /' -e 's/\\"/"/g'
}
# The answer, the webhook's name, and a rule that must be in the denial.
show_denial() {
    ! allowed "$1" || fail "this was to be denied: $1"
    warnings_of "$1"
    printf 'admission webhook "%s" denied the request: %s\n' "$2" "$(text_of message <<<"$1")"
    case $1 in *"$3"*) ;; *) fail "$3 was to be in the denial" ;; esac
}

say "5. The same helm upgrade as in 1, at the webhook: the record of revision 2 that Helm wants to store"
serve
answer=$(release_review | ask validate)
show_denial "$answer" release.guard.milvus.io 'MG101 skipped-metadata-migration'

say "6. Past Helm: one image by hand"
echo '$ kubectl -n milvus set image deployment/my-release-milvus-proxy proxy=milvusdb/milvus:v2.2.16'
echo
answer=$(image_review milvusdb/milvus:v2.2.16 | ask validate)
show_denial "$answer" workload.guard.milvus.io 'MG101 skipped-metadata-migration'

say "7. What passes gets a label with its true version"
echo '$ kubectl -n milvus set image deployment/my-release-milvus-proxy proxy=registry.example.com/milvus:v2.1.4'
echo
answer=$(image_review registry.example.com/milvus:v2.1.4 | ask validate)
allowed "$answer" || fail "this was to be allowed: $answer"
warnings_of "$answer"
answer=$(image_review registry.example.com/milvus:v2.1.4 | ask mutate)
patch=$(sed -nE 's/.*"patch":"([^"]*)".*/\1/p' <<<"$answer" | base64 -d)
printf 'patch: %s\n' "$patch"
case $patch in *guard.milvus.io~1version*2.1.4*) ;; *) fail "the label was to be set: $answer" ;; esac
stop

say "8. The same helm upgrade once more, after the migration: its evidence opens the gate"
serve --facts webhook/facts.yaml
answer=$(release_review | ask validate)
allowed "$answer" || fail "this was to be allowed: $answer"
warnings_of "$answer"
echo allowed
