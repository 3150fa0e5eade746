#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""mandos-ctl on several servers: machines in network namespaces of their own, each with its bus, its
server and a real sshd. Needs openssh-server, openssh-client and what ctl_test.py needs."""
import contextlib, grp, json, os, pathlib, re, shutil, signal, subprocess, sys, time

if not shutil.which("sshd", path="/usr/sbin:/sbin") or not shutil.which("systemd-stdio-bridge"):
    print("1..0 # SKIP no sshd or no systemd-stdio-bridge")
    sys.exit(77)

import harness as h
from bus_test import KEY, running
from private_bus import *
from ctl_test import CTL, WHOLE

SCRIPT = str(pathlib.Path(__file__).resolve())
#: Who can log in beside root: one whom the server's bus refuses, and one of the group that may.
ACCOUNTS = ("guest:x:64800:64800::/:/bin/sh", "operator:x:64801:%d::/:/bin/sh")


def home():
    """Root's home directory in this test."""
    return h.temporary() / "home"


def change_accounts():
    """Changes the accounts of this namespace: root's home, which ssh reads, and who can log in."""
    lines = [line for line in pathlib.Path("/etc/passwd").read_text().splitlines()
             if not line.startswith(("root:", "guest:", "operator:"))]
    # In place: what lies there is bound there.
    pathlib.Path("/etc/passwd").write_text("\n".join(
        [f"root:x:0:0:root:{home()}:/bin/bash", *lines, ACCOUNTS[0],
         ACCOUNTS[1] % grp.getgrnam("_mandos").gr_gid]) + "\n")


# ---------------------------------------------------------------- a machine


def be_machine(place, clients):
    """Runs sshd with the files in `place`, a bus and, unless `clients` is null, a server with those
    clients, until standard input ends."""
    os.makedirs("/run/sshd", exist_ok=True)
    config = pathlib.Path(place, "sshd_config")
    config.write_text(f"""ListenAddress 0.0.0.0
ListenAddress ::
HostKey {place}/host_key
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
""")
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config])
    with Bus():
        if clients is None:
            print("ready", flush=True)
            sys.stdin.read()
        else:
            configuration = h.Configuration()
            for name, options in clients.items():
                configuration.client(name, options.pop("key_id"), b"\xd2\x01x", **options)
            with running(configuration):
                caller = Caller()
                h.wait_until(caller.has_server, "the server is on the bus", 60)
                print("ready", flush=True)
                sys.stdin.read()
    sshd.kill()


class Machine:
    """A machine as the test sees it: `address` is what its sshd listens on."""
    number = 0

    def __init__(self, name, clients):
        Machine.number += 1
        self.name, self.address = name, f"10.9.{Machine.number}.2"
        self.place = h.temporary() / f"machine-{Machine.number}"
        self.place.mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.place / "host_key"],
                       check=True)
        # On one machine, the key may do nothing else.
        restricted = 'restrict,command="systemd-stdio-bridge" ' if name == "b" else ""
        (self.place / "authorized_keys").write_text(
            restricted + (home() / ".ssh/id_ed25519.pub").read_text())
        environment = {key: value for key, value in os.environ.items() if key != "MANDOS_INSIDE"}
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, "machine", str(self.place), json.dumps(clients)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.place / "log", "w"),
            env=dict(environment, MANDOS_STAGED="1"))
        # `unshare` has one child, in the namespaces.
        inner = lambda: [pid for pid, parent in h.processes().items() if parent == self.process.pid and
                         os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino]
        pid = h.wait_until(inner, "the namespace", 20)[0]
        link = f"link{Machine.number}"
        ours = self.address[:-1] + "1"
        for command in (f"ip link add {link} type veth peer name eth0 netns {pid}",
                        f"ip addr add {ours}/24 dev {link}", f"ip link set {link} up",
                        f"nsenter -t {pid} -n ip addr add {self.address}/24 dev eth0",
                        f"nsenter -t {pid} -n ip link set eth0 up"):
            subprocess.run(command.split(), check=True)

    def wait(self):
        h.expect_equal(self.process.stdout.readline(), "ready\n",
                       f"{self.name} is ready: {(self.place / 'log').read_text()[-2000:]}")
        h.wait_until(lambda: "Server listening on 0.0.0.0" in (self.place / "log").read_text(), "sshd")

    def pids(self, role):
        return [pid for pid in h.tree(self.process.pid) if h.role_of(pid) == role]

    def stop(self):
        self.process.communicate(timeout=30 * h.SLACK)


