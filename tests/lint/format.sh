#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every C++ source is formatted as .clang-format says.
cd "$1" && git ls-files '*.cc' '*.h' | xargs clang-format --dry-run --Werror
