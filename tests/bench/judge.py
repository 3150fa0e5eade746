# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a measured figure meets its mark, and whether the machine was ours while it was measured."""
import os, statistics, time

#: Above this share of the machine's processors, what others do shows in the figures.
DISTURBED = 0.05


class Mark:
    """A bound on a measured figure, with its text, so that what is shown is what is judged.

    `figures` are what was measured; each must satisfy `holds`. A figure that is not a number (nobody
    was served, say) satisfies nothing."""

    def __init__(self, text, holds, *figures):
        self.text = text
        self.met = bool(figures) and all(holds(figure) for figure in figures)

    def __str__(self):
        return self.text if self.met else f"{self.text}, **missed**"


def at_most(bound, text, *figures):
    return Mark(text, lambda figure: figure <= bound, *figures)


def at_least(bound, text, *figures):
    return Mark(text, lambda figure: figure >= bound, *figures)


def between(low, high, text, *figures):
    return Mark(text, lambda figure: low <= figure <= high, *figures)


def verdict(rows):
    """(lines to print, exit status) for rows of (name, shown, Mark or None)."""
    marked = [(name, mark) for name, _, mark in rows if mark]
    missed = [name for name, mark in marked if not mark.met]
    lines = [f"missed: {name}" for name in missed]
    lines.append(f"{len(marked) - len(missed)} marks met, {len(missed)} missed")
    return lines, 1 if missed else 0


def busy_seconds(stat):
    """Seconds of all processors that were used, from the text of /proc/stat; what the hypervisor
    gave to other machines counts."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """What share of the machine others take. `own` gives the seconds of CPU of the whole bench,
    `stat` the text of /proc/stat."""

    def __init__(self, own, stat=lambda: open("/proc/stat").read(), clock=time.monotonic,
                 processors=os.cpu_count()):
        self.read = lambda: (clock(), busy_seconds(stat()), own())
        self.processors = processors
        self.last = self.read()
        self.shares = []

    def share(self):
        """Since the last call, 0 to 1."""
        before, self.last = self.last, self.read()
        elapsed, busy, own = (new - old for new, old in zip(self.last, before))
        self.shares.append(max(0.0, busy - own) / (elapsed * self.processors) if elapsed > 0 else 0.0)
        return self.shares[-1]

    def summary(self):
        """A sentence on the whole run."""
        if not self.shares:
            return "nothing was measured"
        most = max(self.shares)
        text = (f"others used {statistics.median(self.shares):.1%} of the machine (median of "
                f"{len(self.shares)} measurements), {most:.1%} at most")
        disturbed = sum(share > DISTURBED for share in self.shares)
        return text + (f": DISTURBED in {disturbed} of them, so measure again" if disturbed else "")
