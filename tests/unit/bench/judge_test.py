#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bench says of its figures, and of the machine they were measured on."""
import math, os, pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
sys.dont_write_bytecode = True
import judge  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


class Marks(unittest.TestCase):
    def test_a_figure_at_its_bound_meets_it(self):
        self.assertTrue(judge.at_most(1.2, "", 1.2).met)
        self.assertTrue(judge.at_least(25, "", 25).met)
        self.assertTrue(judge.between(0.9, 1.1, "", 0.9, 1.1).met)

    def test_a_figure_beyond_its_bound_is_missed_and_shown_so(self):
        for mark in (judge.at_most(1.2, "text", 1.21), judge.at_least(25, "text", 24.9),
                     judge.between(0.9, 1.1, "text", 1.0, 1.11), judge.between(0.9, 1.1, "text", 0.89)):
            self.assertFalse(mark.met)
            self.assertEqual(str(mark), "text, **missed**")

    def test_no_figure_meets_nothing(self):
        self.assertFalse(judge.at_most(1, "").met)
        self.assertFalse(judge.at_most(1, "", math.nan).met)
        self.assertFalse(judge.at_least(1, "", math.nan).met)

    def test_one_missed_mark_is_the_runs_status(self):
        good, bad = judge.at_most(1, "", 0), judge.at_most(1, "", 2)
        self.assertEqual(judge.verdict([("a", "", good), ("b", "", None)]),
                         (["1 marks met, 0 missed"], 0))
        self.assertEqual(judge.verdict([("a", "", good), ("b", "", bad)]),
                         (["missed: b", "1 marks met, 1 missed"], 1))


class Machine(unittest.TestCase):
    def setUp(self):
        self.now, self.busy, self.own = 0.0, 0.0, 0.0
        self.watch = judge.Watch(lambda: self.own, self.stat, lambda: self.now, processors=2)

    def stat(self):
        # user nice system idle iowait irq softirq steal guest guest_nice
        return f"cpu  {int(self.busy * TICKS)} 0 0 999 999 0 0 0 5 5\ncpu0 1 2 3\n"

    def test_its_own_work_is_not_others(self):
        self.now, self.busy, self.own = 10, 15, 15
        self.assertEqual(self.watch.share(), 0)

    def test_the_rest_is(self):
        self.now, self.busy, self.own = 10, 15, 5
        self.assertAlmostEqual(self.watch.share(), 0.5)
        self.assertIn("DISTURBED in 1 of them", self.watch.summary())
        self.now, self.busy, self.own = 20, 16, 6
        self.assertEqual(self.watch.share(), 0)
        self.assertIn("50.0% at most", self.watch.summary())

    def test_a_quiet_run_says_so_without_alarm(self):
        self.now, self.busy, self.own = 10, 5.5, 5
        self.watch.share()
        self.assertNotIn("DISTURBED", self.watch.summary())

    def test_what_the_hypervisor_took_counts(self):
        self.assertEqual(judge.busy_seconds(f"cpu {TICKS} 0 0 0 0 0 0 {TICKS} 0 0\n"), 2)


if __name__ == "__main__":
    unittest.main()