class Fleet:
    """Machines "a", "b" and so on, and what ssh has to know of them; a context manager."""

    def __init__(self, **clients):
        self.clients = clients

    def __enter__(self):
        change_accounts()
        shutil.rmtree(home(), ignore_errors=True)
        (home() / ".ssh").mkdir(parents=True, mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home() / ".ssh/id_ed25519"],
                       check=True)
        self.machines = {name: Machine(name, clients) for name, clients in self.clients.items()}
        config, known = "", ""
        for name, machine in self.machines.items():
            config += f"Host {name}\nHostName {machine.address}\n"
            key = (machine.place / "host_key.pub").read_text()
            known += f"{machine.address} {key}[{machine.address}]:23 {key}"
        config += f"Host refuses\nHostName {machine.address}\nPort 23\n"
        (home() / ".ssh/config").write_text(config)
        (home() / ".ssh/known_hosts").write_text(known)
        (home() / ".ssh/config").chmod(0o600)
        for machine in self.machines.values():
            machine.wait()
        return self.machines

    def __exit__(self, kind, *_):
        for machine in self.machines.values():
            machine.stop()


def client(number, **options):
    return {"key_id": KEY % number, "host": f"host{number}.example", **options}


def two(**b):
    """The clients of two servers that agree but for what is given about b's."""
    alike = {"stolen": client(1), "web": client(2)}
    return {"a": alike, "b": {name: dict(section) for name, section in alike.items()} | b}


# ---------------------------------------------------------------- calls

def ctl(*words, servers=(), env=(), stdin=subprocess.DEVNULL, **options):
    """mandos-ctl; (status, output, standard error)."""
    named = [word for server in servers for word in ("--server", server)]
    ran = subprocess.run([CTL, *words, *named], capture_output=True, text=True, stdin=stdin,
                         env=dict(os.environ, **dict(env)), timeout=120 * h.SLACK, **options)
    return ran.returncode, ran.stdout, ran.stderr


def expect_ctl(words, status, output="", errors="", **options):
    """`output` is all of it, or a pattern; `errors` a list of texts that begin each line."""
    found = ctl(*words, **options)
    h.expect_equal(found[0], status, f"status of {words}: {found}")
    if isinstance(output, re.Pattern):
        h.expect(output.search(found[1]), f"{output.pattern!r} is not in {found[1]!r}")
    else:
        h.expect_equal(found[1], output, f"output of {words}")
    lines = found[2].splitlines()
    h.expect_equal(len(lines), len(errors), f"lines on standard error: {lines}")
    for line, begin in zip(lines, errors):
        h.expect(line.startswith(f"mandos-ctl: {begin}"), f"{begin!r} does not begin {line!r}")
    return found


def enabled(server):
    return {name: section["Enabled"] for name, section in
            json.loads(expect_ctl(["-j"], 0, re.compile("{"), servers=[server])[1]).items()}


def rows(output):
    """Server, name and whether it is enabled of each row of a table."""
    return [tuple(line.split()[:3]) for line in output.split("\n\n")[0].splitlines()]


