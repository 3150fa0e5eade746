#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated day: boots, an expiry, an approval, a reload with an error, a network outage. The log
must tell it in the words of mandos(8), "A day in the log"."""
import re, subprocess, sys

import private_bus as b
import harness as h
from harness import Configuration, Server, case, expect, expect_equal, wait_until


def manual_lines():
    """The lines of the manual's example, without what differs from day to day."""
    text = (h.SOURCE / "man/mandos.8.in").read_text()
    block = re.search(r"\.Ss A day in the log\n.*?\.Bd -literal\n(.*?)\n\.Ed", text, re.S)[1]
    return [same(line) for line in re.sub(r" \\e\n +", " ", block).replace("\\&", "").splitlines()]


def same(line):
    for pattern, word in [(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME"), (r"process \d+", "process N"),
                          (r"on port \d+", "on port N"), (r"failed_checks=\d+", "failed_checks=N"),
                          (r"key_id=\S+", "key_id=ID"), (r"(by=\"|address=)[0-9a-f]*:[0-9a-f:]+", r"\1ADDRESS"),
                          (r"\S*/clients.conf:\d+", "clients.conf:N")]:
        line = re.sub(pattern, word, line)
    return line


@case("the log of a day is the one in the manual")
def _():
    config = Configuration()
    keys = {}
    folder = h.temporary()
    folder.chmod(0o755)

    def client(name, timeout="PT5M", **options):
        if name not in keys:
            keys[name] = h.test_key()
        config.client(name, keys[name][1], b"secret of " + name.encode(), checker=f"test -e {folder}/{name}",
                      interval="PT1S", timeout=timeout, **options)

    def answers(*names):
        for name in ("web", "db", "nas"):
            (folder / name).touch() if name in names else (folder / name).unlink(missing_ok=True)

    client("web")
    client("db", timeout="PT3S")
    client("nas", approval_delay="PT5M", approved_by_default="False")
    answers("web", "db", "nas")
    bus = b.Bus()
    with Server(config, without=("--no-zeroconf",)) as server:
        caller = b.Caller()
        wait_until(caller.has_server, "the server is on the bus")
        status = lambda pattern: wait_until(
            lambda: any(re.search(pattern, line) for line in server.notices.lines), f"status {pattern}")
        wait_until(lambda: caller.get("/clients/db", "LastCheckedOK") != "", "a check of db")
        # Stolen.
        answers("web", "nas")
        server.log.wait_for('event=disabled client="db"')
        status("2 enabled, 1 disabled")
        # A boot that is approved.
        asks = h.start_fetch(key=keys["nas"][0])
        server.log.wait_for("event=waiting")
        status("1 waiting")
        caller.call("/clients/nas", b.CLIENT, "Approve", b.GLib.Variant("(b)", (True,)))
        expect_equal(h.finish_fetch(asks).blob, b"secret of nas", "approved")
        # A reload with an error.
        client("db", timeout="soon")
        config.write()
        failed = subprocess.run([h.PREFIX / "sbin/mandos", "--reload"], capture_output=True, text=True)
        expect(failed.returncode == 1 and "soon" in failed.stdout + failed.stderr, f"{failed}")
        status("configuration has errors since 20..-..-.. ..:..:..Z")
        # Found again, and then our own network is down.
        answers("web", "db", "nas")
        caller.set("/clients/db", "Timeout", "t", 300000)
        caller.set("/clients/db", "Enabled", "b", True)
        wait_until(lambda: caller.get("/clients/db", "LastCheckerStatus") == 0, "db answers")
        answers()
        server.log.wait_for("every check of every client fails")
        answers("web", "db", "nas")
        server.log.wait_for("checks of clients succeed again")
        wait_until(lambda: "; 0 checks failing" in server.notices.lines[-1], "all answer")
        # db is taken out of the files, web gets more time.
        del config.clients["db"]
        client("web", timeout="PT10M")
        config.write()
        done = subprocess.run([h.PREFIX / "sbin/mandos", "--reload"], capture_output=True, text=True)
        expect_equal(done.returncode, 0, f"the reload: {done}")
        server.log.wait_for("clients.conf was read again")
        caller.close()
        bus.stop()  # the server is to leave no process behind
        found = [same(line.split("]: ", 1)[-1]) for line in server.log.lines]
    at = 0
    for line in manual_lines():
        rest = [i for i in range(at, len(found)) if found[i].endswith(line)]
        expect(rest, f"{line!r} does not follow in:\n" + "\n".join(found[at:]))
        at = rest[0] + 1


sys.exit(h.main())
