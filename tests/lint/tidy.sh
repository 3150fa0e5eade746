#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# clang-tidy with the list in .clang-tidy over every source of the server that the build knows.
cd "$1" || exit 1
database=$(mktemp -d)
trap 'rm -rf "$database"' EXIT
# clang 14 wants a second option with this one, which later ones refuse.
sed 's/ -ftrivial-auto-var-init=zero//g' "$2/compile_commands.json" > "$database/compile_commands.json"
git ls-files 'supervisor/*.cc' 'monitor/*.cc' 'networker/*.cc' 'checker-runner/*.cc' 'bus-agent/*.cc' 'ctl/*.cc' 'common/*.cc' |
  while read -r file; do grep -q "$file\"" "$2/compile_commands.json" && echo "$file"; done |
  xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$database" --warnings-as-errors='*' 2> "$2/tidy.log" || { tail -n 20 "$2/tidy.log"; exit 1; }
