#!/usr/bin/env bash
# Pants 2.17.1 from PyPI, the last one there. It runs on Python 3.9 only.
. "$(dirname "$0")/common.sh"

python=$(python_of 3.9)
install() {
  "$python" -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check 'pantsbuild.pants==2.17.1' 'setuptools<81'
}
put pants-2.17.1 install
