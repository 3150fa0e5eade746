#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""root_side.py SOURCE BUILD: what has to be audited of the processes that run as root. Prints their own
lines of code (comments and blank lines aside) and the libraries that they load; fails when there are
more lines than monitor/AUDIT.md allows, or when a library is linked that has no row there."""
import pathlib, re, subprocess, sys

SOURCE, BUILD = map(pathlib.Path, sys.argv[1:])
AUDIT = (SOURCE / "monitor/AUDIT.md").read_text()
PROGRAMS = [BUILD / "monitor/mandos-monitor", BUILD / "supervisor/mandos"]


def code_lines(file):
    return sum(bool(line.strip()) and not line.lstrip().startswith("//")
               for line in file.read_text().splitlines())


lines = {room: sum(code_lines(file) for file in (SOURCE / room).rglob("*") if file.suffix in (".cc", ".h"))
         for room in ("common", "supervisor", "monitor")}
print(f"lines of code: {lines}, {sum(lines.values())} in all")
bound = int(re.search(r"at most ([\d,]+) lines", AUDIT)[1].replace(",", ""))

bad = []
if sum(lines.values()) > bound:
    bad.append(f"monitor/AUDIT.md allows {bound} lines")
allowed = set(re.findall(r"(?m)^\| `(lib[\w+-]+)`", AUDIT))
for program in PROGRAMS:
    dynamic = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout
    # A sanitizer's own libraries are no part of what is shipped.
    linked = {re.sub("^libabsl_.*", "libabsl", name)
              for name in re.findall(r"\(NEEDED\).*\[(lib[\w+-]+)\.so", dynamic)}
    closure = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    print(f"{program.name} is linked to {sorted(linked)} and loads {closure.count(' => ')} libraries")
    if missing := sorted(linked - allowed):
        bad.append(f"{program.name}: {missing} without a row in monitor/AUDIT.md")
print("\n".join(bad))
sys.exit(bool(bad))
