#!/bin/sh
# Lock the dependencies anew: dev.txt first, then local.txt in the same versions. Needs uv.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}
options="--universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -q"
# shellcheck disable=SC2086  # the options are words on purpose
"$uv" pip compile pyproject.toml --extra dev $options -o requirements/dev.txt "$@"
# shellcheck disable=SC2086
"$uv" pip compile pyproject.toml --extra local $options -c requirements/dev.txt -o requirements/local.txt "$@"
