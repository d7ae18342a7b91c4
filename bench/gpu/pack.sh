#!/usr/bin/env bash
# The gateway's own wheels for CPython 3.12 on Linux, for a machine that has no package registry.   bench/gpu/pack.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
platforms=$(printf -- '--platform manylinux%s_x86_64 ' _2_28 _2_27 _2_17 2014 1)
# shellcheck disable=SC2086
.venv/bin/pip download -q --no-deps --require-hashes -r requirements.lock --only-binary=:all: --python-version 3.12 --implementation cp $platforms -d "$1"
