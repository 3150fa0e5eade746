#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was confirmed to an administrator survives: the whole server is killed at random moments
under changes by D-Bus, and its state folder is filled up and made read-only.

MANDOS_SEED repeats a run's choices, as far as a scheduler allows. Needs python3-gi, dbus-daemon."""
import os, pathlib, random, signal, subprocess, threading, time

import harness as h
from private_bus import *

RUNS = 250
#: No run begins later than this, so that a slow machine makes fewer of them.
MOST_SECONDS = 60
#: How many of them are killed before they are ready to serve.
EARLY = 0.2
FILE = {"Timeout": 3_600_000, "ExtendedTimeout": 900_000, "Interval": 600_000, "Host": "",
        "Checker": "true", "ApprovalDelay": 0, "ApprovalDuration": 1000, "ApprovedByDefault": True,
        "Enabled": True}
KINDS = {"Host": "s", "Checker": "s", "ApprovedByDefault": "b", "Enabled": "b", "Secret": "ay"}
FILE_SECRET = b"as clients.conf has it"


class Client:
    """What is known of a client: for each setting the value that was confirmed and those that were
    asked for since, which may have come to disk or not."""

    def __init__(self, name, config):
        self.name, self.path, self.config = name, f"/clients/{name}", config
        self.gone = [False]  # removed, in the same way
        self.key, key_id = h.test_key()
        config.client(name, key_id, FILE_SECRET)
        self.may_be = {setting: [value] for setting, value in FILE.items()}
        self.may_be["Secret"] = [FILE_SECRET]

    def change(self, caller, number, setting):
        """One change, confirmed when this returns."""
        if setting == "Remove":
            self.gone.append(True)
            caller.call("/", OURS, "RemoveClient", variant("(o)", (self.path,)))
            self.gone = [True]
            return
        kind = KINDS.get(setting, "t")
        value = {"s": f"true {number}", "b": number % 2 == 0, "t": 3_600_000 + number,
                 "ay": b"secret %d" % number}[kind]
        self.may_be[setting].append(value)
        caller.set(self.path, setting, kind, value)
        self.may_be[setting] = [value]

    def check(self, caller):
        """That the server has what was confirmed; what it has is known from here on."""
        try:
            found = caller.call(self.path, PROPERTIES, "GetAll", variant("(s)", (CLIENT,)))[0]
        except GLib.Error:
            h.expect(True in self.gone, f"{self.name} is there")
            # With another section it is a new client at the next start.
            section = self.config.clients[self.name]
            section["fingerprint"] = f"{int(section['fingerprint'], 16) + 1:02X}"
            self.config.write()
            self.may_be = {name: [FILE.get(name, FILE_SECRET)] for name in self.may_be}
            self.gone = [False, True]  # until then
            return
        h.expect(False in self.gone, f"{self.name} stays removed")
        self.gone = [False]
        for setting, values in self.may_be.items():
            if setting == "Secret":
                continue
            h.expect(found[setting] in values,
                     f"{self.name}: {setting} is {found[setting]!r}, not one of {values!r}")
            self.may_be[setting] = [found[setting]]

    def check_secret(self):
        if self.gone == [False] and self.may_be["Enabled"] == [True] and self.may_be["ApprovalDelay"][0] == 0:
            h.expect(h.fetch(key=self.key).blob in self.may_be["Secret"], f"{self.name}: its secret")