@h.case("a list shows the server of each row, and what the servers disagree about")
def _():
    with Fleet(**two(web=client(3, timeout="PT2H"), late=client(4))):
        _, output, _ = expect_ctl([], 0, re.compile(""), servers=["a", "b"])
        h.expect_equal(rows(output), [
            ("Server", "Name", "Enabled"), ("b", "late", "Yes"), ("a", "stolen", "Yes"), ("b", "stolen", "Yes"),
            ("a", "web", "Yes"), ("b", "web", "Yes")], "rows")
        h.expect_equal(output.split("\n\n")[1], f"""The servers disagree:
late: not on a
web: Timeout: 01:00:00 on a; 02:00:00 on b
web: Host: host2.example on a; host3.example on b
web: KeyID: {KEY % 2} on a; {KEY % 3} on b
""", "what differs")
        _, output, _ = expect_ctl(["-v", "late"], 0, re.compile(r"\n\nThe .*:\nlate: not on a\n$"), servers=["a", "b"])
        h.expect("Last Checker Status" in output.splitlines()[0], output)
        # Where they agree, there is nothing more than the table.
        h.expect("\n\n" not in expect_ctl(["stolen"], 0, re.compile("stolen"), servers=["b", "a", "b"])[1],
                 "one that is alike")
        expect_ctl(["-d", "stolen"], 0, servers=["b"])
        expect_ctl(["stolen"], 0, re.compile(r"\nstolen: Enabled: Yes on a; No on b\n$"), servers=["a", "b"])
        expect_ctl(["stoeln"], 1, "", ['no client "stoeln"; did you mean "stolen"'], servers=["a", "b"])
        # With one server, all is as without: no other column, no other shape.
        told = [json.loads(expect_ctl(["-j"], 0, re.compile("{"), servers=[name])[1]) for name in "ab"]
        h.expect_equal([sorted(each) for each in told], [["stolen", "web"], ["late", "stolen", "web"]], "clients")
        h.expect(expect_ctl([], 0, re.compile("web"), servers=["a"])[1].startswith("Name "), "one server")
        both = json.loads(expect_ctl(["--dump-json"], 3, re.compile("{"), ["refuses: ssh: connect to host"],
                                     servers=["b", "refuses", "a"])[1])
        h.expect_equal(list(both), ["b", "refuses", "a"], "in the order of the servers")
        h.expect_equal([both["a"], both["refuses"], both["b"]], [told[0], None, told[1]], "one object each")


@h.case("a client is disabled on every server, or it is said where it is not")
def _():
    machines = two()
    del machines["b"]["stolen"]
    with Fleet(**machines, c={"stolen": client(1)}, empty=None) as fleet:
        expect_ctl(["-d", "stolen"], 0, servers=["a", "c"])
        h.expect_equal([enabled("a"), enabled("c")], [{"stolen": False, "web": True}, {"stolen": False}], "clients")
        for server in "ac":
            expect_ctl(["-V", "stolen"], 1, servers=[server])
        expect_ctl(["-V", "stolen"], 1, servers=["a", "c"])
        expect_ctl(["-e", "stolen"], 0, servers=["a"])
        expect_ctl(["-V", "stolen"], 3, "", ["c: not enabled"], servers=["a", "c"])
        expect_ctl(["-V", "stolen"], 3, "", ["c: not enabled", "refuses: "], servers=["c", "refuses"])
        expect_ctl(["-V", "stolen"], 1, "", ["refuses: "], servers=["refuses"])
        expect_ctl(["-V", "web"], 0, servers=["a", "b"])
        # One lacks it, one refuses the connection, one has no server, one no permission: four lines, and
        # everywhere else it is done. A second client is not forgotten where the first is missing.
        expect_ctl(["-d", "stolen", "web"], 3, "", [
            'b: no client "stolen"', 'c: no client "web"',
            f"refuses: ssh: connect to host {fleet['empty'].address} port 23: Connection refused; ",
            "empty: no Mandos server runs", "guest@a: permission denied: only root and members of the group _mandos"],
            servers=["a", "b", "c", "refuses", "empty", "guest@a"])
        h.expect_equal([enabled(name) for name in "abc"], [
            {"stolen": False, "web": False}, {"web": False}, {"stolen": False}], "done where it can be")
        expect_ctl(["-e", "-a"], 1, "", ["refuses: ", "empty: "], servers=["refuses", "empty"])
        expect_ctl(["-e", "web"], 0, servers=["operator@b"])
        h.expect_equal(enabled("b"), {"web": True}, "by a member of the group")
        # What comes from standard input reaches all.
        secret = h.temporary() / "secret"
        secret.write_bytes(WHOLE)
        with open(secret) as file:
            expect_ctl(["-s", "-", "web"], 0, servers=["a", "b"], stdin=file)
        # A host key that is not known is not asked about.
        (home() / ".ssh/known_hosts").write_text("")
        expect_ctl(["-e", "web"], 1, "", ["a: Host key verification failed.; "], servers=["a"])


