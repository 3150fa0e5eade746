#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network changes below the server, or comes after it: interfaces that are made anew, addresses
that move, a boot before there is a network, a kernel without IPv6."""
import errno, os, signal, socket, subprocess, sys

import harness, system_calls
from harness import Configuration, Server, case, expect, expect_equal, expect_outcome, fetch, wait_until

BLOB = b"a secret"


def ip(*arguments, check=True):
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise harness.Failure(f"ip {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def index(name):
    return socket.if_nametoindex(name)


class Peer:
    """Another machine, on the other end of the interface `vpn0`; a context manager."""

    def __enter__(self):
        ip("netns", "add", "peer")
        ip("-n", "peer", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        ip("link", "delete", "vpn0", check=False)
        ip("netns", "delete", "peer", check=False)

    def connect(self, *addresses, name="vpn0"):
        """Makes the interface, with an index that it never had before."""
        ip("link", "add", name, "type", "veth", "peer", "name", "peer0", "netns", "peer")
        for address in addresses:
            ip("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        ip("link", "set", name, "up")
        for address in ("10.9.9.2/24", "fd00::2/64", "fe80::2/64"):
            ip("-n", "peer", "address", "add", address, "dev", "peer0",
               *(["nodad"] if ":" in address else []))
        ip("-n", "peer", "link", "set", "peer0", "up")

    def fetch(self, host, key, timeout=1):
        return subprocess.run(["ip", "netns", "exec", "peer", harness.TEST_CLIENT, "--port",
                               str(harness.PORT), "--host", host, "--timeout", str(timeout),
                               "--key", key], capture_output=True).stdout

    def expect_served(self, host, key, what, seconds=10):
        wait_until(lambda: self.fetch(host, key) == BLOB, what, seconds)


def configured(**options):
    key, key_id = harness.test_key()
    config = Configuration().client("good", key_id, BLOB)
    config.server_options.update(options)
    return config, key


def status(server):
    return [line for line in server.notices.lines if line.startswith("STATUS=")][-1]


@case("an interface that is deleted and made anew is served again, three times, without a restart")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24", "fd00::1/64")
        with Server(config, address="::") as server:
            monitor = server.pid("monitor")
            peer.expect_served("10.9.9.1", key, "served at first")
            expect_outcome(fetch("--host", "127.0.0.1", "--timeout", 1, key=key), "no-connection")
            for _ in range(3):
                start, before = len(server.log.lines), index("vpn0")
                ip("link", "delete", "vpn0")
                server.log.wait_for("interface vpn0 is gone", start=start)
                wait_until(lambda: "Waiting for the interface vpn0" in status(server), "said in the status")
                peer.connect("10.9.9.1/24", "fd00::1/64")
                expect(index("vpn0") != before, "it is another interface")
                server.log.wait_for(f"interface vpn0 is there, with index {index('vpn0')}", start=start)
                peer.expect_served("10.9.9.1", key, "served again")
                peer.expect_served("fd00::1", key, "served again by IPv6")
                wait_until(lambda: "Serving 1 clients" in status(server), "said in the status")
            expect_outcome(fetch("--host", "127.0.0.1", "--timeout", 1, key=key), "no-connection")
            expect_equal(server.pid("monitor"), monitor, "the monitor")


@case("an interface that goes down and up disturbs nobody")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            pids = {role: server.pid(role) for role in ("monitor", "networker")}
            for _ in range(10):
                ip("link", "set", "vpn0", "down")
                ip("link", "set", "vpn0", "up")
            peer.expect_served("10.9.9.1", key, "served")
            expect_equal({role: server.pid(role) for role in pids}, pids, "the processes")
            expect(not server.log.find("index|fresh monitor"), "nothing was bound anew")


@case("a monitor that is killed while the interface is away finds it when it comes back")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            ip("link", "delete", "vpn0")
            monitor = server.pid("monitor")
            os.kill(monitor, signal.SIGKILL)
            server.log.wait_for("waiting for the interface vpn0")
            server.pid("monitor", other_than=monitor)
            peer.connect("10.9.9.1/24")
            peer.expect_served("10.9.9.1", key, "served again")


@case("a monitor that comes later serves the interface of the start, whatever mandos.conf says then")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            del config.server_options["interface"]
            config.write()
            monitor = server.pid("monitor")
            os.kill(monitor, signal.SIGKILL)
            server.pid("monitor", other_than=monitor)
            peer.expect_served("10.9.9.1", key, "served")
            server.log.wait_for("mandos.conf: changed since the server started")
            start = len(server.log.lines)
            ip("link", "delete", "vpn0")
            server.log.wait_for("interface vpn0 is gone", start=start)
            peer.connect("10.9.9.1/24")
            peer.expect_served("10.9.9.1", key, "served again")


@case("an interface that is exchanged while the monitor is away is served all the same")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            monitor = server.pid("monitor")
            os.kill(monitor, signal.SIGSTOP)
            ip("link", "delete", "vpn0")
            peer.connect("10.9.9.1/24")
            os.kill(monitor, signal.SIGKILL)
            peer.expect_served("10.9.9.1", key, "served again")


@case("an interface that is renamed away and another that takes its name: the name counts")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            ip("link", "set", "vpn0", "down")
            ip("link", "set", "vpn0", "name", "old0")
            server.log.wait_for("interface vpn0 is gone")
            ip("link", "delete", "old0")
            peer.connect("10.9.9.1/24")
            peer.expect_served("10.9.9.1", key, "served again")


@case("an interface that is renamed is not served by its new name, with any monitor; named back it is")
def _():
    config, key = configured(interface="vpn0")
    name = lambda before, after: [ip("link", "set", before, "down"), ip("link", "set", before, "name", after),
                                  ip("link", "set", after, "up")]
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            deaf = lambda: peer.fetch("10.9.9.1", key) == b""
            monitor = server.pid("monitor")
            peer.expect_served("10.9.9.1", key, "served at first")
            name("vpn0", "old0")
            server.log.wait_for("interface vpn0 is gone")
            wait_until(deaf, "not served by another name")
            wait_until(lambda: "Waiting for the interface vpn0" in status(server), "said in the status")
            name("old0", "vpn0")
            peer.expect_served("10.9.9.1", key, "served again")
            # And the same while there is no monitor.
            os.kill(monitor, signal.SIGSTOP)
            name("vpn0", "old0")
            os.kill(monitor, signal.SIGKILL)
            server.log.wait_for("waiting for the interface vpn0")
            server.pid("monitor", other_than=monitor)
            wait_until(lambda: "Waiting for the interface vpn0" in status(server), "said in the status again")
            wait_until(deaf, "not served by the next monitor")
            name("old0", "vpn0")
            peer.expect_served("10.9.9.1", key, "served in the end")
            wait_until(lambda: "Serving 1 clients" in status(server), "said in the status")


@case("a link-local address follows its interface")
def _():
    config, key = configured()
    with Peer() as peer:
        peer.connect("fe80::1/64")
        with Server(config, address="fe80::1%vpn0") as server:
            peer.expect_served("fe80::1%peer0", key, "served at first")
            ip("link", "delete", "vpn0")
            server.log.wait_for("interface vpn0 is gone")
            peer.connect("fe80::1/64")
            peer.expect_served("fe80::1%peer0", key, "served again")


@case("an address that leaves and comes back on another interface is served there")
def _():
    config, key = configured()
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, "--no-ipv6", address="10.9.9.1") as server:
            peer.expect_served("10.9.9.1", key, "served at first")
            ip("address", "delete", "10.9.9.1/24", "dev", "vpn0")
            server.log.wait_for("address 10.9.9.1 is gone")
            wait_until(lambda: "Waiting for the address 10.9.9.1" in status(server), "said in the status")
            ip("link", "delete", "vpn0")
            peer.connect("10.9.9.1/24", name="other0")
            server.log.wait_for("address 10.9.9.1 is there")
            peer.expect_served("10.9.9.1", key, "served again")
            wait_until(lambda: "Serving 1 clients" in status(server), "said in the status")
        ip("link", "delete", "other0")


@case("a boot before the network: started at once, served when interface and address appear")
def _():
    for options, address, own, seen in (
            ({"interface": "vpn0"}, "::", "10.9.9.1/24", "10.9.9.1"),
            ({"interface": "vpn0"}, "fd00::1", "fd00::1/64", "fd00::1"),
            ({}, "fd00::1", "fd00::1/64", "fd00::1"),
            ({}, "::ffff:10.9.9.1", "10.9.9.1/24", "10.9.9.1"),
            ({}, "fe80::1%vpn0", "fe80::1/64", "fe80::1%peer0"),
            ({"use_ipv6": "no", "interface": "vpn0"}, "10.9.9.1", "10.9.9.1/24", "10.9.9.1")):
        config, key = configured(**options)
        with Peer() as peer, Server(config, address=address) as server:  # READY=1 has come
            waits = "interface vpn0" if options.get("interface") or "%" in address else "address "
            server.log.wait_for(f"waiting for the {waits}")
            expect(f"Waiting for the {waits}" in status(server), f"the status of {address}: {status(server)}")
            expect_equal(sum("waiting for" in line for line in server.log.lines), 1, "lines about it")
            for host in ("127.0.0.1", "::1"):
                expect_outcome(fetch("--host", host, "--timeout", 1, key=key), "no-connection")
            peer.connect(own)
            peer.expect_served(seen, key, f"served on {address} {options}")
            wait_until(lambda: "Serving 1 clients" in status(server), "said in the status")
            expect_outcome(fetch("--host", "127.0.0.1", "--timeout", 1, key=key), "no-connection")


@case("a storm of other interfaces and addresses costs little, and none is mistaken for ours")
def _():
    config, key = configured(interface="vpn0")
    with Peer() as peer:
        peer.connect("10.9.9.1/24")
        with Server(config, address="::") as server:
            batch = "".join(f"link add d{number} type veth peer name e{number}\naddress add 10.7.{number}.1/24 dev d{number}\n"
                            f"link delete d{number}\n" for number in range(200))
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
            peer.expect_served("10.9.9.1", key, "served")
            expect(not server.log.find("interface|address 10"), "nothing was said of it")
            ip("link", "delete", "vpn0")
            peer.connect("10.9.9.1/24")
            peer.expect_served("10.9.9.1", key, "served again")


# ---------------------------------------------------------------- without IPv6

def refuse_ipv6():
    """There is no AF_INET6, as with RestrictAddressFamilies= of systemd."""
    system_calls.refuse("socket", errno.EAFNOSUPPORT, first=socket.AF_INET6)


@case("without IPv6 in the kernel IPv4 is served, with one warning")
def _():
    for address in ("::", "::ffff:127.0.0.1"):
        config, key = configured()
        with Server(config, address=address, preexec_fn=refuse_ipv6) as server:
            server.log.wait_for("no IPv6 on this system, serving IPv4 alone")
            expect_equal(fetch("--host", "127.0.0.1", key=key).blob, BLOB, "what IPv4 got")
            expect_equal(len({line for line in server.log.lines if "IPv6" in line}), 1, "warnings")


@case("without IPv6 in the kernel an IPv6 address is an error that says so")
def _():
    config, _ = configured()
    server = Server(config, address="::1", preexec_fn=refuse_ipv6, wait=False)
    expect_equal(server.wait(), 1, "exit status")
    expect("::1" in server.stderr() and "no IPv6 on this system" in server.stderr(), server.stderr())


@case("with IPv6 turned off by sysctl IPv4 is served")
def _():
    # /proc/sys of this namespace's own, as it was mounted with it.
    with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as switch:
        switch.write("1")
    try:
        config, key = configured()
        with Server(config, address="::"):
            expect_equal(fetch("--host", "127.0.0.1", key=key).blob, BLOB, "what IPv4 got")
    finally:
        for name in ("all", "lo"):
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as switch:
                switch.write("0")
        ip("address", "add", "::1/128", "dev", "lo", check=False)


if __name__ == "__main__":
    harness.main()
