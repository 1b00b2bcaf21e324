#!/bin/sh
# assemble.sh ENVIRONMENT DIRECTORY: a bot that runs in any Linux image, wherever DIRECTORY is copied to.
#
#   bin/      buildgrid-bot, bwrap (both start through lib/ld.so), tini (static)
#   app/      the bot and the packages that it imports
#   python/   an interpreter and its standard library
#   libexec/  the real bwrap
#   lib/      the loader and every shared library of all that: nothing of the image around is used
set -eu
environment=$1 directory=$2
version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
mkdir -p "$directory/bin" "$directory/lib" "$directory/libexec" "$directory/python/bin" "$directory/python/lib"

cp -r "$environment/lib/$version/site-packages" "$directory/app"
rm -rf "$directory"/app/buildgrid_scheduler "$directory"/app/buildgrid_operator
cp /bot/__main__.py "$directory/app/"
cp "/usr/bin/$version" "$directory/python/bin/python3"
cp -r "/usr/lib/$version" "$directory/python/lib/"
cp /usr/bin/bwrap "$directory/libexec/"
cp /usr/bin/tini-static "$directory/bin/tini"
for name in buildgrid-bot bwrap; do
  cp "/bot/$name.sh" "$directory/bin/$name" && chmod 755 "$directory/bin/$name"
done

# What a bot never imports.
standard="$directory/python/lib/$version"
(cd "$standard" && rm -rf config-* dist-packages site-packages sitecustomize.py _sysconfigdata_* curses dbm ensurepip \
  idlelib pydoc_data sqlite3 test tkinter turtle.py turtledemo venv wsgiref xmlrpc)
(cd "$standard/lib-dynload" && rm -f _curses* _dbm* _gdbm* _sqlite3* _test* _tkinter* _xx* readline* xx*)
find "$directory" -name __pycache__ -type d -prune -exec rm -rf {} +

find "$directory" -type f \( -name '*.so' -o -name '*.so.*' \) -print >/tmp/objects
printf '%s\n' "$directory/python/bin/python3" "$directory/libexec/bwrap" >>/tmp/objects
while read -r object; do ldd "$object" 2>/dev/null || true; done </tmp/objects | sort -u >/tmp/needed
if grep 'not found' /tmp/needed; then echo "assemble: libraries are missing" >&2; exit 1; fi
awk '$2 == "=>" && $3 ~ /^\// {print $3}' /tmp/needed | sort -u | while read -r library; do
  cp -L "$library" "$directory/lib/"
done
loader=$(ldd /usr/bin/env | awk '$1 ~ /^\// && $2 != "=>" {print $1; exit}')
cp -L "$loader" "$directory/lib/ld.so"

# Compiled for good, whatever copying does to the times of the sources.
python3 -m compileall -q --invalidation-mode unchecked-hash "$directory/app" "$standard"
