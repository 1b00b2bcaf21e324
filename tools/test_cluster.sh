#!/usr/bin/env bash
# test_cluster.sh COMMAND...    run the tests against the cluster of KUBECONFIG; called by `make test-cluster`
# Without KUBECONFIG a cluster is made for them with kind or k3d, whichever is on PATH, and removed after them.
set -euo pipefail
say() { printf 'test-cluster: %s\n' "$*" >&2; }

if [ -n "${KUBECONFIG:-}" ]; then exec "$@"; fi

name=buildgrid-test-$$
folder=$(mktemp -d)
export KUBECONFIG=$folder/kubeconfig
if command -v kind >/dev/null; then
  make_cluster() { kind create cluster --name "$name" --kubeconfig "$KUBECONFIG" --wait 5m; }
  remove_cluster() { kind delete cluster --name "$name" --kubeconfig "$KUBECONFIG"; }
elif command -v k3d >/dev/null; then
  make_cluster() {
    k3d cluster create "$name" --wait --kubeconfig-update-default=false --kubeconfig-switch-context=false
    k3d kubeconfig get "$name" >"$KUBECONFIG"
  }
  remove_cluster() { k3d cluster delete "$name"; }
else
  rm -rf "$folder"
  say "set KUBECONFIG to a cluster for tests, or install kind or k3d, which make one on this machine"
  exit 1
fi

end() {
  code=$?
  trap - EXIT INT TERM
  say "removes the cluster $name"
  remove_cluster >&2 || say "the cluster $name could not be removed"
  rm -rf "$folder"
  exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
say "makes the cluster $name"
make_cluster >&2
"$@"
