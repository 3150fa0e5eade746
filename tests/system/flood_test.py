#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients are served while others flood the port. tests/bench/run measures the same, larger."""
import json, os, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness as h

LOAD_CLIENT = h.BUILD / "tests/bench/load-client"
#: Where the flood comes from: fifty addresses.
FLOOD = [word for number in range(1, 51) for word in ("--sources", f"127.2.0.{number}")]
SECONDS = 6


def keys(count):
    """(file, key IDs) of new keys."""
    file = h.temporary() / f"keys-{time.monotonic_ns()}.pem"
    made = subprocess.run([LOAD_CLIENT, "--generate", str(count), "--keys", file], check=True,
                          capture_output=True, text=True)
    return file, made.stdout.split()


def start(file, *options):
    return subprocess.Popen([LOAD_CLIENT, "--host", "127.0.0.1", "--port", str(h.PORT), "--keys",
                             file, *map(str, options)], stdout=subprocess.PIPE)


def result(started):
    return json.loads(started.communicate(timeout=60 * h.SLACK)[0])


def eight_clients():
    file, key_ids = keys(8)
    config = h.Configuration()
    for number, key_id in enumerate(key_ids):
        config.client(f"client{number}", key_id, b"x" * 1000)
    return config, file


@h.case("silent peers, half handshakes and unknown keys keep no real client out")
def _():
    config, file = eight_clients()
    strangers, _ = keys(2)
    with h.Server(config, address="::"):
        flood = [start(of, *FLOOD, "--seconds", SECONDS + 2, *more) for of, *more in (
            (file, "--behaviour", "silent", "--concurrency", 2000, "--rate", 2000),
            (file, "--behaviour", "half", "--concurrency", 200, "--rate", 200),
            (strangers, "--concurrency", 20, "--rate", 50))]
        time.sleep(2)
        real = result(start(file, "--sources", "127.1.0.0/24", "--rate", 3, "--concurrency", 20,
                            "--seconds", SECONDS, "--timeout", 10 * h.SLACK))
        for each in map(result, flood):
            h.expect_equal(each["served"], 0, "served to the flood")
            h.expect(each["begun"] > 0, "it floods")
        h.expect_equal(real["served"], real["begun"], f"served real clients, of {real}")
        h.expect(real["p50_ms"] < 1000 * h.SLACK, f"they were served at once: {real}")


@h.case("2,000 clients that ask at once are all served")
def _():
    config, file = eight_clients()
    with h.Server(config, address="::"):
        real = result(start(file, "--sources", "127.1.0.0/16", "--concurrency", 2000,
                            "--connections", 2000, "--timeout", 30 * h.SLACK))
        h.expect_equal(real["served"], 2000, f"served, of {real}")


h.main()
