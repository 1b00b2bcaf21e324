#!/usr/bin/env bash
# The tests of tests/cluster: first those that may run beside each other, then those that need the cluster alone.
# Most of their time is waiting, so that several files at once cost little. PYTEST_WORKERS: how many.
set -uo pipefail
say() { printf 'test-cluster: %s\n' "$*" >&2; }

say "files beside each other"
"$PYTEST" -n "${PYTEST_WORKERS:-3}" --dist loadfile -m "not alone" tests/cluster
beside=$?
[ $beside -le 1 ] || exit $beside
say "what needs the cluster alone"
"$PYTEST" -n 0 -m alone tests/cluster
alone=$?
[ $beside -eq 0 ] && [ $alone -eq 0 ] || exit 1