def no_ssh():
    return not [pid for pid in h.processes() if h.role_of(pid) == "ssh"]


@h.case("a server that hangs stops none of the others, and no longer than --server-timeout")
def _():
    with Fleet(**two()) as fleet:
        seconds = int(4 * h.SLACK)
        limit, gone = f"--server-timeout={seconds}s", f"no answer within 00:00:{seconds:02}"
        # A supervisor that runs would start another bus-agent for the one that hangs.
        for roles in (("supervisor", "bus-agent"), ("sshd",)):
            stopped = [pid for role in roles for pid in fleet["b"].pids(role)]
            h.expect(len(stopped) >= len(roles), f"processes of {roles}")
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            begin = time.monotonic()
            expect_ctl(["-d", "stolen", limit], 3, "", [f"b: {gone}; what was asked may still"],
                       servers=["b", "a"])
            took = time.monotonic() - begin
            h.expect(took < seconds + 5 * h.SLACK, f"it took {took} s")
            h.expect_equal(enabled("a")["stolen"], False, "on the other")
            _, output, _ = expect_ctl([limit], 3, re.compile("Server"), [f"b: {gone}"],
                                      servers=["a", "b"])
            h.expect_equal({row[0] for row in rows(output)[1:]}, {"a"}, "rows")
            h.expect("disagree" not in output, "nothing is known of the other")
            h.wait_until(no_ssh, "no ssh is left")
            # Whoever ends it gets to know what was not done.
            waiting = subprocess.Popen([CTL, "-e", "stolen", "--server=a", "--server=b", "--server-timeout=1h"],
                                       text=True, stderr=subprocess.PIPE)
            # The process for the one is gone, that for the other is not.
            h.wait_until(lambda: enabled("a")["stolen"], "one has done it")
            h.wait_until(lambda: list(h.processes().values()).count(waiting.pid) == 1, "one waits")
            waiting.send_signal(signal.SIGINT)
            _, errors = waiting.communicate(timeout=20 * h.SLACK)
            h.expect_equal(waiting.returncode, 3, errors)
            h.expect("mandos-ctl: b: interrupted; " in errors, errors)
            h.wait_until(no_ssh, "no ssh is left")
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):  # the server may have ended it for hanging
                    os.kill(pid, signal.SIGCONT)


@h.case("servers come from the options, else from MANDOS_SERVERS, else from ctl.conf")
def _():
    place = home() / ".config/mandos"
    with Fleet(a={"of-a": client(1)}, b={"of-b": client(2)}):
        place.mkdir(parents=True)
        conf = place / "ctl.conf"
        names = lambda *words, **about: sorted(
            name for name in ("of-a", "of-b") if name in expect_ctl(words, 0, re.compile("Name"), **about)[1])
        conf.write_text("# All of them\nserver = a\n\nserver=b\nserver-timeout = 20s\n")
        h.expect_equal(names(), ["of-a", "of-b"], "ctl.conf")
        h.expect_equal(names(env={"MANDOS_SERVERS": "b"}), ["of-b"], "MANDOS_SERVERS")
        h.expect_equal(names(env={"MANDOS_SERVERS": " b,a "}), ["of-a", "of-b"], "two in MANDOS_SERVERS")
        h.expect_equal(names(env={"MANDOS_SERVERS": "b"}, servers=["a"]), ["of-a"], "--server")
        h.expect_equal(names(env={"XDG_CONFIG_HOME": "/nonexistent", "MANDOS_SERVERS": "a"}), ["of-a"], "no file")
        # This machine has no bus: an empty list, or one with .host alone, is for its own server.
        for env, servers in (({"MANDOS_SERVERS": ""}, []), ({"XDG_CONFIG_HOME": "/nonexistent"}, [])):
            expect_ctl([], 1, "", ["cannot connect to the system bus"], env=env, servers=servers)
        expect_ctl([], 1, "", [".host: cannot connect to the system bus"], servers=[".host"])
        expect_ctl(["-d", "-a"], 3, "", [".host: cannot connect"], servers=["a", ".host"])
        for text, told in (("servers = a\n", 'ctl.conf:1: found "servers = a", expected "server = HOST"'),
                           ("\nserver = -x\n", 'ctl.conf:2: server: found "-x"'),
                           ("server-timeout = 5\n", 'ctl.conf:1: server-timeout: found "5"')):
            conf.write_text(text)
            status, output, errors = ctl()
            h.expect_equal((status, output), (2, ""), errors)
            h.expect(f"mandos-ctl: {told}" in errors, errors)
        conf.write_text("server = a\n")
        conf.chmod(0o666)
        status, output, errors = ctl()
        h.expect_equal((status, output), (2, ""), errors)
        h.expect("expected a file that is yours" in errors, errors)


