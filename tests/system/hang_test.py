#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that hangs is as bad as one that died: it is replaced while the others go on. A process
that was only stopped, with everything else or by itself, costs nobody its life. Needs python3-gi,
dbus-daemon."""
import contextlib, ctypes, fcntl, json, os, signal, socket, subprocess, time

import harness as h
from private_bus import *

#: From the moment when a child stops to the moment when its successor serves.
REPLACED = 10
#: Longer than the supervisor waits for the monitor, and the monitor for its children.
STOPPED = 33
CHILDREN = ("networker", "checker-runner", "bus-agent")
PROGRAM = h.PREFIX / "libexec/mandos/mandos-networker"


def marks():
    """A file with a line for each checker that ran."""
    return h.temporary() / "marks"


def configuration():
    """With a client that is checked about every second, which leaves a mark."""
    marks().write_text("")
    marks().chmod(0o666)
    config, (key, key_id) = h.Configuration(), h.test_key()
    config.client("one", key_id, b"blob", interval="PT1S", timeout="PT1H",
                  checker=f"echo >> {marks()}")
    return config, key


def with_bus(config, **options):
    return h.Server(config, without=("--no-zeroconf",), **options)


def stop_beside(server, bus):
    """Stops the server; the bus goes on."""
    server.process.send_signal(signal.SIGTERM)
    h.expect_equal(server.process.wait(10 * h.SLACK), 0, "exit status after SIGTERM")
    h.wait_until(lambda: set(h.processes()) <= {os.getpid(), bus.process.pid}, "all are gone")


@contextlib.contextmanager
def on_the_bus():
    """That server, a caller on the bus and the client's key; the server is stopped at the end."""
    config, key = configuration()
    with Bus() as bus:
        server, caller = with_bus(config), Caller()
        h.wait_until(caller.has_server, "the server is on the bus")
        yield server, caller, key
        stop_beside(server, bus)


def pids(server):
    return {role: server.pids(role) for role in ("supervisor", "monitor", *CHILDREN)}


def served(key):
    return h.fetch(key=key).blob == b"blob"


def service(role, caller, key):
    """Whether what that process does is done."""
    if role == "networker":
        return served(key)
    if role == "bus-agent":
        return caller.has_server() and caller.get("/clients/one", "Enabled")
    before = marks().stat().st_size
    h.wait_until(lambda: marks().stat().st_size > before, "a checker ran")
    return True


@h.case("a child that is stopped is replaced within 10 s while the others go on")
def _():
    with on_the_bus() as (server, caller, key):
        for role in CHILDREN:
            before, lines, start = pids(server), len(server.log.lines), time.monotonic()
            os.kill(before[role][0], signal.SIGSTOP)
            for other in CHILDREN:
                if other != role:
                    h.expect(service(other, caller, key), f"{other} works without {role}")
            h.wait_until(lambda: server.pids(role) not in ([], before[role]), f"another {role}", REPLACED)
            h.wait_until(lambda: service(role, caller, key), f"{role} works again",
                         REPLACED - (time.monotonic() - start))
            after = pids(server)
            h.expect_equal({other: after[other] for other in after if other != role},
                           {other: before[other] for other in before if other != role},
                           f"the others when {role} was replaced")
            server.log.wait_for(rf"{role}: .*does not answer", start=lines)


@h.case("a networker that loops over a peer's bytes is replaced, and the next one refuses the peer")
def _():
    config, key = configuration()
    with h.Server(config, address="::", env={
            "LD_PRELOAD": str(h.BUILD / "tests/support/libhangs_on_bytes.so")}) as server:
        networker = server.pid("networker")
        with socket.create_connection(("127.0.0.1", h.PORT), 10, ("127.4.0.1", 0)) as peer:
            peer.settimeout(10 * h.SLACK)
            peer.sendall(b"1\r\n")
            h.expect_equal(peer.recv(1), b"\x16", "answer to the version line")
            peer.sendall(b"no TLS at all, this")
            server.log.wait_for(r"networker: .*does not answer", REPLACED)
        told = server.log.wait_for("the process before this one died .*", REPLACED)
        h.expect("127.4.0.1 " in told, f"the source is named: {told}")
        h.expect_equal(server.pids("networker") not in ([], [networker]), True, "another runs")
        h.expect(served(key), "others are served")


