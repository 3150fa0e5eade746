#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the test cases in the files given, which `meson test` wrote (meson-logs/NAME.junit.xml of a
build folder, with NAME.json beside it) or another script (NAME.tap), prints what failed, and ends with
the line `N passed, N failed`.

A test that was stopped at its time limit, or that ended badly after its last case, is a failure also
when all cases that it reported passed: the .junit.xml shows only those.

A skipped case counts as failed when CI is set. --broken 1 says that a step failed as a whole (a
build that did not succeed, a runner that ended badly): that is one more failure if no case shows it.
"""
import argparse, json, os, pathlib, re, sys
import xml.etree.ElementTree as xml


def cases(file):
    """(name, outcome) of every case: passed, failed or skipped."""
    if not file.exists():
        yield f"{file}: no results were written", "failed"
        return
    if file.suffix == ".tap":
        text = file.read_text()
        told = re.findall(r"(?m)^(not )?ok \d+ - (.*)", text)
        yield from ((f"{file.stem}: {name}", "failed" if bad else "passed") for bad, name in told)
        if f"1..{len(told)}" not in text.splitlines():
            yield f"{file.stem}: as many results as were planned", "failed"
        return
    failed = set()
    for suite in xml.parse(file).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            tags = {child.tag for child in case}
            outcome = ("failed" if tags & {"failure", "error"} else
                       "skipped" if "skipped" in tags else "passed")
            if outcome == "failed":
                failed |= {case.get("name"), suite.get("name").partition(".")[2]}
            yield f"{file.name.partition('.')[0]}: {suite.get('name')}: {case.get('name')}", outcome
    for line in file.with_name(file.name.replace(".junit.xml", ".json")).read_text().splitlines():
        test = json.loads(line)
        if test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and test["name"] not in failed:
            yield f"{file.name.partition('.')[0]}: {test['name']}: {test['result']}", "failed"


parser = argparse.ArgumentParser()
parser.add_argument("--broken", type=int, default=0)
parser.add_argument("files", type=pathlib.Path, nargs="*")
arguments = parser.parse_args()

found = [case for file in arguments.files for case in cases(file)]
strict = bool(os.environ.get("CI"))
failed = 0
for name, outcome in found:
    if outcome != "passed":
        print(f"{outcome}: {name}")
    failed += outcome == "failed" or (strict and outcome == "skipped")
passed = sum(outcome == "passed" for _, outcome in found)
if arguments.broken and not failed:
    print("failed: a build or a test runner (see above)")
    failed = 1
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0 or passed == 0)
