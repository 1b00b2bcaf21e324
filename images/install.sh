#!/bin/sh
# install.sh NAME DIRECTORY: a virtual environment with the locked wheels of NAME, compiled, without pip.
# Each wheel is checked against its hash in /wheels/NAME.txt.
set -eu
list=/wheels/$1.txt directory=$2
python3 -m venv --without-pip "$directory"
/pip/bin/pip --python "$directory/bin/python" install --quiet --no-index --find-links /wheels --require-hashes \
  --no-deps --no-compile --root-user-action=ignore -r "$list"
rm -rf "$directory/include" "$directory/lib64" "$directory"/bin/[Aa]ctivate*
# The compiled files hold for good, whatever happens to the times of the sources.
"$directory/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$directory/lib"
