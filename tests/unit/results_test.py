#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The count that ./check ends with: no test that ended badly is left out of it."""
import json, os, pathlib, subprocess, sys, tempfile, unittest

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results.py"


def counted(*tests):
    """The closing line for (name, result, cases that passed, cases that failed), and the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        suites = "".join(
            f'<testsuite name="project.{name}">' + '<testcase name="good"/>' * passed +
            '<testcase name="bad"><failure/></testcase>' * failed + "</testsuite>"
            for name, _, passed, failed in tests)
        junit = pathlib.Path(folder, "run.junit.xml")
        junit.write_text(f"<testsuites>{suites}</testsuites>")
        pathlib.Path(folder, "run.json").write_text(
            "".join(json.dumps({"name": name, "result": result}) + "\n" for name, result, _, _ in tests))
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run([sys.executable, RESULTS, junit], stdout=subprocess.PIPE, text=True,
                              env=environment)
        return done.stdout.splitlines()[-1], done.returncode


class Results(unittest.TestCase):
    def test_all_passed(self):
        self.assertEqual(counted(("one", "OK", 3, 0), ("two", "OK", 1, 0)), ("4 passed, 0 failed", 0))

    def test_a_case_that_failed_is_counted_once(self):
        self.assertEqual(counted(("one", "FAIL", 3, 1)), ("3 passed, 1 failed", 1))
        self.assertEqual(counted(("one", "ERROR", 3, 2)), ("3 passed, 2 failed", 1))

    def test_a_time_limit_after_good_cases_is_a_failure(self):
        self.assertEqual(counted(("one", "TIMEOUT", 2, 0), ("two", "OK", 1, 0)), ("3 passed, 1 failed", 1))

    def test_a_bad_end_after_good_cases_is_a_failure(self):
        self.assertEqual(counted(("one", "ERROR", 2, 0)), ("2 passed, 1 failed", 1))

    def test_a_skipped_test_is_no_failure_of_its_own(self):
        self.assertEqual(counted(("one", "SKIP", 0, 0), ("two", "OK", 1, 0)), ("1 passed, 0 failed", 0))


unittest.main()
