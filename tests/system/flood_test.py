#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients are served while others flood the port, or crash who listens there. tests/bench/run
measures the floods, larger."""
import contextlib, json, os, pathlib, select, signal, socket, subprocess, sys, time

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


def eight_clients(size=1000):
    file, key_ids = keys(8)
    config = h.Configuration()
    for number, key_id in enumerate(key_ids):
        config.client(f"client{number}", key_id, b"x" * size)
    return config, file


@h.case("silent peers, half handshakes and unknown keys keep no real client out")
def _():
    # Less than the flood wants, of each source and of all: each bound is reached.
    config, file = eight_clients()
    config.server_options |= {"max_connections": 500, "max_connections_per_source": 16}
    strangers, _ = keys(2)
    with h.Server(config, address="::") as server:
        flood = [start(of, *FLOOD, "--seconds", SECONDS + 2, *more) for of, *more in (
            (file, "--behaviour", "silent", "--concurrency", 2000, "--rate", 2000),
            (file, "--behaviour", "half", "--concurrency", 200, "--rate", 200),
            (strangers, "--concurrency", 20, "--rate", 50))]
        descriptors = f"/proc/{server.pid('networker')}/fd"
        h.wait_until(lambda: len(os.listdir(descriptors)) >= 500, "all places are taken")
        real = result(start(file, "--sources", "127.1.0.0/24", "--rate", 3, "--concurrency", 20,
                            "--seconds", SECONDS, "--timeout", 10 * h.SLACK))
        for each in map(result, flood):
            h.expect_equal(each["served"], 0, "served to the flood")
            h.expect(each["begun"] > 0, "it floods")
        h.expect_equal(real["served"], real["begun"], f"served real clients, of {real}")
        h.expect(real["max_ms"] < 1000 * h.SLACK, f"they were served at once: {real}")


@h.case("whoever waits with one key, again and again, keeps nobody behind the same address out")
def _():
    thief, thief_id = h.test_key()
    good, good_id = h.test_key()
    config = h.Configuration().client("good", good_id, b"good")
    config.client("stolen", thief_id, b"stolen", approval_delay="PT10M", approved_by_default="False")
    with h.Server(config) as server:
        # As many as may be served at a time from one address, and more.
        waiting = [h.start_fetch("--timeout", 60 * h.SLACK, key=thief) for _ in range(140)]
        over = lambda: sum(each.poll() is not None for each in waiting)
        h.wait_until(lambda: over() >= 140 - 32, "all but 32 are turned away", 30)
        h.expect_equal(over(), 140 - 32, "those who do not wait")
        for _ in range(5):
            h.expect_equal(h.fetch(key=good).blob, b"good", "what a good neighbor got")
        server.log.wait_for('verdict=refused client="stolen" .*reason="Approval timed out"')
        for each in waiting:
            each.kill()
            each.communicate()


@h.case("a source that is refused keeps nobody waiting, however fast it comes")
def _():
    config, file = eight_clients()
    with h.Server(config, address="::"):
        flood = start(file, "--sources", "127.9.0.1", "--behaviour", "junk", "--concurrency", 6000,
                      "--seconds", 6)
        time.sleep(2)
        real = result(start(file, "--sources", "127.1.0.0/24", "--rate", 10, "--concurrency", 20,
                            "--seconds", 3, "--timeout", 10 * h.SLACK))
        refused = result(flood)
        h.expect_equal(refused["served"], 0, "served to the flood")
        h.expect(refused["begun"] > 6000, f"it floods: {refused}")
        h.expect_equal(real["served"], real["begun"], f"served real clients, of {real}")
        h.expect(real["p50_ms"] < 500 * h.SLACK, f"they were served at once: {real}")


@h.case("a bad peer keeps nobody behind its address out, and a flood from there is refused and logged")
def _():
    config, file = eight_clients()
    with h.Server(config, address="::") as server:
        def violate():
            with contextlib.suppress(OSError), \
                    socket.create_connection(("127.0.0.1", h.PORT), 10, ("127.9.0.1", 0)) as peer:
                peer.sendall(b"GET /health HTTP/1.1\r\n\r\n")
                peer.recv(1)
        real = start(file, "--sources", "127.9.0.1", "--rate", 10, "--concurrency", 20, "--seconds",
                     5, "--timeout", 10 * h.SLACK)
        while real.poll() is None:
            violate()
            time.sleep(0.5)
        served = result(real)
        h.expect_equal(served["served"], served["begun"], f"served, of {served}")
        h.expect_equal(server.log.find("refusing 127"), None, "refusals")
        for _ in range(200):
            violate()
        told = server.log.wait_for("refusing 127.9.0.1 for .*")
        h.expect("source_penalty_exempt" in told, f"what to do about it: {told}")
        # A client got its secret there, so the flood may have been let in for a part.
        served = result(start(file, "--sources", "127.1.0.0/24", "--concurrency", 8,
                              "--connections", 40))
        h.expect_equal(served["served"], 40, f"served to others, of {served}")
        h.expect(len([line for line in server.log.lines if "refus" in line]) <= 10, "bounded lines")


def unread(at_server, least):
    """How many connections have so many bytes unread, at the server's end or at the clients'."""
    count = 0
    for line in pathlib.Path("/proc/net/tcp6" if at_server else "/proc/net/tcp").read_text() \
            .splitlines()[1:]:
        local, remote, state, queues = line.split()[1:5]
        port = (local if at_server else remote).partition(":")[2]
        if state == "01" and int(port, 16) == h.PORT and int(queues.partition(":")[2], 16) >= least:
            count += 1
    return count


@h.case("when the networker is too slow, who has answered in time is served all the same")
def _():
    config, file = eight_clients()
    config.server_options["login_grace_time"] = "PT2S"
    count = 200
    with h.Server(config, address="::") as server:
        networker = server.pid("networker")
        stop = lambda pid, stopped: os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
        stop(networker, True)
        load = start(file, "--sources", "127.1.0.0/16", "--concurrency", count, "--connections", count)
        h.wait_until(lambda: unread(True, 3) == count, "all have spoken")
        stop(load.pid, True)
        stop(networker, False)
        h.wait_until(lambda: unread(False, 100) == count, "all got an answer")
        stop(networker, True)
        stop(load.pid, False)
        h.wait_until(lambda: unread(True, 100) == count, "all have answered")
        time.sleep(3.5)  # past their time
        stop(networker, False)
        found = result(load)
        h.expect_equal(found["served"], count, f"served, of {found}")


@h.case("of two networkers one that is killed takes its own connections with it and no others")
def _():
    config, file = eight_clients()
    config.server_options["networkers"] = 2
    with h.Server(config, address="::") as server:
        networkers = server.pids("networker")
        h.expect_equal(len(networkers), 2, "networkers")
        descriptors = lambda pid: len(os.listdir(f"/proc/{pid}/fd"))
        before = {pid: descriptors(pid) for pid in networkers}
        peers = []
        # Whoever is awake takes the next: until both have one.
        for number in range(1, 251):
            peers.append(socket.create_connection(("127.0.0.1", h.PORT), 10, (f"127.3.0.{number}", 0)))
            h.wait_until(lambda: sum(descriptors(pid) - before[pid] for pid in networkers) ==
                         len(peers), "it is accepted")
            if all(descriptors(pid) > before[pid] for pid in networkers):
                break
        held = {pid: descriptors(pid) - before[pid] for pid in networkers}
        killed, other = sorted(networkers, key=lambda pid: held[pid])
        h.expect(held[killed] > 0, f"both have connections: {held}")
        os.kill(killed, signal.SIGKILL)
        poll = select.poll()
        for peer in peers:
            poll.register(peer, select.POLLIN)
        h.wait_until(lambda: len(poll.poll(0)) == held[killed], f"{held[killed]} of {len(peers)} end")
        h.wait_until(lambda: len(server.pids("networker")) == 2, "there are two again")
        h.expect_equal(descriptors(other) - before[other], held[other], "connections of the other")
        ended = [fd for fd, _ in poll.poll(0)]
        going_on = next(peer for peer in peers if peer.fileno() not in ended)
        going_on.sendall(b"1\r\n")
        going_on.settimeout(10 * h.SLACK)
        h.expect_equal(going_on.recv(1), b"\x16", "answer to one of the other's")
        served = result(start(file, "--sources", "127.1.0.0/24", "--concurrency", 8,
                              "--connections", 40))
        h.expect_equal(served["served"], 40, f"served, of {served}")


@h.case("sources whose bytes networkers die of are refused by those that follow, for a while")
def _():
    config, file = eight_clients()
    config.server_options["source_penalty_time"] = f"PT{8 * h.SLACK:.0f}S"
    environment = {"LD_PRELOAD": str(h.BUILD / "tests/support/libdies_of_bytes.so"), "ASAN_OPTIONS":
                   os.environ.get("ASAN_OPTIONS", "") + ":handle_sigill=0"}

    def peer(address):
        made = socket.create_connection(("127.0.0.1", h.PORT), 10, (address, 0))
        made.settimeout(10 * h.SLACK)
        made.sendall(b"1\r\n")
        with contextlib.suppress(ConnectionResetError):
            return made, made.recv(1)
        return made, b""
    with h.Server(config, address="::", env=environment) as server:
        networker = server.pid("networker")
        bad, answer = peer("127.4.0.1")
        h.expect_equal(answer, b"\x16", "answer to the first")
        bad.sendall(b"no TLS at all, this")
        server.log.wait_for(r"mandos-networker\[\d+\] ended: killed by signal 4")
        told = server.log.wait_for("the process before this one died .*")
        h.expect("127.4.0.1 " in told, f"the source is named: {told}")
        h.expect_equal(peer("127.4.0.1")[1], b"", "answer to the same source")
        # Another, while the first is still refused: both are.
        before = len(server.log.lines)
        bad, answer = peer("127.4.0.2")
        h.expect_equal(answer, b"\x16", "answer to the second")
        bad.sendall(b"no TLS at all, this")
        told = server.log.wait_for("the process before this one died .*", start=before)
        h.expect("127.4.0.2 " in told, f"the source is named: {told}")
        for address in ("127.4.0.1", "127.4.0.2"):
            h.expect_equal(peer(address)[1], b"", f"answer to {address}")
        served = result(start(file, "--sources", "127.1.0.0/24", "--concurrency", 8,
                              "--connections", 40))
        h.expect_equal(served["served"], 40, f"served to others, of {served}")
        h.wait_until(lambda: peer("127.4.0.1")[1] == b"\x16", "it is heard again", 20)
        # One that dies of nobody's bytes is held against nobody.
        networker, before = server.pid("networker", other_than=networker), len(server.log.lines)
        h.wait_until(lambda: h.stat_of(networker)[0] == "S", "it waits")
        os.kill(networker, signal.SIGKILL)
        h.expect_equal(result(start(file, "--sources", "127.1.0.0/24", "--concurrency", 1,
                                    "--connections", 1, "--timeout", 10))["served"], 1, "served")
        h.expect_equal(server.log.find("the process before", before), None, "who is blamed")


@h.case("2,000 clients that ask at once, for secrets of 30,000 bytes, are all served")
def _():
    config, file = eight_clients(30_000)
    with h.Server(config, address="::"):
        real = result(start(file, "--sources", "127.1.0.0/16", "--concurrency", 2000,
                            "--connections", 2000, "--timeout", 30 * h.SLACK))
        h.expect_equal(real["served"], 2000, f"served, of {real}")


h.main()