@h.case("the whole server, stopped and continued, has the same processes and serves")
def _():
    config, _ = configuration()
    keys, section = h.real_client()
    config.clients["real"] = section | {"checker": "true", "timeout": "PT1H", "interval": "PT10M"}
    with Bus() as bus:
        server, caller = with_bus(config), Caller()
        h.wait_until(caller.has_server, "the server is on the bus")
        h.expect(service("checker-runner", caller, None), "checkers run")
        before = pids(server)
        everybody = [pid for each in before.values() for pid in each]
        for _ in range(2):
            for pid in everybody:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            # The others first: what they find is that nobody hears them.
            for pid in reversed(everybody):
                os.kill(pid, signal.SIGCONT)
            h.expect_equal(h.run_real_client(keys), b"correct horse battery staple", "the passphrase")
            for _ in range(3):  # ticks of all of them
                h.expect(service("checker-runner", caller, None), "checkers run")
            h.expect_equal(pids(server), before, "processes")
        # The same of those alone whose answers the supervisor awaits.
        for role in ("supervisor", "monitor"):
            os.kill(before[role][0], signal.SIGSTOP)
        time.sleep(REPLACED)
        for role in ("monitor", "supervisor"):
            os.kill(before[role][0], signal.SIGCONT)
        h.expect_equal(h.run_real_client(keys), b"correct horse battery staple", "the passphrase")
        for _ in range(3):
            h.expect(service("checker-runner", caller, None), "checkers run")
        h.expect_equal(pids(server), before, "processes")
        stop_beside(server, bus)


@h.case("a child that ends while the monitor is stopped has its line in the log")
def _():
    with on_the_bus() as (server, caller, key):
        for role in CHILDREN:
            monitor, child, lines = server.pid("monitor"), server.pid(role), len(server.log.lines)
            os.kill(monitor, signal.SIGSTOP)
            os.kill(child, signal.SIGKILL)
            server.pid(role, other_than=child)
            os.kill(monitor, signal.SIGCONT)
            h.wait_until(lambda: server.log.find(f"{role}: started afresh: ", lines), f"the line of {role}")
            h.wait_until(lambda: service(role, caller, key), f"{role} works")


@h.case("a networker that works as fast as it can does not pass for one that hangs")
def _():
    file = h.temporary() / "keys.pem"
    load_client = h.BUILD / "tests/bench/load-client"
    made = subprocess.run([load_client, "--generate", "8", "--keys", file], check=True,
                          capture_output=True, text=True)
    config = h.Configuration()
    for number, key_id in enumerate(made.stdout.split()):
        config.client(f"client{number}", key_id, b"x" * 1000)
    with h.Server(config, address="::") as server:
        before = server.pids("networker")
        load = subprocess.run([load_client, "--host", "127.0.0.1", "--port", str(h.PORT), "--keys", file,
                               "--sources", "127.1.0.0/16", "--concurrency", "512", "--seconds",
                               str(REPLACED + 4)], stdout=subprocess.PIPE, timeout=120 * h.SLACK)
        found = json.loads(load.stdout)
        h.expect(found["served"] > 0, f"served, of {found}")
        h.expect_equal(server.pids("networker"), before, "the networker")
        h.expect_equal(server.log.find("does not answer"), None, "who hangs")


@h.case("a program that cannot be started is named in the unit's status until it can")
def _():
    config, key = configuration()
    with h.Server(config) as server:
        status = server.notices.wait_for("^STATUS=Serving")
        networker, start = server.pid("networker"), len(server.notices.lines)
        h.bind("/dev/null", PROGRAM)
        os.kill(networker, signal.SIGKILL)
        server.notices.wait_for("^STATUS=mandos-networker cannot be started: exit status 127", start=start)
        h.expect_equal(ctypes.CDLL(None).umount2(os.fsencode(PROGRAM), 0), 0, "umount")
        # Tried again every ten seconds at least.
        server.notices.wait_for(f"^{status}$", 20, start=start)
        h.expect(served(key), "served")


