# What the install scripts share. Sourced. Clients go to $ACCEPTANCE_CLIENTS, outside of the project's .venv.
set -euo pipefail
clients=${ACCEPTANCE_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/buildgrid-acceptance}
mkdir -p "$clients"

# python_of VERSION: prints a Python of exactly this minor version, from PATH, pyenv or uv.
python_of() {
  local candidate
  for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
    if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  if command -v uv >/dev/null && uv python find "$1" 2>/dev/null; then
    return
  fi
  echo "no Python $1; install it: pyenv install $1, or uv python install $1" >&2
  return 1
}

# put NAME COMMAND...: runs the command with the directory $clients/NAME as last argument, unless it has been
# through before. What was left unfinished is begun again.
put() {
  local target=$clients/$1
  shift
  if [ -e "$target/.complete" ]; then
    echo "$target is there"
    return
  fi
  rm -rf "$target"
  mkdir "$target"
  "$@" "$target"
  touch "$target/.complete"
  echo "installed $target"
}