@h.case("a name that ssh or a shell could take for more is refused, and one that nobody has is told")
def _():
    trap = h.temporary() / "trap"
    with Fleet(a={"one": client(1)}) as fleet:
        for name in (f"-oProxyCommand=touch {trap}", "-v", "--", "", " ", "a b", "a;b", "a|b", "$(a)", "`a`", "root@-v",
                     "@a", "a@", "root@root@a", "a:", "a:0", "a:65536", "a:ssh", "a:-1", "a/b", "a:22/b", "a:b", "fe80::1",
                     "[fe80::1", "[a]", "[]", "[::1]x", "[::1]:", "ssh://a", "a\nb", "ü", ".hidden", "x" * 300):
            status, output, errors = ctl("--server=" + name)
            h.expect_equal((status, output), (2, ""), f"{name!r}: {errors}")
            h.expect("--server: found" in errors and "expected [USER@]HOST[:PORT]" in errors, errors)
            if "," not in name and name.strip() and len(name.split()) == 1:
                h.expect_equal(ctl(env={"MANDOS_SERVERS": name})[0], 2, f"MANDOS_SERVERS={name!r}")
        h.expect(not trap.exists(), "nothing was run")
        for words, told in ((["--server"], "--server needs an operand: HOST"), (["--server-timeout=0"], "--server-timeout: found"),
                            (["--server-timeout", "25h"], "--server-timeout: found"), (["--serve", "a"], "unknown option")):
            status, output, errors = ctl(*words)
            h.expect_equal((status, output), (2, ""), f"{words}: {errors}")
            h.expect(told in errors, errors)
        expect_ctl([], 1, "", ["nowhere.invalid: ssh: Could not resolve hostname nowhere.invalid"],
                   servers=["nowhere.invalid"])
        for name in (f"root@{fleet['a'].address}:22", "root@a:22", "a:22"):
            h.expect_equal(expect_ctl(["one"], 0, re.compile("one"), servers=[name])[2], "", name)
        expect_ctl([], 1, "", ["[::1]:2222: ssh: connect to host ::1 port 2222"], servers=["[::1]:2222"])
        expect_ctl([], 1, "", ["a: found no program ssh"], env={"PATH": "/nonexistent"}, servers=["a"])


