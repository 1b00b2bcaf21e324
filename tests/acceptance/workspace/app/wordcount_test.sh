#!/bin/sh
# Runs the program on its input, found as runfiles.
counts=$(app/wordcount < app/poem.txt) || exit 1
echo "$counts" | grep -qx "2 tree" || { echo "got: $counts" >&2; exit 1; }
test -n "$TEST_TMPDIR" && echo written > "$TEST_TMPDIR/file"
