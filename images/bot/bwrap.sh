#!/bin/sh
# bubblewrap with the loader and libraries of this directory.
home=$(cd "${0%/*}/.." && pwd -P) || exit 1
exec "$home/lib/ld.so" --inhibit-cache --library-path "$home/lib" "$home/libexec/bwrap" "$@"
