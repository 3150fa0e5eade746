#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server on a disk whose syncs do not end: it goes on serving, and what it confirmed is kept."""
import os, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import *
from slow_disk import ACCESS, GETATTR, LOOKUP, OPEN, OPENDIR, READ, SlowDisk


def configuration():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    return config, key, SlowDisk(config.state)


@case("a sync that does not end stops nobody's serving, and is mentioned")
def serving():
    config, key, disk = configuration()
    with Server(config) as server:
        monitor = server.pid("monitor")
        disk.stall()
        wait_until(lambda: disk.held, "a sync is under way", 20)
        # Longer than the supervisor waits for an answer of the monitor.
        end = time.monotonic() + 45
        slowest = 0
        while time.monotonic() < end:
            began = time.monotonic()
            expect_equal(fetch(key=key).blob, b"a", "served")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.5)
        expect(slowest < 5 * SLACK, f"the slowest was served in {slowest:.1f} s")
        server.log.wait_for("the disk has been busy with 1 changes for 10 s")
        expect_equal(server.pid("monitor"), monitor, "the monitor is the same")
        expect(not (config.state / "a.client").exists(), "nothing has its place before it is synced")
        disk.release()
        wait_until((config.state / "a.client").exists, "the state is on disk", 20)


def refused_reload(server, key):
    """What --reload says of one that fails, during which clients are served by the same monitor."""
    monitor = server.pid("monitor")
    asking = subprocess.Popen([PREFIX / "sbin/mandos", "--reload"], stderr=subprocess.PIPE, text=True)
    slowest, end = 0, time.monotonic() + 60 * SLACK
    while asking.poll() is None:
        expect(time.monotonic() < end, "the reload is over")
        began = time.monotonic()
        expect_equal(fetch(key=key).blob, b"a", "served")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.2)
    expect_equal(asking.returncode, 1, "status of --reload")
    expect(slowest < 5 * SLACK, f"the slowest was served in {slowest:.1f} s")
    expect_equal(server.pid("monitor"), monitor, "the monitor is the same")
    return asking.stderr.read()


@case("a reload that needs a fresh monitor waits for the disk, and fails rather than stop serving")
def renewing():
    config, key, disk = configuration()
    with Server(config) as server:
        disk.stall()
        wait_until(lambda: disk.held, "a sync is under way", 20)
        # Another folder in the place of the one that the monitor may read.
        directory = config.directory
        directory.rename(f"{directory}.old")
        config.directory = directory
        directory.mkdir(mode=0o700)
        config.write()
        said = refused_reload(server, key)
        expect("the disk is too slow" in said, said)
        disk.release()
        wait_until(lambda: subprocess.run([PREFIX / "sbin/mandos", "--reload"],
                                          capture_output=True).returncode == 0, "then it works", 60)
        expect_equal(fetch(key=key).blob, b"a", "served")


@case("a reload of files that cannot be opened for long fails, and nobody else waits for them")
def reading():
    key, key_id = test_key()
    config = Configuration()
    disk = SlowDisk(config.directory)
    config.client("a", key_id, b"a")
    with Server(config) as server:
        disk.stall(OPEN)
        said = refused_reload(server, key)
        expect("reading the configuration took longer than" in said, said)
        disk.release()


@case("a stop waits for the disk no longer than three seconds, and says what is missing")
def stopping():
    config, key, disk = configuration()
    with Server(config) as server:
        disk.stall()
        wait_until(lambda: disk.held, "a sync is under way", 20)
        server.process.terminate()
        server.log.wait_for("not everything is on disk: it took longer than 3 s")
        disk.release()  # the kernel lets no process go before
        expect_equal(server.wait(), 0, "exit status")


@case("a stop brings what is gathered to disk")
def gathered():
    config, key, disk = configuration()
    with Server(config) as server:
        expect(not (config.state / "a.client").exists(), "it is gathered for some seconds")
        expect_equal(server.stop(), 0, "exit status")
    expect((config.state / "a.client").exists(), "the state is on disk")


@case("a file system that hangs, even with one client's checker on it, keeps no other check waiting")
def checkers():
    config = Configuration()
    key, key_id = test_key()
    config.client("near", key_id, b"near", checker="true", timeout="PT8S", interval="PT1S")
    config.client("far", test_key()[1], b"far", checker="/mnt/check")
    disk = SlowDisk("/mnt", others=True)  # where a checker-runner that starts meets it, too
    with Server(config) as server:
        runner = server.pid("checker-runner")
        disk.stall(ACCESS, GETATTR, LOOKUP, OPEN, OPENDIR, READ)
        server.process.send_signal(signal.SIGUSR1)  # has them judged again
        wait_until(lambda: disk.held, "the program is looked for")
        os.kill(runner, signal.SIGKILL)
        server.log.wait_for("checker-runner: started afresh")
        start = len(server.log.lines)
        # Longer than a child is waited for that hangs, and than the client's timeout.
        end = time.monotonic() + 20
        while time.monotonic() < end:
            expect(not server.log.find("event=disabled|it does not answer|started afresh", start),
                   "checks go on")
            time.sleep(0.1)
        done = subprocess.run([PREFIX / "sbin/mandos", "--reload"], capture_output=True, text=True)
        expect(done.returncode == 0 and "not all checkers' programs were looked for" in done.stdout,
               f"a reload warns of it: {done.stdout}{done.stderr}")
        expect_equal(fetch(key=key).blob, b"near", "who is checked is served")
        disk.release()
    subprocess.run(["umount", "-l", "/mnt"], check=True)


main()
