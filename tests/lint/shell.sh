#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The shell scripts parse.
cd "$1" || exit 1
for file in quickstart check .ci/run dist/packages.sh dist/tarball-metadata tests/machines/run tests/machines/guest tests/package/run tests/readme/run tests/releases/run tests/support/*.sh tests/lint/*.sh; do bash -n "$file" || exit 1; done
