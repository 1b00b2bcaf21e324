#!/usr/bin/env bash
# Create the virtual environment with the locked dependencies and the project in it. Called by `make install`.
set -euo pipefail
python=${PYTHON:-python3} venv=${VENV:-.venv}
say() { printf 'install: %s\n' "$*" >&2; }
command -v "$python" >/dev/null || { say "no $python here; install Python 3.11 or newer, or name one: make install PYTHON=/path/to/python3.11"; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "$("$python" --version) is too old; name Python 3.11 or newer: make install PYTHON=python3.11"; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null || { say "$python lacks venv; on Debian: apt-get install python3-venv"; exit 1; }
[ -x "$venv/bin/python" ] || { say "creating $venv"; "$python" -m venv "$venv"; }
say "installing the locked dependencies (some 60 packages, under a minute)"
# pip brings uv, which installs the rest several times faster; its version is locked too.
lock=$(mktemp); trap 'rm -f "$lock"' EXIT
awk '/^[a-z]/{on = /^uv==/} on' requirements.lock >"$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --editable .
say "done: $venv/bin/buildgrid-scheduler, $venv/bin/buildgrid-bot"
