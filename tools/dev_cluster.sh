#!/usr/bin/env bash
# dev_cluster.sh    the operator from source, on this machine, for a cluster; called by `make dev-cluster`
# It installs the CRDs, applies examples/kubernetes/scheduler-minimal.yaml and bot-fleet-minimal.yaml into a namespace of
# its own, and runs the operator until Ctrl-C. What it made stays, for the next start.
#   KUBECONFIG=FILE           the cluster: of kind, k3d, or another one for trials
#   NAMESPACE=buildgrid-dev   where the Scheduler is
#   SCHEDULER_IMAGE=...       of the scheduler; `make images` builds the default here, and kind and k3d are given it
#   BOT_IMAGE=...             of the bots, likewise
#   DATABASE_URL=...          as pods reach it; unset: a PostgreSQL without a volume is started beside the Scheduler
#   DATABASE_IMAGE=docker.io/library/postgres:17
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'dev-cluster: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ -n "${KUBECONFIG:-}" ] ||
  fail "set KUBECONFIG to a cluster for trials; to get one on this machine: kind create cluster, or k3d cluster create"
command -v kubectl >/dev/null || fail "kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools/"
bin=${VENV:-.venv}/bin
namespace=${NAMESPACE:-buildgrid-dev}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image=${SCHEDULER_IMAGE:-ghcr.io/buildgrid-kubernetes/scheduler:$version}
bot_image=${BOT_IMAGE:-ghcr.io/buildgrid-kubernetes/bot:$version}
database=${DATABASE_URL:-}
context=$(kubectl config current-context)

give_image() { # TARGET IMAGE COMMAND...: to a cluster that has its own images
  local target=$1 image=$2
  shift 2
  if ! command -v docker >/dev/null || ! docker image inspect "$image" >/dev/null 2>&1; then
    say "$image is not on this machine: the cluster pulls it; make images TARGETS=$target builds it from source"
    return
  fi
  say "gives $image to the cluster"
  "$@"
}
know_image() { # TARGET IMAGE VARIABLE
  case $context in
    kind-*) give_image "$1" "$2" kind load docker-image "$2" --name "${context#kind-}" ;;
    k3d-*) give_image "$1" "$2" k3d image import "$2" --cluster "${context#k3d-}" ;;
    *) say "the cluster must know the image $2; another one: $3=..." ;;
  esac
}
know_image scheduler "$image" SCHEDULER_IMAGE
know_image bot "$bot_image" BOT_IMAGE

say "installs the CRDs"
kubectl apply --server-side --force-conflicts -f crds >/dev/null
kubectl wait --for=condition=Established --timeout=60s -f crds >/dev/null
kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if [ -z "$database" ]; then
  say "starts a PostgreSQL without a volume"
  sed "s|@IMAGE@|${DATABASE_IMAGE:-docker.io/library/postgres:17}|" tools/dev_cluster.yaml |
    kubectl -n "$namespace" apply -f - >/dev/null
  database=postgresql://buildgrid:buildgrid@dev-database:5432/buildgrid
fi
kubectl -n "$namespace" create secret generic buildgrid-database --from-literal=url="$database" \
  --dry-run=client -o yaml | kubectl -n "$namespace" apply -f - >/dev/null
kubectl -n "$namespace" apply -f examples/kubernetes/scheduler-minimal.yaml \
  -f examples/kubernetes/bot-fleet-minimal.yaml >/dev/null

port=$("$bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
forward() { # until it is ended; a Service without pods, and pods that end, end a port-forward
  trap 'kill "${child:-}" 2>/dev/null; exit 0' TERM
  while :; do
    kubectl -n "$namespace" port-forward service/main-scheduler "$port:grpc" >/dev/null 2>&1 &
    child=$!
    wait "$child" || true
    sleep 2 &
    child=$!
    wait "$child"
  done
}
forward &
forwarder=$!
trap 'kill "$forwarder" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
say "how it is:    kubectl -n $namespace get schedulers.buildgrid.build main -o wide"
say "its bots:     kubectl -n $namespace get bgf linux --watch   (none until actions wait)"
say "build on it:  bazel build --remote_executor=grpc://127.0.0.1:$port //..."
say "forget it:    kubectl delete namespace $namespace"
say "the operator's log follows; Ctrl-C ends it"
"$bin/buildgrid-operator" run --namespace="$namespace" --leader-election-namespace="$namespace" \
  --scheduler-image="$image" --bot-image="$bot_image" --scheduler-endpoint="grpc://127.0.0.1:$port" \
  --monitoring-listen=127.0.0.1:0 --log-format=text
