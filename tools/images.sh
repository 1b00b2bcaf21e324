#!/usr/bin/env bash
# images.sh            build the images scheduler, operator, bot and postgres; called by `make images`
# images.sh context    only make build/images, the build context, for a builder of one's own
# All of these have defaults:
#   REGISTRY=ghcr.io/buildgrid-kubernetes   what the names start with
#   VERSION=...                             the tag; the project's version
#   TARGETS="scheduler operator bot postgres"
#   PLATFORM=linux/amd64                    or linux/arm64; this machine's. `context` keeps what others need
#   BUILDER=docker                          or buildah; whichever works here
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'images: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

what=${1:-build}
case $what in build | context) ;; *) fail "'$what': say nothing, or context" ;; esac
venv=${VENV:-.venv}
registry=${REGISTRY:-ghcr.io/buildgrid-kubernetes}
targets=${TARGETS:-scheduler operator bot postgres}
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision+=-dirty
python=3.13  # of the base image, Debian trixie
machine=$(uname -m)
case $machine in x86_64) own=amd64 ;; aarch64 | arm64) own=arm64 ;; *) own=$machine ;; esac
platform=${PLATFORM:-linux/$own}
case $platform in
  linux/amd64) isa=x86_64 ;;
  linux/arm64) isa=aarch64 ;;
  *) fail "PLATFORM=$platform: give linux/amd64 or linux/arm64, one at a time" ;;
esac
arch=${platform#linux/}
for target in $targets; do
  case $target in scheduler | operator | bot | postgres) ;; *)
    fail "TARGETS: there is no image $target; choose from scheduler, operator, bot, postgres" ;;
  esac
done

builder=${BUILDER:-}
[ "$what" = context ] && builder=none
[ -n "$builder" ] || { docker info >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && builder=docker; } || {
  command -v buildah >/dev/null && builder=buildah; } ||
  fail "neither docker (running, with buildx) nor buildah is here; on Debian: apt-get install buildah"
case $builder in docker | buildah | none) ;; *) fail "BUILDER=$builder: give docker or buildah" ;; esac
[ "$builder" = none ] || command -v "$builder" >/dev/null || fail "BUILDER=$builder: no such program on PATH"
[ -x "$venv/bin/uv" ] || fail "no $venv/bin/uv; run 'make install'"

# The build context is made anew each time: nothing that is left over gets into an image.
context=build/images
wheels=$context/wheels/$arch
log=build/images-$arch.log
mkdir -p "$context/wheels" build/wheels
find "$context" -mindepth 1 -maxdepth 1 ! -name wheels -exec rm -rf {} +
rm -rf "$wheels" && mkdir "$wheels"
cp -r images/. "$context/"
: >"$log"

locked() { # NAME ARGUMENTS: what ARGUMENTS need on the platform, in versions and with hashes of requirements.lock
  local name=$1; shift
  "$venv/bin/uv" pip compile --quiet --no-header --no-annotate --python-version "$python" \
    --python-platform "$isa-manylinux_2_40" --constraints requirements.lock "$@" >"$context/$name.names" ||
    fail "the dependencies of the $name do not fit requirements.lock; run 'make lock'"
  awk '
    NR == FNR { if (/^[a-z0-9]/) { wanted[$1] = 1; n++ } next }
    /^[a-z0-9]/ { on = $1 in wanted; if (on) { n--; sub(/ ;[^\\]*/, " ") } }
    on && !/^ *#/ { print }
    END { exit n != 0 }
  ' "$context/$name.names" requirements.lock >"$wheels/$name.txt" ||
    fail "requirements.lock lacks dependencies of the $name; run 'make lock'"
  rm "$context/$name.names"
}

say "wheels for $platform, Python $python"
rm -f build/wheels/buildgrid_kubernetes-*
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0) \
  "$venv/bin/uv" build --quiet --wheel --out-dir build/wheels . >>"$log" 2>&1 ||
  { tail -5 "$log" >&2; fail "the project's wheel could not be built; the whole log: $log"; }
wheel=$(echo build/wheels/buildgrid_kubernetes-*.whl)
locked scheduler --extra object-store --extra metering pyproject.toml
locked operator --extra operator pyproject.toml
locked bot images/bot.in

# pip takes a wheel only if its platform is named: all glibc versions up to that of the base image.
tags=(--platform "manylinux2014_$isa")
for minor in $(seq 17 41); do tags+=(--platform "manylinux_2_${minor}_$isa"); done
for name in scheduler operator bot; do
  "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary=:all: --implementation cp --python-version "$python" "${tags[@]}" \
    --find-links build/wheels --dest "$wheels" -r "$wheels/$name.txt" >>"$log" 2>&1 ||
    { tail -5 "$log" >&2; fail "wheels of the $name cannot be had; the whole log: $log"; }
  sum=$(sha256sum "$wheel"); own_version=${wheel#*/buildgrid_kubernetes-}
  printf 'buildgrid-kubernetes==%s --hash=sha256:%s\n' "${own_version%%-*}" "${sum%% *}" >>"$wheels/$name.txt"
done
cp "$wheels"/*.whl build/wheels/  # so that the next build finds them here
cp "$wheel" "$wheels/"
if [ "$what" = context ]; then
  say "$context is ready for $platform"
  exit
fi

build() { # TARGET
  local flags=(--platform "$platform" --target "$1" --tag "$registry/$1:$version" --file "$context/Dockerfile"
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
  case $builder in
    docker) DOCKER_BUILDKIT=1 docker build --quiet "${flags[@]}" "$context" ;;
    buildah) buildah build --layers "${flags[@]}" "$context" ;;
  esac >>"$log" 2>&1
}

size() { # IMAGE: its size as the builder tells it
  case $builder in
    docker) docker image ls --format '{{.Size}}' "$1" ;;
    buildah) buildah images --format '{{.Size}}' "$1" ;;
  esac | head -1
}

for target in $targets; do
  began=$SECONDS
  say "building $target"
  build "$target" || { tail -15 "$log" >&2; fail "$target was not built by $builder; the whole log: $log"; }
  printf '%-60s %10s %5ss\n' "$registry/$target:$version" "$(size "$registry/$target:$version")" "$((SECONDS - began))"
done