@contextlib.contextmanager
def replaced(program, by):
    """As an upgrade leaves it."""
    h.bind(by, program)
    try:
        yield
    finally:
        h.expect_equal(ctypes.CDLL(None).umount2(os.fsencode(program), 0), 0, "umount")


@h.case("a program that cannot be started for a minute ends the server, with the reason")
def _():
    for role in ("networker", "monitor"):
        config, _ = configuration()
        with h.Server(config) as server:
            pid = server.pid(role)
            with replaced(PROGRAM.with_name(f"mandos-{role}"), "/dev/null"):
                os.kill(pid, signal.SIGKILL)
                h.expect_equal(server.wait(100), 1, "exit status")
            server.log.wait_for(f"mandos-{role}: every start failed for 60 s: the server exits")
            server.notices.wait_for(f"^STATUS=mandos-{role} cannot be started: exit status 127")
            server.notices.wait_for("^STOPPING=1")


@h.case("a monitor that hangs before anybody was served ends the server, with the reason")
def _():
    config, _ = configuration()
    never = h.temporary() / "never-ready"
    never.write_text("#!/bin/sh\nexec sleep 1000\n")
    never.chmod(0o755)
    with replaced(PROGRAM, never):
        with h.Server(config, wait=False) as server:
            h.wait_until(lambda: server.pids("checker-runner"), "the monitor has others started")
            os.kill(server.pid("monitor"), signal.SIGSTOP)
            h.expect_equal(server.wait(100), 1, "exit status")
            server.log.wait_for("the monitor does not answer; killing it$")


@h.case("a monitor that is stopped during a reload finishes it")
def _():
    config, key = configuration()
    with h.Server(config) as server:
        before = pids(server)
        os.kill(before["monitor"][0], signal.SIGSTOP)
        asking = subprocess.Popen([h.PREFIX / "sbin/mandos", "--reload"], stdout=subprocess.DEVNULL)
        time.sleep(REPLACED)
        os.kill(before["monitor"][0], signal.SIGCONT)
        h.expect_equal(asking.wait(30 * h.SLACK), 0, "exit status of --reload")
        h.expect_equal(pids(server), before, "processes")
        h.expect(served(key), "served")


@h.case("a first check that is lost with its checker-runner is held against nobody")
def _():
    config, key = configuration()
    config.clients["one"] |= {
        "interval": "PT4S", "checker": f"echo >> {marks()}; [ $(wc -l < {marks()}) -gt 1 ] || sleep 60"}
    with h.Server(config) as server:
        h.wait_until(lambda: marks().stat().st_size, "the first check runs")
        os.kill(server.pid("checker-runner"), signal.SIGKILL)
        h.wait_until(lambda: marks().stat().st_size > 1, "another check decides")
        h.expect(served(key), "served")


@h.case("standard error that nobody reads stops neither the monitor nor the supervisor")
def _():
    config, key = configuration()
    unread = h.temporary() / "stderr"
    os.mkfifo(unread)
    reader = os.open(unread, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(reader, b"x" * 512)
    into_it = ["sh", "-c", f'exec "$0" "$@" 2>{unread}', h.PREFIX / "sbin/mandos"]
    with h.Server(config, "--debuglevel", "DEBUG", command=into_it) as server:
        h.expect(served(key), "served")
        # The supervisor has something to say, too.
        for role in ("networker", "monitor"):
            before = server.pid(role)
            os.kill(before, signal.SIGKILL)
            server.pid(role, other_than=before)
            h.wait_until(lambda: served(key), f"served by the {role} that follows")
        shown = bytearray()

        def counted():
            served(key)  # there is something to log
            with contextlib.suppress(BlockingIOError):
                shown.extend(os.read(reader, 65536))
            return b" log lines were lost" in shown

        h.wait_until(counted, "what was lost is counted", 20)
    os.close(reader)


h.main(lanes=5)
