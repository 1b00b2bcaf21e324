# A client: Bazel, and the C++ compiler that the actions' image has, too, whose paths Bazel writes into actions.
ARG TOOLCHAIN=localhost/toolchain:test
FROM ${TOOLCHAIN}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends bazel-bootstrap >/dev/null \
 && rm -rf /var/lib/apt/lists/*
