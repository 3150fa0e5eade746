#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""root_side.py SOURCE BUILD: what has to be audited of the processes that run as root. Prints how many
statements they have and the libraries that they load; fails when there are more statements than
monitor/AUDIT.md allows, or when a library is linked that has no row there.

A statement is a semicolon outside comments, literals and the headers of for loops: unlike lines, it
does not depend on how the code is laid out."""
import pathlib, re, subprocess, sys

SOURCE, BUILD = map(pathlib.Path, sys.argv[1:])
AUDIT = (SOURCE / "monitor/AUDIT.md").read_text()
PROGRAMS = [BUILD / "monitor/mandos-monitor", BUILD / "supervisor/mandos"]


def statements(text):
    # What is no code: comments, strings and characters (but not the separators of 1'000).
    text = re.sub(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                  r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", " ", text, flags=re.S)
    count, at = text.count(";"), 0
    while header := re.compile(r"\bfor\s*\(").search(text, at):
        at, depth = header.end(), 1
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        count -= text.count(";", header.end(), at)
    return count


# The measure itself, on what is easy to get wrong.
assert statements('a = ";"; for (int i = 0; i < 9; ++i) f(i); // ; \nchar c = \';\'; x = 1\'000;') == 4

found = {room: sum(statements(file.read_text()) for file in (SOURCE / room).rglob("*") if file.suffix in (".cc", ".h"))
         for room in ("common", "supervisor", "monitor")}
print(f"statements: {found}, {sum(found.values())} in all")
bound = int(re.search(r"at most ([\d,]+)\s+statements", AUDIT)[1].replace(",", ""))

bad = []
if sum(found.values()) > bound:
    bad.append(f"monitor/AUDIT.md allows {bound} statements")
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
