#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networker as a process of its own, started as the supervisor starts it, with a monitor that
looks at no proof (tests/support/fake_monitor.cc). Whatever a peer does costs that peer only."""
import base64, contextlib, os, pathlib, re, signal, socket, subprocess, sys, tempfile, threading, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import (BUILD, PORT, SLACK, case, expect, expect_equal, expect_outcome, fetch,
                     finish_fetch, run_real_client, start_fetch, status_of, wait_until)

FAKE_MONITOR = BUILD / "tests/support/fake-monitor"
NETWORKER = BUILD / "networker/mandos-networker"
USER = 60999
#: In the sanitizer build there is no filter, and memory means nothing.
SANITIZED = os.environ.get("MANDOS_SANITIZED") == "1"
_key = None


def key():
    global _key
    _key = _key or harness.test_key()[0]
    return _key


class Networker:
    """A networker and its fake monitor; what that says is in `lines`."""

    def __init__(self, *options, expect_ready=True, **more):
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in more.items()]
        self.lines = []
        self.errors = tempfile.TemporaryFile(dir=harness.temporary())
        self.process = subprocess.Popen(
            [FAKE_MONITOR, "--networker", NETWORKER, "--port", str(PORT), *options, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        threading.Thread(target=self._collect, daemon=True).start()
        self.wait_for("greeting" if expect_ready else "status")
        self.pid = int(self.wait_for(r"pid (\d+)")[1])

    def _collect(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def find(self, pattern):
        return next((found for line in list(self.lines)
                     if (found := re.fullmatch(pattern + "( .*)?", line))), None)

    def count(self, pattern):
        return sum(bool(re.fullmatch(pattern, line)) for line in list(self.lines))

    def numbers(self, word):
        """Of the connections that the networker said this of."""
        return {line.split()[1] for line in list(self.lines) if line.startswith(word + " ")}

    def wait_for(self, pattern, seconds=10):
        return wait_until(lambda: self.find(pattern), f"{pattern} among {self.lines[-20:]}", seconds)

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def stop(self):
        """The monitor leaves; returns the networker's wait status."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(10 * SLACK)
        self.errors.seek(0)
        expect_equal(self.errors.read().decode(errors="replace"), "", "standard error")
        return int(self.wait_for(r"status (\d+)")[1])

    def memory(self):
        """Private and proportional memory, in bytes."""
        rollup = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1]) * 1024

    def cpu(self):
        """Seconds of processor time so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        elif self.process.poll() is None:
            expect_equal(self.stop(), 0, "wait status of the networker")


def connect(text=b"", source=None):
    peer = socket.create_connection(("::1", PORT), 10, (source, 0) if source else None)
    peer.sendall(text)
    return peer


def closed_within(peer, seconds):
    """How long until the server closes, reading what it says."""
    start = time.monotonic()
    peer.settimeout(seconds * SLACK)
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise harness.Failure(f"not closed within {seconds} s") from None
    return time.monotonic() - start


def blob_file(size):
    file = harness.temporary() / f"blob-{size}"
    file.write_bytes(os.urandom(size))
    return file


# ---------------------------------------------------------------- who gets something

@case("the real mandos-client decrypts its passphrase")
def real_client():
    keys, section = harness.real_client()
    blob = harness.temporary() / "real-blob"
    blob.write_bytes(base64.b64decode("".join(section["secret"].split())))
    with Networker(blob=blob) as networker:
        expect_equal(run_real_client(keys), (keys / "passphrase").read_bytes(), "passphrase")
        networker.wait_for("closed 0 1")
        expect_equal(networker.wait_for(r"proof 0 (\S+)")[1], "::1", "address")


@case("every key type gets its blob, with and without a HelloRetryRequest")
def key_types():
    with Networker():
        for kind in ("ed25519", "ed448", "p256", "p384", "p521", "rsa3072"):
            file = harness.test_key(kind)[0]
            for options in ((), ("--groups", "SECP521R1")):
                got = fetch(*options, key=file)
                expect_outcome(got, "blob")
                expect_equal(got.blob, b"blob", kind)


@case("the nonce is ClientHello.random and the transcript ends with CertificateVerify")
def transcript():
    with Networker() as networker:
        for options in ((), ("--groups", "SECP521R1")):
            expect_outcome(fetch(*options, key=key()), "blob")
        wait_until(lambda: networker.count("proof .*") == 2, "two proofs")
        types = []
        for line in networker.lines:
            if not line.startswith("proof"):
                continue
            data, found = bytes.fromhex(line.split()[3]), []
            while data:
                size = 4 + int.from_bytes(data[1:4], "big")
                found.append(data[0])
                expect(len(data) >= size, "a whole message")
                data = data[size:]
            types.append(found)
        expect_equal(types, [[1, 2, 8, 11, 15], [1, 2, 1, 2, 8, 11, 15]], "message types")


@case("a blob of any size arrives whole, also at a slow reader")
def sizes():
    for size, part in ((1, 32768), (16384, 16384), (100_000, 1), (1 << 20, 32768)):
        if part == 1:
            part, size = 1, 300
        file = blob_file(size)
        with Networker(blob=file, part_size=part) as networker:
            got = fetch(key=key())
            expect_outcome(got, "blob")
            expect(got.blob == file.read_bytes(), f"blob of {size} bytes")
            slow = fetch("--read-size", 20000, "--read-pause", 5, key=key())
            expect_outcome(slow, "blob")
            expect(slow.blob == file.read_bytes(), f"blob of {size} bytes, read slowly")
            wait_until(lambda: networker.count(r"closed \d+ 1") == 2, "both are delivered")


@case("a refused client is closed without a byte")
def refused():
    with Networker(verdict="refuse") as networker:
        expect_outcome(fetch(key=key()), "nothing")
        networker.wait_for("closed 0 0")


@case("TLS 1.2, an X.509 certificate, a flipped bit: no proof, and closed")
def wrong_peers():
    with Networker() as networker:
        for options in (("--tls12",), ("--x509",), ("--flip-byte", 20), ("--flip-byte", 300)):
            expect_outcome(fetch(*options, key=key()), "no-handshake")
        expect_equal(networker.count("proof .*"), 0, "proofs")
        expect_outcome(fetch(key=key()), "blob")


# ---------------------------------------------------------------- bad manners

@case("junk, an endless line, a wrong version: closed at once")
def junk():
    with Networker() as networker:
        for text in (b"\n", b"2\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\n", b"x" * 300,
                     b"1" * 256, b"\0" * 300):
            closed_within(connect(text), 2)
        closed_within(connect(b"1\r\nthis is no TLS" + b"!" * 100), 2)
        expect_outcome(fetch("--endless", key=key()), "closed-early")
        for text in (b"1\n", b"0 and more\r\n", b" +1\r\n"):
            with connect(text) as peer:
                expect_equal(peer.recv(1), b"\x16", f"answer to {text}")
        expect_outcome(fetch(key=key()), "blob")
        wait_until(lambda: networker.count("proof .*") >= 1, "a proof")
        expect_equal(networker.count("proof .*"), 1, "proofs")


@case("silence, half a line and half a handshake end with the grace time, together")
def stalled():
    with Networker(grace_ms=1000):
        peers = [connect(), connect(b"1"), connect(b"1\r\n")]
        clients = [start_fetch("--stall-after", 100, "--timeout", 10, key=key()),
                   start_fetch("--stall-after-server-hello", "--timeout", 10, key=key())]
        start = time.monotonic()
        for peer in peers:
            closed_within(peer, 5)
        for client in clients:
            expect_outcome(finish_fetch(client), "no-handshake")
        took = time.monotonic() - start
        expect(0.5 < took < 4 * SLACK, f"all ended after {took:.2f} s")


@case("a peer that dribbles does not stretch the grace time")
def dribble():
    with Networker(grace_ms=1000):
        peer, start = connect(), time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < start + 10 * SLACK:
                peer.sendall(b" ")
                time.sleep(0.1)
        expect(time.monotonic() < start + 5 * SLACK, "ended with the grace time")


@case("who waits for the monitor is not ended for it")
def slow_monitor():
    with Networker(grace_ms=1000) as networker:
        networker.process.send_signal(signal.SIGSTOP)
        client = start_fetch(key=key())
        time.sleep(1.5)
        networker.process.send_signal(signal.SIGCONT)
        expect_outcome(finish_fetch(client), "blob")


@case("who waits for the monitor makes room for nobody")
def slow_monitor_and_full():
    with Networker("--listen=127.0.0.1", max_connections=2) as networker:
        networker.process.send_signal(signal.SIGSTOP)
        peers = []
        for number in (1, 2, 3):
            peers.append(socket.create_connection(("127.0.0.1", PORT), 10, (f"127.3.0.{number}", 0)))
            peers[-1].sendall(b"1\r\n")
        time.sleep(4.5)
        networker.process.send_signal(signal.SIGCONT)
        for peer in peers[:2]:
            expect_equal(peer.recv(1), b"\x16", "answer")
            peer.close()
        expect_equal(peers[2].recv(1), b"\x16", "answer to the third, when there is room")


@case("who speaks to a networker that stands still gets as long for its handshake as others")
def stands_still():
    with Networker(grace_ms=1000) as networker:
        peers = [connect() for _ in range(100)]  # more than it handles before it looks at the time
        wait_until(lambda: networker.descriptors() >= 100, "all are accepted")
        os.kill(networker.pid, signal.SIGSTOP)
        for peer in peers:
            peer.sendall(b"1\r\n")
        time.sleep(1.5)
        os.kill(networker.pid, signal.SIGCONT)
        for peer in peers:
            expect_equal(peer.recv(1), b"\x16", "answer")
        start = time.monotonic()
        expect(closed_within(peers[-1], 5) > 0.5, "it has time for its handshake")
        expect(time.monotonic() - start < 4 * SLACK, "and not for ever")
        for peer in peers:
            peer.close()


@case("clients in their handshake are served after a stop of several grace times, and not punished")
def stopped_for_long():
    with Networker(grace_ms=1000, penalty_ms=60000, penalty_threshold=1) as networker:
        silent = connect()  # whose deadline the first timer is
        halves = [connect(b"1") for _ in range(10)]
        asked = [connect(b"1\r\n") for _ in range(10)]
        for peer in asked:
            expect_equal(peer.recv(1), b"\x16", "a ClientHello")
        wait_until(lambda: networker.descriptors() >= 21, "all are accepted")
        os.kill(networker.pid, signal.SIGSTOP)
        clients = [start_fetch(key=key()) for _ in range(10)]
        time.sleep(3)
        os.kill(networker.pid, signal.SIGCONT)
        # As peers whose packets were lost while the machine was suspended: they are heard later.
        time.sleep(0.3)
        for peer in halves:
            peer.sendall(b"\r\n")
        for peer in halves:
            expect_equal(peer.recv(1), b"\x16", "answer to who had said half a line")
        for peer in asked:
            peer.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                while got := peer.recv(4096):
                    pass
                expect(got, "who has our ClientHello has its time, too")
        for peer in halves + asked:
            peer.close()
        for client in clients:
            expect_outcome(finish_fetch(client), "blob")
        expect_outcome(fetch(key=key()), "blob")
        expect_equal(networker.count("log 4 refus.*"), 0, "refusals")
        silent.close()


@case("two hundred silent peers cost at most 8 KiB each, and a client is served among them")
def silent():
    with Networker(grace_ms=60000) as networker:
        expect_outcome(fetch(key=key()), "blob")
        before, opened = networker.memory(), networker.descriptors()
        peers = [connect() for _ in range(200)]
        wait_until(lambda: networker.descriptors() == opened + 200, "all are accepted")
        each = (networker.memory() - before) / 200
        print(f"# a silent peer costs {each:.0f} bytes")
        expect(each <= 8192 or SANITIZED, f"a silent peer costs {each:.0f} bytes")
        expect_outcome(fetch(key=key()), "blob")
        for peer in peers:
            peer.close()
        wait_until(lambda: networker.descriptors() == opened, "all are gone")
        # The two that were served, and nonces for those who come next.
        expect(networker.count("open .*") <= 4, f"the monitor hears of them: {networker.lines}")


@case("a peer that hangs up is noticed at once, wherever it is")
def hang_up():
    points = ("connected", "line", "client-hello", "stalled", "handshake")
    with Networker(verdict="hold") as networker:
        for point in points:
            for reset in ((), ("--reset",)):
                more = ("--stall-after", 50) if point == "stalled" else ()
                fetch("--hang-up", point, *more, *reset, key=key())
        expect_outcome(fetch("--hang-up", "waiting", "--wait", 0.3, key=key()), "hung-up")
        # Those that had a ClientHello were opened for certain: a reset takes back the bytes before
        # it, so the version line of the others may never be read.
        def all_over():
            closed = networker.numbers("closed")
            # What is left are nonces for those who come next.
            left = networker.numbers("open") - closed
            return len(closed) >= 7 and len(left) <= 8 and not left & networker.numbers("proof")
        wait_until(all_over, "every open connection is closed", 2)
        networker.wait_for("proof .*")


@case("nonces are asked for ahead, few at a time, and given back when they are old")
def ahead():
    with Networker(grace_ms=1000) as networker:
        for number in range(12):
            expect_outcome(fetch(key=key()), "blob")
            wait_until(lambda: networker.count(r"closed \d+ 1") == number + 1, "it is over")
        opened = networker.numbers("open")
        expect(len(opened) <= 12 + 8, f"one for each that was served, and few more: {opened}")
        clients = [start_fetch(key=key()) for _ in range(30)]
        for client in clients:
            expect_outcome(finish_fetch(client), "blob")
        wait_until(lambda: networker.count(r"closed \d+ 1") == 42, "all are over")
        waiting = networker.numbers("open") - networker.numbers("closed")
        expect(1 <= len(waiting) <= 8, f"nonces that wait: {waiting}")
        time.sleep(1.1)
        def given_back():
            expect_outcome(fetch(key=key()), "blob")
            return waiting <= networker.numbers("closed")
        # With the first whose version line is there when it is let in.
        wait_until(given_back, f"{waiting} are given back")
        expect(not waiting & networker.numbers("proof"), f"none that is old is used: {waiting}")


@case("a monitor that is busy for a while finds everybody waiting")
def busy_monitor():
    with Networker(max_connections=2000, max_per_source=2000, log_level=6) as networker:
        networker.process.send_signal(signal.SIGSTOP)
        clients = [start_fetch(key=key()) for _ in range(40)]
        strangers = [connect(b"1\r\n") for _ in range(1200)]  # more than the door takes at once
        time.sleep(1)
        before = networker.cpu()
        time.sleep(1)
        spent = networker.cpu() - before
        expect(spent < 0.3 * SLACK, f"{spent:.2f} s of processor time in 1 s of waiting")
        networker.process.send_signal(signal.SIGCONT)
        for client in clients:
            expect_outcome(finish_fetch(client), "blob")
        for peer in strangers:
            expect_equal(peer.recv(1), b"\x16", "answer to a stranger")
            peer.close()
        wait_until(lambda: networker.count(r"closed \d+ [01]") == 1240, "all are over")


@case("a peer that vanishes in the middle of its blob is not delivered")
def hang_up_in_blob():
    with Networker(blob=blob_file(8 << 20)) as networker:
        fetch("--hang-up", "blob", "--reset", key=key())
        networker.wait_for("closed 0 0", 5)


@case("the verdict may take its time, and comes to the connection that waits for it")
def waiting():
    with Networker(verdict="hold", grace_ms=700) as networker:
        first, second = start_fetch(key=key()), start_fetch(key=key())
        wait_until(lambda: networker.count("proof .*") == 2, "both prove themselves")
        numbers = [line.split()[1] for line in networker.lines if line.startswith("proof")]
        time.sleep(1.5)
        expect_equal(networker.count("closed .*"), 0, "ended while they wait")
        networker.order(f"give {numbers[0]}")
        networker.wait_for(f"closed {numbers[0]} 1")
        networker.order(f"refuse {numbers[1]}")
        networker.wait_for(f"closed {numbers[1]} 0")
        expect_equal(sorted([finish_fetch(first).outcome, finish_fetch(second).outcome]),
                     ["blob", "nothing"], "outcomes")


@case("a peer that talks while it waits is heard a while, then closed")
def talkers():
    with Networker(verdict="hold") as networker:
        talk = start_fetch("--talk", 1000, "--key-update", key=key())
        networker.wait_for("proof 0 .*")
        time.sleep(0.2)
        networker.order("give 0")
        expect_outcome(finish_fetch(talk), "blob", "truncated")
        finish_fetch(start_fetch("--talk", 200_000, key=key()))
        wait_until(lambda: networker.count(r"closed \d+ 0") == 1, "the talker is closed")


# ---------------------------------------------------------------- bounds

@case("when full the oldest stranger goes, and those who wait for their secret stay")
def full():
    with Networker(verdict="hold", max_connections=5, grace_ms=60000) as networker:
        waiting = [start_fetch(key=key()) for _ in range(3)]
        wait_until(lambda: networker.count("proof .*") == 3, "three wait")
        silent = [connect() for _ in range(5)]
        newcomer = connect(b"1\r\n")
        closed_within(silent[0], 8)  # not before its chance of four seconds
        expect_equal(newcomer.recv(1), b"\x16", "answer to the newcomer")
        for peer in silent[1:]:
            peer.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                expect(peer.recv(1), "younger ones stay")
        expect_equal(networker.count("closed .*"), 0, "closed ones that the monitor knew")
        for line in [line for line in networker.lines if line.startswith("proof")]:
            networker.order(f"give {line.split()[1]}")
        for client in waiting:
            expect_outcome(finish_fetch(client), "blob")


@case("twice as many as allowed strangers may wait for their secret, and no more")
def crowded():
    with Networker(verdict="hold", max_connections=2) as networker:
        waiting = []
        for number in range(4):
            waiting.append(start_fetch(key=key()))
            wait_until(lambda: networker.count("proof .*") == number + 1, "one more waits")
        expect_outcome(fetch(key=key()), "nothing")
        wait_until(lambda: networker.count("proof .*") >= 4, "a proof")
        expect_equal(networker.count("proof .*"), 4, "proofs")
        for line in [line for line in networker.lines if line.startswith("proof")]:
            networker.order(f"give {line.split()[1]}")
        for client in waiting:
            expect_outcome(finish_fetch(client), "blob")


@case("one source cannot take the places of others")
def per_source():
    with Networker("--listen=127.0.0.1", "--listen=::1", max_connections=50, max_per_source=3,
                   grace_ms=60000) as networker:
        def connect4(source):
            return socket.create_connection(("127.0.0.1", PORT), 10, (source, 0))
        silent = [connect4("127.0.0.2") for _ in range(3)]
        refused = [connect4("127.0.0.2") for _ in range(3)]
        for peer in refused:
            closed_within(peer, 0.9)
        expect_outcome(fetch("--host", "127.0.0.1", key=key()), "blob")
        expect_outcome(fetch("--host", "::1", key=key()), "blob")
        time.sleep(1.1)  # now the oldest have had their chance
        newcomer = connect4("127.0.0.2")
        newcomer.sendall(b"1\r\n")
        expect_equal(newcomer.recv(1), b"\x16", "answer to the newcomer")
        closed_within(silent[0], 1)
        addresses = sorted(line.split()[2] for line in networker.lines if line.startswith("proof"))
        expect_equal(addresses, ["127.0.0.1", "::1"], "addresses")


@case("a source that breaks the protocol again and again is refused for a while, others are not")
def penalty():
    with Networker("--listen=127.0.0.1", "--listen=::1", penalty_ms=1500,
                   penalty_threshold=5) as networker:
        for text in (b"junk\n", b"GET / HTTP/1.1\r\n\r\n", b"1\r\nno TLS at all, this"):
            closed_within(connect(text), 2)
            expect_outcome(fetch("--host", "127.0.0.1", key=key()), "blob")
        fetch("--hang-up", "line", key=key())
        expect_equal(networker.count("log 4 refusing .*"), 0, "too few to be refused")
        for _ in range(20):
            closed_within(connect(b"junk\n"), 2)
        expect_outcome(fetch(key=key()), "closed-early", "no-connection")
        expect_outcome(fetch("--host", "127.0.0.1", key=key()), "blob")
        said = networker.wait_for("log 4 refusing ::1 for .*")[0]
        expect("source_penalty_exempt" in said, f"what to do: {said}")
        wait_until(lambda: fetch(key=key()).outcome == "blob", "served again", 20)


@case("a source where a key was proved is not shut out, an exempt one never refused")
def not_refused():
    for options in ((), ("--exempt=::/127",)):
        with Networker(*options, penalty_ms=60000, penalty_threshold=1) as networker:
            if not options:
                expect_outcome(fetch(key=key()), "blob")
            for _ in range(10):
                closed_within(connect(b"junk\n"), 2)
            expect_outcome(fetch(key=key()), "blob")
            if options:
                expect_equal(networker.count("log 4 refusing .*"), 0, "refusals")
            else:
                networker.wait_for("log 4 refusing .*")


@case("a mapped IPv4 address is shown as IPv4")
def mapped():
    with Networker("--listen=::") as networker:
        expect_outcome(fetch("--host", "127.0.0.1", key=key()), "blob")
        expect_equal(networker.wait_for(r"proof 0 (\S+)")[1], "127.0.0.1", "address")


@case("out of descriptors it sheds, never spins, and recovers")
def descriptors():
    if SANITIZED:  # the sanitizer itself needs descriptors, and finds fault with everything
        return
    # Eight are always open: one is left for connections, which the one that waits takes.
    with Networker(verdict="hold", files=9, grace_ms=60000) as networker:
        waiting = start_fetch(key=key())
        networker.wait_for("proof 0 .*")
        silent = [connect() for _ in range(60)]
        networker.wait_for("log 4 no descriptor or memory.*")
        before = networker.cpu()
        time.sleep(2)
        spent = networker.cpu() - before
        expect(spent < 0.3 * SLACK, f"{spent:.2f} s of processor time in 2 s of want")
        expect_equal(networker.count("log 4 no descriptor.*"), 1, "complaints")
        for peer in silent:
            peer.close()
        networker.order("give 0")
        expect_outcome(finish_fetch(waiting), "blob")
        client = start_fetch(key=key())
        number = wait_until(lambda: next((line.split()[1] for line in networker.lines
                                          if line.startswith("proof") and line.split()[1] != "0"),
                                         None), "the next one proves itself")
        networker.order(f"give {number}")
        expect_outcome(finish_fetch(client), "blob")


@case("when descriptors are out before the bound is reached the oldest stranger goes for a client")
def descriptors_of_strangers():
    if SANITIZED:
        return
    with Networker(verdict="hold", max_connections=20, grace_ms=60000) as networker:
        waiting = start_fetch(key=key())
        networker.wait_for("proof 0 .*")
        opened = {int(fd) for fd in os.listdir(f"/proc/{networker.pid}/fd")}
        limit = next(n for n in range(1000) if n - len({fd for fd in opened if fd < n}) == 2)
        # Its own user may.
        subprocess.run(["prlimit", "--pid", str(networker.pid), f"--nofile={limit}:{limit}"],
                       check=True, user=USER, group=USER, extra_groups=[])
        silent = [connect(), connect()]
        wait_until(lambda: networker.descriptors() == len(opened) + 2, "both are let in")
        client = start_fetch(key=key())
        networker.wait_for("log 4 no descriptor or memory.*")
        closed_within(silent[0], 8)  # not before its chance of four seconds
        number = wait_until(lambda: next((line.split()[1] for line in networker.lines
                                          if line.startswith("proof") and line.split()[1] != "0"),
                                         None), "the client proves itself")
        for each in ("0", number):
            networker.order(f"give {each}")
        for each in (waiting, client):
            expect_outcome(finish_fetch(each), "blob")


@case("a limit on open files that is hardly enough still serves one after the other")
def few_files():
    if SANITIZED:
        return
    for files in range(11, 16):
        with Networker(files=files, max_connections=1000):
            for _ in range(3):
                expect_outcome(fetch(key=key()), "blob")


@case("the bound on connections is fitted to the limit on open files")
def fitted():
    with Networker(files=50, max_connections=1000, grace_ms=60000) as networker:
        networker.wait_for("log 4 at most 13 connections instead of 1000: .*")
        silent = [connect() for _ in range(40)]
        wait_until(lambda: fetch(key=key()).outcome == "blob", "served among them", 5)
        expect_equal(networker.count("log 4 no descriptor.*"), 0, "wants of descriptors")
        for peer in silent:
            peer.close()


@case("strangers cannot fill the log")
def quiet():
    with Networker(log_level=6, max_connections=5, grace_ms=60000) as networker:
        for _ in range(300):
            connect(b"junk\n").close()
        silent = [connect() for _ in range(5)]
        time.sleep(1.2)
        silent += [connect() for _ in range(5)]
        closed_within(silent[0], 3)
        lines = [line for line in networker.lines if line.startswith("log")]
        expect(len(lines) <= 3, f"log lines: {lines}")
    with Networker(log_level=6, penalty_ms=60000, penalty_threshold=1) as networker:
        for _ in range(300):
            with contextlib.suppress(OSError):
                connect(b"junk\n").close()
        wait_until(lambda: networker.count("log 4 refused connections .*") == 1, "a refusal")
        lines = [line for line in networker.lines if line.startswith("log")]
        expect(len(lines) <= 8, f"log lines: {lines}")


@case("the TLS library's own lines stay below the level that shows keys, whatever is asked for")
def tls_debug():
    with Networker(tls_debug=11) as networker:
        expect_outcome(fetch(key=key()), "blob")
        levels = {int(found[1]) for line in list(networker.lines)
                  if (found := re.match(r"log 7 GnuTLS (\d+): ", line))}
        expect(levels and max(levels) <= 8, f"levels: {levels}")


@case("nothing is left of a thousand connections")
def leaks():
    with Networker(log_level=6) as networker:
        for _ in range(20):
            fetch(key=key())
        memory, opened = networker.memory(), networker.descriptors()
        for _ in range(10):
            group = [connect(b"1\r\n") for _ in range(70)] + [connect(b"junk\n") for _ in range(30)]
            for peer in group:
                peer.close()
        for _ in range(20):
            expect_outcome(fetch(key=key()), "blob")
        wait_until(lambda: networker.descriptors() == opened, "descriptors are given back")
        grown = networker.memory() - memory
        print(f"# grown by {grown} bytes")
        expect(grown < 2 << 20 or SANITIZED, f"grown by {grown} bytes")


# ---------------------------------------------------------------- the door

@case("a priority string that is not TLS 1.3 with raw keys alone: said, and status 1")
def priorities():
    base = "NORMAL:!CTYPE-X.509:+CTYPE-RAWPK:!VERS-ALL:+VERS-TLS1.3"
    for priority, says in (("NORMAL", "TLS 1.3"), (base + ":+VERS-TLS1.2", "TLS1.2"),
                           (base + ":+CTYPE-X.509", "raw public keys"), ("RUBBISH", "RUBBISH"),
                           (base.replace("1.3", "1.2"), "TLS 1.3"), ("@NOSUCH", "@NOSUCH"),
                           ("@SYSTEM", "@SYSTEM"), ("", "priority string")):
        networker = Networker(priority=priority, expect_ready=False)
        expect(says in networker.wait_for("greeting")[0], f"{priority}: {networker.lines}")
        expect_equal(networker.stop(), 1 << 8, "wait status")
    with Networker(priority=base):
        expect_outcome(fetch(key=key()), "blob")


@case("words to a connection that is over are ignored")
def late_words():
    with Networker(verdict="hold") as networker:
        fetch("--hang-up", "handshake", key=key())
        networker.wait_for("closed 0 0")
        for order in ("give 0", "refuse 0", "nonce 0", "give 7", "refuse 4000000000"):
            networker.order(order)
        client = start_fetch(key=key())
        number = wait_until(lambda: next((line.split()[1] for line in networker.lines
                                          if line.startswith("proof") and line.split()[1] != "0"),
                                         None), "the next one has another number")
        networker.order("give 0")
        networker.order(f"give {number}")
        expect_outcome(finish_fetch(client), "blob")


@case("a monitor that breaks the rules of the door ends the networker")
def bad_monitor():
    for orders in (("raw 0801",), ("nonce 0",), ("give 0", "give 0"),
                   ("raw 12020a00",)):
        networker = Networker(verdict="hold", blob=blob_file(8 << 20))
        client = start_fetch("--hang-up", "waiting", "--wait", 3, key=key())  # does not read
        networker.wait_for("proof 0")
        for order in orders:
            networker.order(order)
            time.sleep(0.3)
        expect_equal(int(networker.wait_for(r"status (\d+)")[1]), 1 << 8, f"after {orders}")
        networker.wait_for("log 2 the monitor .*")
        networker.stop()
        finish_fetch(client)


@case("a part before its proof ends the networker")
def early_part():
    networker = Networker()
    with connect(b"1\r\n"):
        networker.wait_for("open 0")
        networker.order("give 0")
        expect_equal(int(networker.wait_for(r"status (\d+)")[1]), 1 << 8, "wait status")


@case("when the door closes the networker ends, whatever is going on")
def door_closes():
    networker = Networker(verdict="hold")
    silent = connect()
    client = start_fetch(key=key())
    networker.wait_for(r"proof \d+ .*")
    expect_equal(networker.stop(), 0, "wait status")
    closed_within(silent, 2)
    expect_outcome(finish_fetch(client), "nothing")


@case("it is not for starting by hand")
def by_hand():
    ran = subprocess.run([NETWORKER], capture_output=True, stdin=subprocess.DEVNULL)
    expect_equal(ran.returncode, 2, "status")
    expect(b"started by mandos" in ran.stderr, "says so")


# ---------------------------------------------------------------- the jail, seen from outside

@case("the running networker is in its jail")
def jail():
    with Networker() as networker:
        line = networker.wait_for("log 6 jail: .*")[0]
        for layer in ("root=empty", "capabilities=none", "no_new_privs", "undumpable"):
            expect(layer in line, f"{layer} in {line}")
        status = status_of(networker.pid)
        expect_equal(status["Uid"].split(), [str(USER)] * 4, "user")
        expect_equal(status["Gid"].split(), [str(USER)] * 4, "group")
        expect_equal(status["Groups"], "", "supplementary groups")
        for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            expect_equal(int(status[which], 16), 0, which)
        expect_equal(status["NoNewPrivs"], "1", "no_new_privs")
        expect_equal(status["Threads"], "1", "threads")
        if not SANITIZED:
            expect_equal(status["Seccomp"], "2", "seccomp")
        expect_equal(os.listdir(f"/proc/{networker.pid}/root"), [], "its root directory")
        expect_equal(os.stat(f"/proc/{networker.pid}/environ").st_uid, 0, "dumpable: owner in /proc")
        limits = pathlib.Path(f"/proc/{networker.pid}/limits").read_text()
        for limit in ("Max processes", "Max file size", "Max core file size"):
            expect_equal(re.search(limit + r" +(\d+) +(\d+)", limits).groups(), ("0", "0"), limit)
        soft, hard = re.search(r"Max open files +(\d+) +(\d+)", limits).groups()
        expect_equal(soft, hard, "limit on open files is raised")


@case("nothing is open but what was given to it")
def open_descriptors():
    with Networker() as networker:
        folder = f"/proc/{networker.pid}/fd"
        found = {int(fd): re.sub(r":\[.*", "", os.readlink(f"{folder}/{fd}"))
                 for fd in os.listdir(folder)}
        for fd in (1, 2):
            found.pop(fd)
        expect_equal(found, {0: "/dev/null", 3: "socket", 4: "socket", 5: "anon_inode",
                             6: "anon_inode", 7: "socket"}, "descriptors")


if __name__ == "__main__":
    harness.main()
