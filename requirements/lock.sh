#!/bin/sh
# Lock the dependencies anew: dev.txt first, then all others in the same versions, and Triton's. Needs uv.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}
options="--universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -q"
# shellcheck disable=SC2086  # the options are words on purpose
"$uv" pip compile pyproject.toml --extra dev $options -o requirements/dev.txt "$@"
# shellcheck disable=SC2086
"$uv" pip compile pyproject.toml --extra local $options -c requirements/dev.txt -o requirements/local.txt "$@"
UV=$uv python3 requirements/lock.py
# shellcheck disable=SC2086
"$uv" pip compile requirements/triton.in --no-deps $options -o requirements/triton.txt "$@"
