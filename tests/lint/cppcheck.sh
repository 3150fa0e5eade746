#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# cppcheck's warnings, performance and portability over the server. Version 2.10 cannot parse a
# lambda with template parameters and says so as internalAstError.
cd "$1" || exit 1
exec cppcheck --quiet --std=c++20 --language=c++ --enable=warning,performance,portability --inline-suppr \
  --error-exitcode=1 --suppress=missingIncludeSystem --suppress=internalAstError -j "$(nproc)" -I . -I "$2" \
  common supervisor monitor networker checker-runner bus-agent ctl
