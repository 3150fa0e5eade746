#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""markdown.py SOURCE: renders every Markdown file as CommonMark with tables (cmark-gfm) and compares the
headings, tables and code blocks that a reader sees with those that the source means: a heading is a
line that begins with #, a table is a run of lines that begin with |, code stands between fences.
Everything else, such as a block that turns into code because it is indented, is an error. Links to
files of the tree must lead to one."""
import pathlib, re, subprocess, sys, xml.etree.ElementTree as xml

SOURCE = pathlib.Path(sys.argv[1])
SPACE = "{http://commonmark.org/xml/1.0}"


def meant(text):
    """The headings, the tables' row counts and the code blocks, in their order."""
    found, code, rows = [], None, 0
    for line in [*text.splitlines(), ""]:
        if code is not None:
            if line == "```":
                found.append(("code", "".join(code)))
                code = None
            else:
                code.append(line + "\n")
            continue
        if line.startswith("|"):
            rows += 1
            continue
        if rows:
            found.append(("table", rows - 1))  # the second line only separates
            rows = 0
        if line.startswith("```"):
            code = []
        elif heading := re.match(r"#{1,6} (.*)", line):
            found.append(("heading", re.sub(r"[`*\\]|<.*?>", "", heading[1])))
    return found


def words(node):
    return "".join(part.text or "" for part in node.iter()
                   if part.tag in (SPACE + "text", SPACE + "code"))


def rendered(file):
    document = xml.fromstring(subprocess.run(
        ["cmark-gfm", "--extension", "table", "--to", "xml", file], check=True,
        capture_output=True, text=True).stdout)
    found = []
    for node in document.iter():
        if node.tag == SPACE + "heading":
            found.append(("heading", words(node)))
        elif node.tag == SPACE + "table":
            found.append(("table", sum(row.tag in (SPACE + "table_row", SPACE + "table_header")
                                       for row in node)))
        elif node.tag == SPACE + "code_block":
            found.append(("code", node.text or ""))
    links = [node.get("destination") for node in document.iter(SPACE + "link")]
    return found, links


def main():
    bad = []
    files = subprocess.run(["git", "-C", SOURCE, "ls-files", "-co", "--exclude-standard", "*.md"],
                           check=True, capture_output=True, text=True).stdout.split()
    for name in files:
        file = SOURCE / name
        wanted, (got, links) = meant(file.read_text()), rendered(file)
        for index in range(max(len(wanted), len(got))):
            pair = [each[index] if index < len(each) else None for each in (wanted, got)]
            if pair[0] != pair[1]:
                bad.append(f"{name}: meant {pair[0]!r}, rendered {pair[1]!r}")
                break
        for link in links:
            if "://" not in link and not (file.parent / link.split("#")[0]).exists():
                bad.append(f"{name}: the link to {link} leads nowhere")
    print(f"{len(files)} Markdown files rendered")
    print("\n".join(bad))
    return bool(bad) or len(files) < 5


sys.exit(main())
