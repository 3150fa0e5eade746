#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# No process includes another's header, and common includes none of theirs.
cd "$1" || exit 1
status=0
rooms=(supervisor monitor networker checker-runner bus-agent ctl)
for room in common "${rooms[@]}"; do
  for other in "${rooms[@]}"; do
    [ "$room" = "$other" ] || ! git grep -nE "#include [\"<]$other/" -- "$room" || status=1
  done
done
exit $status
