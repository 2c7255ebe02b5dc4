#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Before a push: the lints, then what CI runs, stopping at the first failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./fl lint
exec .ci/run
