#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every file but prose and data says its licence in its first lines.
cd "$1" || exit 1
status=0
while read -r file; do
  head -n 5 "$file" | grep -q 'SPDX-License-Identifier: GPL-3.0-or-later' || { echo "$file: no licence"; status=1; }
done < <(git ls-files | grep -vE '\.(md|json|svg|png)$|^\.gitignore$|(^|/)corpus/|^debian/|^LICENSE$')
exit $status