@h.case("the commands work with other servers, or say that they take one")
def _():
    with Fleet(**two()):
        expect_ctl(["status"], 0, re.compile(r"^MANDOS OK - 2 clients"), servers=["a"])
        expect_ctl(["-d", "web"], 0, servers=["b"])
        status, output, _ = ctl("status", servers=["a", "b"])
        h.expect_equal(output, "MANDOS WARNING - 2 servers: a OK, b WARNING | a/clients=2 a/enabled=2 a/waiting=0 "
                       "a/failed=0 b/clients=2 b/enabled=1 b/waiting=0 b/failed=0\n"
                       "a: MANDOS OK - 2 clients, 2 enabled, 0 waiting, 0 failed the last check\n"
                       "b: MANDOS WARNING - 2 clients, 1 enabled, 0 waiting, 0 failed the last check\n"
                       "b: WARNING: web is disabled\n", "status of both")
        h.expect_equal(status, 1, "a warning")
        status, output, _ = ctl("status", servers=["a", "b", "refuses"])
        h.expect_equal(status, 3, output)
        h.expect(output.startswith("MANDOS UNKNOWN - 3 servers: a OK, b WARNING, refuses UNKNOWN | "), output)
        h.expect("\nrefuses: ssh: connect to host" in output, output)
        expect_ctl(["status"], 3, re.compile("^MANDOS UNKNOWN - .*\nrefuses: ssh: connect"), servers=["refuses"])
        expect_ctl(["verify", "stolen"], 0, re.compile(r"a: ok       it is enabled\n(.|\n)*b: ok       it is enabled\n"),
                   servers=["a", "b"])
        expect_ctl(["verify", "web"], 3, re.compile("b: PROBLEM  it is disabled"), servers=["a", "b"])
        expect_ctl(["verify", "web"], 1, re.compile("(?m)^PROBLEM  it is disabled"), servers=["b"])
        # Servers may stand before the command.
        ran = subprocess.run([CTL, "--server", "b", "--server=a", "verify", "web"], capture_output=True, text=True)
        h.expect_equal(ran.returncode, 3, ran.stderr)
        saved = h.temporary() / "saved.json"
        saved.write_text(ctl("-j", servers=["b"])[1])
        expect_ctl(["diff", str(saved)], 1, "web: Enabled: file No, server Yes\n", servers=["a"])
        expect_ctl(["restore", str(saved)], 0, "web: Enabled = No\n", servers=["a"])
        h.expect_equal(enabled("a"), {"stolen": True, "web": False}, "restored")
        expect_ctl(["metrics"], 0, re.compile('mandos_client_enabled{client="web"} 0'), servers=["a"])
        expect_ctl(["wait", "--for", "disabled", "web"], 0, re.compile("disabled client=web"), servers=["a"])
        for words in (["diff", str(saved)], ["restore", str(saved)], ["metrics"], ["wait", "web"], ["events"]):
            status, output, errors = ctl(*words, servers=["a", "b"])
            h.expect_equal((status, output), (2, ""), f"{words}: {errors}")
            h.expect("found 2 servers, expected one" in errors, errors)
        # The stream: events of the other server, with a program for each, until a signal.
        program, lines = h.temporary() / "program", h.temporary() / "lines"
        program.write_text(f'#!/bin/sh\necho "$MANDOS_EVENT $MANDOS_CLIENT" >> {lines}\n')
        program.chmod(0o755)
        events = subprocess.Popen([CTL, "events", "--server", "b", "--exec", str(program)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def told():
            ctl("-d", "stolen", servers=["b"])
            ctl("-e", "stolen", servers=["b"])
            return lines.exists() and "enabled stolen\n" in lines.read_text()
        h.wait_until(told, "an event of the other server", 30)
        # The connection is lost, and made again.
        ssh = lambda: [pid for pid, parent in h.processes().items() if parent == events.pid]
        lost = ssh()
        os.kill(lost[0], signal.SIGKILL)
        h.wait_until(lambda: ssh() not in ([], lost), "another connection", 30)
        lines.unlink()
        h.wait_until(told, "an event after that", 30)
        events.terminate()
        output, errors = events.communicate(timeout=20 * h.SLACK)
        h.expect_equal((events.returncode, errors), (0, (
            "mandos-ctl: lost the system bus; trying again\n"
            "mandos-ctl: connected to the system bus again\n")), "its end")
        for event in (" enabled client=stolen\n", " server-gone\n", " server-back\n"):
            h.expect(event in output, f"{event!r} is not in {output!r}")
        h.wait_until(no_ssh, "no ssh is left")


if __name__ == "__main__":
    h._cases[:] = [each for each in h._cases if each[1].__module__ == "__main__"]
    if sys.argv[1:2] == ["machine"]:
        h.enter_namespaces()
        be_machine(sys.argv[2], json.loads(sys.argv[3]))
        sys.exit(0)
    h.main()
