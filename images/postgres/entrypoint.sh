#!/bin/sh
# PostgreSQL with one role and one database, both `buildgrid`, in the volume at PGDATA's parent. The first start
# makes them, with the password in PASSWORD_FILE. Arguments go to the server: -c max_connections=200.
set -eu
say() { echo "postgres: $*" >&2; }
new=$PGDATA.new

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -s "$PASSWORD_FILE" ] || {
    say "PASSWORD_FILE: $PASSWORD_FILE is missing, empty or unreadable; mount a Secret with the password there"; exit 2; }
  [ -w "${PGDATA%/*}" ] || {
    say "PGDATA: user $(id -u) may not write to ${PGDATA%/*}; mount a volume there, with fsGroup 65532"; exit 2; }
  say "making a database cluster in $PGDATA"
  # Made beside and renamed: a start that is interrupted leaves nothing that looks finished.
  rm -rf "$new"
  initdb --pgdata="$new" --username=buildgrid --pwfile="$PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=peer \
    --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C.UTF-8 --data-checksums >/dev/null
  echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
  echo 'CREATE DATABASE buildgrid' | postgres --single -D "$new" postgres >/dev/null
  mv -T "$new" "$PGDATA"
fi

made=$(cat "$PGDATA/PG_VERSION") here=$(postgres --version | sed 's/.* \([0-9]*\)\..*/\1/')
[ "$made" = "$here" ] || {
  say "$PGDATA was made by PostgreSQL $made, this is $here; run the image it was made by, dump, and load here"; exit 2; }

postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off -c fsync=on "$@" &
server=$!
# SIGTERM would make the server wait until its clients leave by themselves. SIGINT is the fast shutdown.
trap 'kill -INT "$server"' INT TERM
while :; do
  code=0; wait "$server" || code=$?
  kill -0 "$server" 2>/dev/null || exit "$code"
done
