# An image that an action may want: a C and a C++ compiler, no Python, and another C library than the bot's.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends g++ gcc libc6-dev >/dev/null \
 && rm -rf /var/lib/apt/lists/* && ! command -v python3
