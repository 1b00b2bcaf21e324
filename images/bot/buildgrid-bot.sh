#!/bin/sh
# The bot, from wherever this directory is. It takes no library, module or setting of the image around: its own
# loader and libraries, Python isolated (-I), without site packages (-S) and locales (LC_ALL). What comes after
# PATH is for bwrap in images that have none. Actions see none of these settings: the bot gives them their own.
home=$(cd "${0%/*}/.." && pwd -P) || exit 1
export LC_ALL=C OPENSSL_CONF=/dev/null
export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}:$home/bin"
exec "$home/lib/ld.so" --inhibit-cache --library-path "$home/lib" \
  "$home/python/bin/python3" -I -S -B -u -X utf8 "$home/app" "$@"