def kill_all(server, pids):
    """SIGKILL to every process of the server, in no order."""
    random.shuffle(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait()


def nobody_left(but):
    h.wait_until(lambda: not set(h.processes()) - but - {os.getpid()}, "all of the server is gone")


def change_until_killed(server, clients, number):
    """Changes until a random moment kills the server; returns how many were confirmed."""
    caller, confirmed = Caller(), 0
    removed = {client for client in clients if client.gone != [False]}
    pids = h.tree(server.process.pid)
    # Most changes are on disk within a few milliseconds.
    timer = threading.Timer(random.uniform(0, 0.12), kill_all, (server, pids))
    timer.start()
    try:
        while len(removed) < len(clients):
            client = random.choice(clients)
            setting = random.choice([*client.may_be, "Remove"])
            if client in removed or setting == "Remove" and random.random() < 0.8:
                continue
            client.change(caller, number + confirmed, setting)
            confirmed += 1
            if setting == "Remove":
                removed.add(client)
    except GLib.Error:
        pass  # it is gone
    timer.join()
    caller.close()
    return confirmed


@h.case("killed at random moments, the server loses nothing that it had confirmed")
def _():
    seed = int(os.environ.get("MANDOS_SEED", random.randrange(1 << 32)))
    random.seed(seed)
    print(f"# MANDOS_SEED={seed}", flush=True)
    config = h.Configuration()
    clients = [Client(name, config) for name in ("one", "two", "three")]
    number = runs = early = 0
    end = time.monotonic() + MOST_SECONDS
    with Bus() as bus:
        known = {bus.process.pid}
        while runs < RUNS and time.monotonic() < end:
            runs += 1
            server = h.Server(config, without=("--no-zeroconf",), wait=False)
            if random.random() < EARLY:
                time.sleep(random.uniform(0, 0.1))
                early += 1
                kill_all(server, h.tree(server.process.pid))
            else:
                h.wait_until(server.ready, "the server is ready", 30)
                caller = Caller()
                h.wait_until(caller.has_server, "the server is on the bus")
                for client in clients:
                    client.check(caller)
                random.choice(clients).check_secret()
                caller.close()
                number += change_until_killed(server, clients, number)
            nobody_left(known)
            h.expect_equal([line for line in server.log.lines if "damaged" in line or "lost" in line],
                           [], f"what run {runs} said of its state")
        print(f"# {number} changes were confirmed in {runs} runs, {early} of them killed as they "
              "began", flush=True)
        h.expect(number > runs / 4, "too few changes for this to show anything")


def confirmed(caller, client, setting, kind, value):
    try:
        caller.set(client.path, setting, kind, value)
        return True
    except GLib.Error:
        return False


def unwritable(spoil, mend):
    """With a state folder that `spoil` makes unwritable: changes are not confirmed, secrets are
    served, and what was confirmed before is there after a kill."""
    config = h.Configuration()
    client = Client("one", config)
    h.mount("tmpfs", config.state, "tmpfs", data="size=64k,mode=700")
    with Bus() as bus:
        server = h.Server(config, without=("--no-zeroconf",))
        caller = Caller()
        h.wait_until(caller.has_server, "the server is on the bus")
        h.expect(confirmed(caller, client, "Host", "s", "before"), "a change is confirmed")
        spoil(config.state)
        for attempt in (1, 2):  # asked again, it is as little on disk
            h.expect(not confirmed(caller, client, "Host", "s", "while"),
                     f"a change is not confirmed, asked for {attempt} times")
        h.expect_equal(h.fetch(key=client.key).blob, FILE_SECRET, "the secret is served")
        # The stamps of that are gathered for some seconds.
        server.log.wait_for("state is not on disk")
        kill_all(server, h.tree(server.process.pid))
        nobody_left({bus.process.pid})

        server = h.Server(config, without=("--no-zeroconf",))
        h.wait_until(caller.has_server, "the server is on the bus")
        h.expect_equal(caller.get(client.path, "Host"), "before", "what was confirmed before")
        h.expect_equal(h.fetch(key=client.key).blob, FILE_SECRET, "the secret is served")
        server.log.wait_for("state is not on disk")
        mend(config.state)
        h.expect(confirmed(caller, client, "Host", "s", "after"), "a change is confirmed again")
        server.log.wait_for("state is on disk again")
        kill_all(server, h.tree(server.process.pid))
        nobody_left({bus.process.pid})

        with h.Server(config, without=("--no-zeroconf",)) as server:
            h.wait_until(caller.has_server, "the server is on the bus")
            h.expect_equal(caller.get(client.path, "Host"), "after", "what was confirmed last")
            server.stop = lambda: stop_beside(server, bus)


def stop_beside(server, bus):
    """Stops the server; the bus runs on."""
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(10 * h.SLACK)
    nobody_left({bus.process.pid})
    return status


@h.case("on a full disk nothing is confirmed, nothing lost, and secrets are served")
def _():
    def fill(place):
        with contextlib.suppress(OSError), open(place / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
    unwritable(fill, lambda place: (place / "filler").unlink())


@h.case("on a disk that is remounted read-only nothing is confirmed, nothing lost, and secrets are served")
def _():
    read_only = 1 | 32  # MS_RDONLY | MS_REMOUNT
    unwritable(lambda place: h.mount("tmpfs", place, "tmpfs", read_only, "size=64k,mode=700"),
               lambda place: h.mount("tmpfs", place, "tmpfs", 32, "size=64k,mode=700"))


h.main()
