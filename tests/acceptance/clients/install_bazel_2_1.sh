#!/usr/bin/env bash
# Bazel 2.1.0, the official binary, from the npm registry.
. "$(dirname "$0")/common.sh"

install() {
  (cd "$1" && npm pack --silent @bazel/bazel-linux_x64@2.1.0 >/dev/null)
  tar -xzf "$1"/bazel-*.tgz -C "$1" --strip-components=1
  rm "$1"/bazel-*.tgz
  mv "$1/bazel-2.1.0-linux-x86_64" "$1/bazel"
  chmod +x "$1/bazel"
}
put bazel-2.1.0 install
