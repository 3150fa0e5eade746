#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The D-Bus service, beside the original's, on a bus of its own; and the announcement by Avahi.

Needs python3-gi, dbus-daemon, avahi-daemon and, for what is compared, the original server with its
tools. `bus_test.py --measure` prints the numbers beside the original's instead."""
import contextlib, json, os, pathlib, pty, re, select, signal, socket, struct, subprocess, sys
import threading, time
import xml.etree.ElementTree as xml

import harness as h
from private_bus import *

ORIGINAL = "/usr/sbin/mandos"


class Listener:
    """Every signal of the server, in order."""

    def __init__(self):
        self.context = GLib.MainContext()
        self.signals = []
        self.ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        h.expect(self.ready.wait(60 * h.SLACK), "the listener is on the bus")

    def _run(self):
        self.context.push_thread_default()
        self.caller = Caller()
        self.caller.connection.signal_subscribe(
            None, None, None, None, None, Gio.DBusSignalFlags.NONE, self._got)
        self.caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
                         to="org.freedesktop.DBus")
        self.ready.set()
        GLib.MainLoop.new(self.context, False).run()

    def _got(self, _connection, sender, path, interface, member, body):
        if sender != "org.freedesktop.DBus":
            self.signals.append((path, interface, member, body.unpack()))

    def sync(self):
        """What the server had told before now is in `signals` afterwards: the answer to a call
        comes behind it, on the same connection."""
        answered = threading.Event()

        def ask(_=None):
            self.caller.connection.call(OURS, "/", "org.freedesktop.DBus.Peer", "Ping", None, None,
                                        0, 60000, None, lambda *_: answered.set())
            return False
        source = GLib.idle_source_new()
        source.set_callback(ask)
        source.attach(self.context)
        h.expect(answered.wait(60), "the server answers")

    def since(self, start, *wanted):
        """What was told since, when each of `wanted` is in the text of some signal of it, as often
        as the bus tells it: under both names of an interface."""
        told = lambda: [str(each) for each in self.signals[start:]]
        for text in wanted:
            try:
                h.wait_until(lambda: sum(text in each for each in told()) >= 2, text, 20)
            except h.Failure as failure:
                raise h.Failure(f"{failure} among {told()}") from None
        self.sync()
        return timeless(self.signals[start:])


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")


def timeless(value):
    """A value with every moment replaced, to be compared with another run's."""
    if isinstance(value, str):
        return TIME.sub("TIME", value)
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [timeless(one) for one in value]
    return value


KEY = "%064x"


# A checker runs at a random moment of the first interval. On a loaded machine, where a case takes
# minutes, it must not run among the signals that are compared. The original can count 49 days.
NEVER = {"interval": "P20D"}


def three_clients(**options):
    config = h.Configuration()
    for number, name in enumerate(("one", "foo.bar-1", "third")):
        config.client(name, KEY % (number + 1), b"secret", host=f"{name}.example", **(NEVER | options))
    return config


@contextlib.contextmanager
def running(config, *arguments, without=("--no-zeroconf",), **options):
    """Our server, from the moment that it serves until it has ended as it should."""
    started = h.Server(config, *arguments, without=without, **options)
    try:
        yield started
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGTERM)
        status = started.process.wait(10 * h.SLACK)
    finally:
        started.process.kill()
        started.process.wait()
    h.expect_equal(status, 0, "exit status")
    h.expect_equal(started.alarms(), [], "alarms in the logs")


@contextlib.contextmanager
def original_server(config):
    config.owner = "_mandos"
    started = h.Server(config, "--interface", "", command=[ORIGINAL], notify=False, wait=False,
                       without=("--no-zeroconf",))
    before = set(h.processes())
    try:
        h.wait_until(lambda: started.ready(False), "the original serves", 60)
        yield started
    finally:
        left = set(h.tree(started.process.pid)) | (set(h.processes()) - before)
        for pid in left - {os.getpid()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.process.wait()


@contextlib.contextmanager
def server(config, original=False, *arguments, **options):
    """A server that is on the bus."""
    with (original_server(config) if original else
          running(config, *arguments, **options)) as started:
        caller = Caller()
        h.wait_until(caller.has_server, "the server is on the bus", 60)
        yield started
        caller.close()


def original_policy():
    # Below /usr since version 1.8.19.
    places = [pathlib.Path(folder, "dbus-1/system.d/mandos.conf") for folder in ("/usr/share", "/etc")]
    return next(place for place in places if place.exists()).read_text()


def both(run, make_config=three_clients, **options):
    """What `run` gives with the original and with ours."""
    results = []
    for original in (True, False):
        policy = original_policy() if original else POLICY
        with Bus(policy), server(make_config(), original, **options) as started:
            results.append(run(started))
    return results


def compare(found, wanted, what):
    """The difference between two lists, told shortly."""
    if found == wanted:
        return
    for number, (one, other) in enumerate(zip(found, wanted)):
        if one != other:
            raise h.Failure(f"{what}: at {number}: ours {one!r}, the original's {other!r}")
    raise h.Failure(f"{what}: {len(found)} instead of {len(wanted)}: "
                    f"{(found + wanted)[min(len(found), len(wanted)):][:3]!r}")


# Interfaces that the original does not have, by object; "/" has properties for the first.
NEW = {"/": {OURS + ".Statistics", PROPERTIES}, "/clients": set(), "/clients/foo_bar_1": {CLIENT + ".Secret"}}


@h.case("introspection is the original's, and that of our own interfaces")
def _():
    def facts(element, above=""):
        here = above + "/" + element.tag + str(sorted(element.attrib.items()))
        yield here
        for number, part in enumerate(element):
            # The order of arguments matters, that of everything else does not.
            yield from facts(part, here + (str(number) if part.tag == "arg" else ""))

    def run(_):
        caller = Caller()
        found = {}
        for path in ("/", "/clients", "/clients/foo_bar_1"):
            tree = xml.fromstring(caller.call(path, "org.freedesktop.DBus.Introspectable",
                                              "Introspect")[0])
            tree.attrib.clear()  # the node's own name is optional
            added = [part for part in tree if part.get("name") in NEW[path]]
            h.expect(len(added) in (0, len(NEW[path])) or path != "/", "all of them or none")
            for part in added:
                tree.remove(part)
            found[path] = set(facts(tree))
        return found
    original, ours = both(run)
    for path in original:
        h.expect_equal(sorted(ours[path] ^ original[path]), [], f"difference at {path}")


@h.case("every property and object is the original's")
def _():
    def run(_):
        caller = Caller()
        objects = timeless(caller.call("/", MANAGER, "GetManagedObjects")[0])
        old = timeless(caller.call("/", OLD, "GetAllClientsWithProperties", to=OLD)[0])
        paths = sorted(caller.call("/", OURS, "GetAllClients")[0])
        everything = timeless(caller.call("/clients/one", PROPERTIES, "GetAll",
                                          GLib.Variant("(s)", ("",)))[0])
        return objects, old, paths, everything
    original, ours = both(run)
    for found, wanted, what in zip(ours, original, ("GetManagedObjects", "the old call", "paths",
                                                    "GetAll")):
        h.expect_equal(found, wanted, what)


# A step: a property that is set, or a method; then what is told late, by itself.
SCRIPT = [
    (("Host", "s", "new.example"),), (("Host", "s", "new.example"),),
    (("Timeout", "t", 7200000),), (("ExtendedTimeout", "t", 7200000),),
    (("Checker", "s", "sleep 0.2; false"),), (("Interval", "t", 600000), "CheckerCompleted"),
    (("ApprovedByDefault", "b", False),), (("ApprovalDelay", "t", 1000),),
    (("ApprovalDuration", "t", 2000),), (("Checker", "s", "true"),),
    (("CheckerRunning", "b", True), "CheckerCompleted"), (("Checker", "s", "kill -9 $$"),),
    ("StartChecker", "CheckerCompleted"), (("Checker", "s", "sleep 30"),),
    (("CheckerRunning", "b", True),), (("CheckerRunning", "b", False),),
    (("LastCheckedOK", "s", ""),), (("Enabled", "b", False),), (("Enabled", "b", True),),
    (("Secret", "ay", b"new"),), ("Approve",), ("CheckedOK",), ("Disable",), ("Enable",),
    ("StartChecker",), ("StopChecker",)]


@h.case("a client's life gives the original's signals in the original's order")
def _():
    def run(_):
        caller, listener, told = Caller(), Listener(), []
        path = "/clients/foo_bar_1"
        for step, *late in SCRIPT:
            before = len(listener.signals)
            if isinstance(step, tuple):
                caller.set(path, *step)
            else:
                body = GLib.Variant("(b)", (True,)) if step == "Approve" else None
                caller.call(path, CLIENT, step, body)
            told.append((step, listener.since(before, *late)))
        before = len(listener.signals)
        caller.call("/", OURS, "RemoveClient", GLib.Variant("(o)", (path,)))
        last = listener.since(before, "ClientRemoved")[-3:]
        last[0][3][1].sort()
        return told, last, caller.error(path, CLIENT, "CheckedOK")
    original, ours = both(run)
    for (step, found), (_, wanted) in zip(ours[0], original[0]):
        # The original tells "no expiry" before "disabled"; both follow at once here as well.
        # So it is with a last check that was well: the status, or the moment first.
        if step in (("Enabled", "b", False), "Disable", ("LastCheckedOK", "s", "")):
            found, wanted = sorted(found, key=str), sorted(wanted, key=str)
        # The original makes something else of the wait status of a checker that was killed.
        wanted = [json.loads(json.dumps(each).replace("-247", "9")) for each in wanted]
        compare(found, wanted, f"after {step}")
    h.expect_equal(ours[1:], original[1:], "the removal")


@h.case("clients that ask give the original's signals in the original's order")
def _():
    key, key_id = h.test_key()
    stranger, strange_id = h.test_key()
    path = "/clients/asks"

    def run(started):
        caller, listener, told, asking = Caller(), Listener(), [], []
        of_original = ORIGINAL in started.arguments

        def step(what, action, *late):
            before = len(listener.signals)
            action()
            if of_original:
                # Its count of those that wait is told late, or wrong for ever after.
                late = [each for each in late if each != over]
            elif "NeedApproval" in late:
                late = ["('ApprovalPending', True)", *late]
            told.append((what, listener.since(before, *late)))
            if of_original and late[-1:] == ["NeedApproval"]:
                time.sleep(0.3)  # the original can stop for ever if it is answered at once
        ask = lambda by=key: asking.append(h.start_fetch("--timeout", "60", key=by))
        put = lambda *change: lambda: caller.set(path, *change)
        approve = lambda yes: lambda: caller.call(path, CLIENT, "Approve",
                                                  GLib.Variant("(b)", (yes,)))
        over = "('ApprovalPending', False)"
        step("a stranger", lambda: ask(stranger), "ClientNotFound")
        step("no approval needed", ask, "GotSecret")
        step("a long delay", put("ApprovalDelay", "t", 600000))
        step("denied by default", put("ApprovedByDefault", "b", False))
        step("a short approval", put("ApprovalDuration", "t", 500))
        step("waiting", ask, "NeedApproval")
        step("approved", approve(True), "GotSecret", over)
        time.sleep(0.6)  # until the approval is over
        step("waiting again", ask, "NeedApproval")
        step("denied", approve(False), "Rejected", over)
        time.sleep(0.6)
        step("waiting, and then not", ask, "NeedApproval")
        step("hung up", lambda: (asking[-1].kill(), asking.pop().communicate()), over)
        step("denied when nobody waits", approve(False), *(["Rejected"] if of_original else []))
        time.sleep(0.6)
        step("a delay of a second", put("ApprovalDelay", "t", 1000))
        step("waiting for the third time", ask, "NeedApproval")
        step("disabled while waiting", put("Enabled", "b", False), "Rejected", over)
        step("disabled", ask, "Rejected")
        step("enabled", put("Enabled", "b", True))
        step("a short delay", put("ApprovalDelay", "t", 300))
        step("timed out", ask, "NeedApproval", "Rejected", over)
        step("approved by default", put("ApprovedByDefault", "b", True))
        step("given after the delay", ask, "NeedApproval", "GotSecret", over)
        fetched = [h.finish_fetch(each) for each in asking]
        listener.sync()
        step("the end", lambda: None)
        return told, [each.blob for each in fetched]

    def with_a_client():
        return three_clients().client("asks", key_id, b"blob", host="asks.example", **NEVER)
    original, ours = both(run, with_a_client)
    for (what, found), (_, wanted) in zip(ours[0], original[0]):
        # For NeedApproval under its second name the original notes the moment of the request again.
        need = [number for number, each in enumerate(wanted) if each[2] == "NeedApproval"]
        if need:
            h.expect(all("LastApprovalRequest" in str(each)
                         for each in wanted[need[0] + 1:need[-1]]), f"between the names: {wanted}")
            del wanted[need[0] + 1:need[-1]]
        found, wanted = ([each for each in told if "ApprovalPending" not in str(each)]
                         for told in (found, wanted))
        # The original looks at a waiting client again when its delay is over, and then does not see
        # that it is disabled; we refuse it at once.
        if what == "disabled while waiting":
            wanted = [json.loads(json.dumps(each).replace("Approval timed out", "Disabled"))
                      for each in wanted]
            found, wanted = sorted(found, key=str), sorted(wanted, key=str)
        # It does not see either that a client has hung up, and refuses it when it is denied.
        if what == "denied when nobody waits":
            h.expect(any(each[2] == "Rejected" for each in wanted), f"the original: {wanted}")
            wanted = [each for each in wanted if each[2] != "Rejected"]
        compare(found, wanted, what)
    h.expect_equal(ours[1], original[1], "what the clients got")
    h.expect_equal(ours[1], [b"", b"blob", b"blob", b"", b"", b"", b"", b"blob"], "the blobs")


@h.case("every option of mandos-ctl does what it does with the original")
def _():
    secret = h.temporary() / "new-secret"
    secret.write_bytes(b"\x01\x02new")
    commands = [
        [], ["--verbose"], ["--all"], ["--dump-json"], ["one"], ["--verbose", "one", "third"],
        ["--is-enabled", "one"], ["--disable", "one"], ["--is-enabled", "one"],
        ["--enable", "one"], ["--is-enabled", "one"], ["--bump-timeout", "one"],
        ["--start-checker", "one"], ["--stop-checker", "one"], ["--checker", "false", "one"],
        ["--timeout", "PT2H", "one"], ["--extended-timeout", "PT3H", "one"],
        ["--interval", "PT1M", "one"], ["--approve-by-default", "one"],
        ["--deny-by-default", "one"], ["--approval-delay", "PT1M", "one"],
        ["--approval-duration", "PT2M", "one"], ["--host", "h.example", "one"],
        ["--secret", str(secret), "one"], ["--approve", "one"], ["--deny", "one"],
        ["--verbose", "one"], ["--remove", "third"], ["--dump-json"], ["--disable", "--all"],
        ["--enable", "--all"], ["nobody"], ["--is-enabled", "nobody"], ["--remove", "nobody"],
        ["--timeout", "nonsense", "one"], ["--frobnicate"], ["--dump-json", "--enable", "one"],
        ["-a", "-v"], ["-j"], ["-d", "one"], ["-V", "one"], ["-e", "one"], ["-b", "one"],
        ["-c", "true", "one"], ["-t", "3h", "one"], ["-i", "PT2M", "one"], ["-H", "x.example", "one"],
        ["-s", str(secret), "one"], ["-A", "one"], ["-D", "one"], ["-j"], ["-r", "foo.bar-1"], ["-j"],
        ["--debug", "--host", "y.example", "one"], ["--help"], ["-h"], ["--version"]]
    tool = "/usr/sbin/mandos-ctl"  # the original's; ctl_test.py is about ours
    usage = subprocess.run([tool, "--help"], capture_output=True, text=True).stdout
    # What tests mandos-ctl itself, without a server, is no concern of ours.
    left = set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", usage.split("options:")[1])) - {
        "--check"} - {word for command in commands for word in command}
    h.expect_equal(left, set(), "options of mandos-ctl that are not tried")

    def run(_):
        told = []
        for command in commands:
            ran = subprocess.run([tool, *command], capture_output=True, text=True,
                                 timeout=30 * h.SLACK)
            output = timeless(ran.stdout)
            if "--dump-json" in command and ran.returncode == 0:
                output = json.loads(output)
            else:
                output = sorted(output.splitlines())
            told.append((command, ran.returncode, output, sorted(timeless(ran.stderr).splitlines())))
        return told
    original, ours = both(run)
    compare(ours, original, "mandos-ctl")


def as_user(user, command, groups="--clear-groups"):
    """What a program of that account gets, with no group but the account's own unless told."""
    return subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", groups, *command],
                          capture_output=True, text=True, timeout=60 * h.SLACK)


# Every kind of call: what is read, what is changed, and what an object answers by itself.
CALLS = [
    ("/", MANAGER + ".GetManagedObjects"), ("/", OURS + ".GetAllClients"),
    ("/", "org.freedesktop.DBus.Introspectable.Introspect"),
    ("/", "org.freedesktop.DBus.Peer.Ping"),
    ("/clients/one", PROPERTIES + ".GetAll", f"string:{CLIENT}"),
    ("/clients/one", PROPERTIES + ".Get", f"string:{CLIENT}", "string:Host"),
    ("/clients/one", PROPERTIES + ".Set", f"string:{CLIENT}", "string:Enabled",
     "variant:boolean:false"),
    ("/clients/one", CLIENT + ".Approve", "boolean:true"), ("/clients/one", CLIENT + ".Disable"),
    ("/", OURS + ".RemoveClient", "objpath:/clients/third")]


def dbus_send(to, *call):
    return ["dbus-send", "--system", "--print-reply", f"--dest={to}", *call]


@h.case("a checker has no authority on the bus: the policy refuses it, and the bus-agent by itself")
def _():
    place = h.temporary() / "checker-says"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    call = " ".join(dbus_send(OURS, "/clients/one", CLIENT + ".Disable"))
    checker = f"{call} > {place}/out 2>&1; echo $? > {place}/status"
    # The original's policy, installed next to ours or instead of it, lets the whole group in.
    loose = original_policy()
    may_own = ('<policy user="_mandos-bus"><allow own="*"/></policy>'
               '<policy context="default"><allow send_destination="*"/></policy>')
    for by, policy, extra in (("the policy", POLICY, ""),
                              ("the policy beside the original's", POLICY,
                               re.search("<busconfig>(.*)</busconfig>", loose, re.S).group(1)),
                              ("the bus-agent", loose, may_own)):
        config = three_clients()
        config.clients["foo.bar-1"]["checker"] = checker
        with Bus(policy, extra), server(config) as started:
            caller = Caller()
            with contextlib.suppress(FileNotFoundError):
                (place / "status").unlink()
            caller.set("/clients/foo_bar_1", "CheckerRunning", "b", True)
            h.wait_until(lambda: (place / "status").exists() and (place / "status").read_text(),
                         "the checker has tried", 20)
            told = (place / "out").read_text()
            h.expect("AccessDenied" in told, f"a checker, by {by}: {told!r}")
            for user in ("_mandos", "_mandos-net", "_mandos-bus"):
                for call in CALLS:
                    for groups in ("--clear-groups", "--groups=_mandos"):
                        ran = as_user(user, dbus_send(OURS, *call), groups)
                        h.expect("AccessDenied" in ran.stderr and ran.stdout == "",
                                 f"{user} {groups} {call}, by {by}: {ran.stdout}{ran.stderr}")
                for name in (OURS, OLD) if policy == POLICY else ():
                    ran = as_user(user, dbus_send("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                                  "org.freedesktop.DBus.RequestName",
                                                  f"string:{name}", "uint32:0"), "--groups=_mandos")
                    h.expect(user == "_mandos-bus" or "AccessDenied" in ran.stderr,
                             f"{user} asks for {name}, by {by}: {ran.stdout}{ran.stderr}")
            h.expect_equal(caller.get("/clients/one", "Enabled"), True, "still enabled")
            attempts = [line for line in started.log.lines if "no authority on the bus" in line]
            h.expect(len(attempts) in (range(1, 30) if by == "the bus-agent" else (0,)),
                     f"attempts that reached the server, by {by}: {attempts}")
            if by == "the bus-agent":
                started.log.wait_for("attempts without authority that were not logged", 30)
            # Those who have authority keep it.
            for call in CALLS:
                ran = as_user("games", dbus_send(OURS, *call), "--groups=_mandos")
                h.expect_equal((ran.returncode, ran.stderr), (0, ""), f"a member, {call}")
            caller.close()


# Says whether it has heard the server by the time that somebody writes to it.
WATCH = ["/usr/bin/python3", "-c", f"""
import sys
from gi.repository import Gio, GLib
bus = Gio.DBusConnection.new_for_address_sync("unix:path={SOCKET}",
    Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION,
    None, None)
heard = []
bus.signal_subscribe(None, "{PROPERTIES}", None, None, None, 0, lambda *about: heard.append(about))
ask = lambda: bus.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", None, None,
                            0, -1, None)
ask()
print("watching", flush=True)
sys.stdin.readline()
ask()  # what the bus had for us comes before its answer
while GLib.MainContext.default().iteration(False):
    pass
print("heard" if heard else "nothing")
"""]


@h.case("who may not ask is not told either: signals go to root and the group alone")
def _():
    with Bus(), server(three_clients()):
        heard = {}
        for user, groups in (("games", "--groups=_mandos"), ("games", "--clear-groups"),
                             ("_mandos", "--groups=_mandos"), ("_mandos-net", "--clear-groups"),
                             ("_mandos-bus", "--groups=_mandos")):
            heard[user, groups] = subprocess.Popen(
                ["setpriv", f"--reuid={user}", f"--regid={user}", groups, *WATCH],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in heard.values():
            h.expect_equal(each.stdout.readline(), "watching\n", "the watcher")
        Caller().set("/clients/one", "Host", "s", "changed")
        for (user, groups), each in heard.items():
            member = (user, groups) == ("games", "--groups=_mandos")
            h.expect_equal(each.communicate("\n", timeout=60 * h.SLACK)[0],
                           "heard\n" if member else "nothing\n", f"{user} {groups}")


@h.case("a client that asks and hangs up without end does not fill the bus, and the log says so")
def _():
    key, key_id = h.test_key()
    config = three_clients().client("asks", key_id, b"blob", host="asks.example",
                                    approval_delay="PT1H", approved_by_default="False")
    with Bus(), server(config) as started:
        listener, asked = Listener(), 0
        while not any("signals of client asks were suppressed" in line
                      for line in started.log.lines):
            asking = [h.start_fetch("--hang-up", "waiting", "--wait", 0.3, "--timeout", 60, key=key)
                      for _ in range(25)]
            asked += sum(h.finish_fetch(each).outcome == "hung-up" for each in asking)
            h.expect(asked < 2000, "the number of signals that were left out is logged")

        def told(text):
            return [each for each in listener.signals if text in str(each)]
        h.expect(len(told("NeedApproval")) < 2 * asked, f"fewer signals than {asked} requests")
        # The monitor hears of the last ones a little later than they hang up.
        caller = Caller()
        h.wait_until(lambda: caller.get("/clients/asks", "ApprovalPending") is False, "nobody waits", 20)
        # What was held back of the properties comes a second later.
        h.wait_until(lambda: "('ApprovalPending', False)" in str(told("ApprovalPending")[-2:]) or
                     "{'ApprovalPending': False" in str(told("ApprovalPending")[-1:]),
                     "the last that is told of it is that nobody waits", 20)


@h.case("only root and the group are served; a loose policy does not help others to change")
def _():
    script = ("gdbus", "call", "--system", "-d", OURS, "-o")
    get = [*script, "/", "-m", MANAGER + ".GetManagedObjects"]
    change = [*script, "/clients/one", "-m", CLIENT + ".Disable"]
    with Bus(), server(three_clients()):
        for command in (get, change):
            ran = as_user("games", command)
            h.expect("AccessDenied" in ran.stderr, f"by the bus: {ran.stderr}")
        ran = as_user("games", change, "--groups=_mandos")
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), "a member of the group")
    with Bus(extra=LOOSE), server(three_clients()):
        h.expect_equal(as_user("games", get).returncode, 0, "a read")
        for command in (change, [*script, "/", "-m", OURS + ".RemoveClient", "/clients/one"],
                        [*script, "/clients/one", "-m", PROPERTIES + ".Set", CLIENT, "Host",
                         "<'x'>"]):
            ran = as_user("games", command)
            h.expect("AccessDenied" in ran.stderr, f"by the bus-agent: {ran.stderr}")
        h.expect_equal(Caller().get("/clients/one", "Enabled"), True, "still enabled")
        h.expect_equal(as_user("games", change, "--groups=_mandos").returncode, 0, "a member")


# What callers write: the property, then type and value. Many languages have one kind of number.
WRITTEN = [
    *(("Enabled", kind, value) for kind, value in (
        ("b", True), ("b", False), ("i", 1), ("i", 0), ("i", -1), ("u", 7), ("y", 1), ("y", 0),
        ("n", 1), ("q", 1), ("x", 1), ("t", 0), ("d", 0.5), ("d", 0.0), ("s", ""), ("s", "false"),
        ("o", "/"), ("as", []), ("as", ["x"]), ("v", GLib.Variant("v", GLib.Variant("i", 0))),
        ("(i)", (0,)), ("a{sv}", {}))),
    *(("ApprovedByDefault", kind, value) for kind, value in (
        ("i", 0), ("i", 3), ("u", 0), ("s", ""), ("s", "x"), ("d", 0.0), ("ay", []))),
    *(("CheckerRunning", kind, value) for kind, value in (("i", 0), ("u", 0), ("s", ""))),
    *((name, kind, value) for name in ("Timeout", "ApprovalDelay", "ApprovalDuration",
                                       "ExtendedTimeout", "Interval") for kind, value in (
        ("t", 3600001), ("x", 3600002), ("i", 3600003), ("u", 3600004), ("q", 60005), ("n", 30006),
        ("s", "7"), ("as", []), ("v", GLib.Variant("i", 3600008)))),
    *(("ApprovalDelay", kind, value) for kind, value in (
        ("d", 1500.0), ("d", 1500.7), ("b", True), ("b", False), ("y", 9), ("o", "/"), ("x", 0))),
    *((name, kind, value) for name in ("Host", "Checker") for kind, value in (
        ("s", "text"), ("o", "/a/path"), ("g", "as"), ("i", -5), ("u", 5), ("y", 6), ("x", 7),
        ("t", 8), ("n", 9), ("q", 10), ("b", True), ("b", False),
        ("v", GLib.Variant("s", "inside")))),
    *(("LastCheckedOK", kind, value) for kind, value in (
        ("s", ""), ("s", "nonsense"), ("i", 0), ("b", False), ("as", []), ("d", 1.0))),
    *(("Secret", kind, value) for kind, value in (
        ("ay", b"bytes"), ("ay", b""), ("ai", [1, 2, 255]), ("au", [65]), ("an", [3]), ("aq", [4]),
        ("ax", [5]), ("at", [6, 7]), ("ab", [True]), ("ai", [256]), ("ai", [-1]), ("s", "text"),
        ("as", ["x"]), ("b", True), ("d", 1.0))),
    ("Name", "s", "x"), ("Nothing", "s", "x"), ("Expires", "s", "")]


# What the original takes and we refuse, since it is anybody's guess what is meant: to it every text
# but the empty one is true ("false" as well), a byte is a character and any number a secret of so
# many zeros.
REFUSED = ([("Enabled", kind) for kind in ("s", "o", "as", "(i)", "a{sv}")] +
           [("ApprovedByDefault", kind) for kind in ("s", "ay")] +
           [("CheckerRunning", "s"), ("Host", "y"), ("Checker", "y"), ("Secret", "b")])
SHOWN = ("Enabled", "ApprovedByDefault", "Timeout", "ExtendedTimeout", "Interval", "ApprovalDelay",
         "ApprovalDuration", "Host", "Checker")


@h.case("whatever callers write is taken as the original takes it")
def _():
    path = "/clients/one"

    def attempt(caller, told, what, *call, **options):
        try:
            result = timeless(caller.call(*call, **options))
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            h.expect(name is not None, f"{what}: {error}")
            result = "refused"
        told.append((what, result))

    def run(_):
        caller, told = Caller(), []
        for name, kind, value in WRITTEN:
            # From here on, so that every change is seen.
            for usual in (("Enabled", "b", name != "Enabled" or not value),
                          ("ApprovedByDefault", "b", not value), ("Checker", "s", "true"),
                          ("Host", "s", "host"), ("Timeout", "t", 777000),
                          *((each, "t", 5) for each in ("ApprovalDelay", "ApprovalDuration",
                                                        "ExtendedTimeout")),
                          *((("Interval", "t", 777000),) if name == "Interval" else ())):
                caller.set(path, *usual)
            attempt(caller, told, (name, kind, value), path, PROPERTIES, "Set", GLib.Variant(
                "(ssv)", (CLIENT, name, variant(kind, value))))
            seen = caller.call(path, PROPERTIES, "GetAll", GLib.Variant("(s)", (CLIENT,)))[0]
            told.append(((name, kind, value, "afterwards"), {each: seen[each] for each in SHOWN}))
        for to in (OURS, OLD):
            for interface in (CLIENT, OLD + ".Client", "", "no.such.Interface", PROPERTIES,
                              "org.freedesktop.DBus.Introspectable"):
                for called in (PROPERTIES, None):
                    caller.set(path, "Host", "s", "host")
                    for method, *arguments in (("GetAll", "(s)", (interface,)),
                                               ("Get", "(ss)", (interface, "Host")),
                                               ("Get", "(sg)", (interface, "s")),
                                               ("Set", "(ssv)", (interface, "Host",
                                                                 variant("s", "x")))):
                        attempt(caller, told, (to, called, method, interface, arguments[0]), path,
                                called, method,
                                GLib.Variant(*arguments), to=to)
                        if method == "GetAll" and told[-1][1] != "refused":
                            told[-1] = (told[-1][0], [sorted(told[-1][1][0])])
        yes = GLib.Variant("b", True)
        for interface in (CLIENT, OLD + ".Client", None):
            for method, *arguments in (
                    ("CheckedOK",), ("Disable",), ("Enable",), ("StartChecker",), ("StopChecker",),
                    ("CheckedOK", "(s)", ("x",)), ("Approve",), ("Approve", "(b)", (True,)),
                    ("Approve", "(i)", (0,)), ("Approve", "(u)", (1,)), ("Approve", "(v)", (yes,)),
                    ("Approve", "(bb)", (True, True))):
                attempt(caller, told, (interface, method, arguments), path, interface, method,
                        GLib.Variant(*arguments) if arguments else None)
        for interface in (OURS, OLD, MANAGER, None):
            for method in ("GetAllClients", "GetManagedObjects"):
                attempt(caller, told, (interface, method), "/", interface, method)
                if told[-1][1] != "refused":
                    told[-1] = (told[-1][0], sorted(told[-1][1][0]))
        for kind, value in (("(o)", ("/clients/none",)), ("(i)", (1,)), ("(s)", ("third",)),
                            ("(s)", ("/clients/third",)), ("(s)", ("/clients/third",))):
            attempt(caller, told, ("RemoveClient", kind, value), "/", None, "RemoveClient",
                    GLib.Variant(kind, value))
        return told
    original, ours = both(run)
    different = []
    for (what, result), (_, wanted) in zip(ours, original):
        if what[:2] in REFUSED and what[-1] != "afterwards":
            h.expect_equal((result, wanted), ("refused", []), str(what))
        elif what[2:4] in (("Get", ""), ("Set", "")) and what[4] != "(sg)":
            # D-Bus lets the interface be empty. The original knows that of GetAll alone.
            h.expect(result != "refused", str(what))
        elif result != wanted and what[:2] not in REFUSED:
            different.append(f"{what}: {result}, the original {wanted}")
    h.expect_equal((different, len(ours)), ([], len(original)), "what is taken otherwise")


@h.case("the bus-agent is jailed")
def _():
    with Bus(), server(three_clients(), False, "--debuglevel", "INFO") as started:
        pid = started.pid("bus-agent")
        status = h.status_of(pid)
        import pwd
        uid = pwd.getpwnam("_mandos-bus").pw_uid
        h.expect_equal(set(status["Uid"].split()), {str(uid)}, "user")
        for which in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"):
            h.expect_equal(int(status[which], 16), 0, which)
        for task in os.listdir(f"/proc/{pid}/task"):
            thread = h.status_of(f"{pid}/task/{task}")
            seccomp = "0" if h.sanitized() else "2"  # a sanitizer calls what no filter allows
            h.expect_equal((thread["Seccomp"], thread["NoNewPrivs"]), (seccomp, "1"), "every thread")
        h.expect_equal(status["Groups"], "", "groups")
        started.log.wait_for("bus-agent: .*jail: .*" +
                             ("no seccomp" if h.sanitized() else "seccomp=allow-list"))


@h.case("a removed client is gone at once, and stays so until its section changes")
def _():
    config = three_clients()
    others = ["/clients/foo_bar_1", "/clients/one"]
    there = lambda caller: sorted(caller.call("/", OURS, "GetAllClients")[0])

    def reload(started):
        before = len(started.log.lines)
        started.process.send_signal(signal.SIGUSR1)
        started.log.wait_for("read again", start=before)

    with Bus():
        with server(config) as started:
            caller = Caller()
            for name in ("one", "foo_bar_1", "third"):
                caller.set(f"/clients/{name}", "Host", "s", "changed")
            caller.call("/", OURS, "RemoveClient", GLib.Variant("(o)", ("/clients/third",)))
            h.expect_equal(there(caller), others, "the others")
            h.expect_equal(caller.get("/clients/one", "Host"), "changed", "another's change")
            reload(started)
            h.expect_equal(there(caller), others, "after a reload")
        with server(config) as started:
            caller = Caller()
            h.expect_equal(there(caller), others, "after a restart")
            config.clients["third"]["fingerprint"] = "01"
            config.write()
            reload(started)
            h.expect_equal(there(caller), [*others, "/clients/third"], "with another section")
            h.expect_equal(caller.get("/clients/third", "Host"), "third.example", "a new client")


@h.case("with neither D-Bus nor Zeroconf there is no bus-agent, and nobody has a bus library")
def _():
    with running(three_clients(), without=("--no-dbus", "--no-zeroconf")) as started:
        h.expect_equal([len(started.pids(role)) for role in
                        ("monitor", "networker", "checker-runner", "bus-agent")], [1, 1, 1, 0],
                       "processes")
        for pid in h.tree(started.process.pid):
            libraries = pathlib.Path(f"/proc/{pid}/maps").read_text()
            h.expect("libprotobuf" in libraries or "libc.so" in libraries, "libraries are seen")
            h.expect(not re.search(r"dbus|libgio|avahi", libraries), f"no bus library: {libraries}")


@h.case("errors have standard names and harm nobody")
def _():
    error = "org.freedesktop.DBus.Error."
    with Bus(), server(three_clients()) as started:
        caller, path = Caller(), "/clients/one"
        wanted = [
            ("UnknownProperty", path, PROPERTIES, "Get", variant("(ss)", (CLIENT, "Nothing"))),
            ("AccessDenied", path, PROPERTIES, "Get", variant("(ss)", (CLIENT, "Secret"))),
            ("UnknownInterface", path, PROPERTIES, "Get", variant("(ss)", ("no.such", "Host"))),
            ("PropertyReadOnly", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Name", variant("s", "x")))),
            ("InvalidArgs", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Host", variant("as", ["x"])))),
            ("InvalidArgs", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Enabled", variant("s", "false")))),
            ("InvalidArgs", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Timeout", variant("i", -1)))),
            *(("InvalidArgs", path, PROPERTIES, "Set",
               variant("(ssv)", (CLIENT, "Secret", variant(kind, value)))) for kind, value in (
                  ("ai", [256]), ("ai", [-1]), ("s", "text"), ("av", []), ("ad", [1.0]),
                  ("aay", [b"x"]))),
            ("InvalidArgs", path, PROPERTIES, "Set", variant("(s)", ("Host",))),
            ("InvalidArgs", path, CLIENT, "Approve", variant("(s)", ("yes",))),
            ("InvalidArgs", "/", OURS, "RemoveClient", variant("(i)", (1,))),
            ("UnknownObject", "/", OURS, "RemoveClient", variant("(s)", ("no path",))),
            ("UnknownObject", "/", OURS, "RemoveClient", variant("(o)", ("/clients/none",))),
            ("UnknownObject", "/clients/none", CLIENT, "CheckedOK", None),
            ("UnknownMethod", path, CLIENT, "Explode", None),
            ("UnknownMethod", "/", "no.such.Interface", "Explode", None),
            ("UnknownObject", "/x" * 5000, CLIENT, "CheckedOK", None),
            ("InvalidArgs", path, CLIENT, "Approve", variant("(ab)", ([True] * 50000,))),
            ("LimitsExceeded", path, CLIENT, "Approve", variant("(ab)", ([True] * 100000,))),
            ("LimitsExceeded", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Host", variant("s", "x" * 100000)))),
            ("LimitsExceeded", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Secret", variant("ay", b"x" * (1 << 20 | 1))))),
            ("LimitsExceeded", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Secret", variant("ay", b"x" * (20 << 20))))),
            ("Failed", path, PROPERTIES, "Set",
             variant("(ssv)", (CLIENT, "Timeout", variant("t", 2**64 - 1)))),
        ]
        for name, *call in wanted:
            h.expect_equal(caller.error(*call), error + name, str(call)[:200])
        before = started.pid("bus-agent")
        caller.set(path, "Secret", "ay", bytes(range(256)) * 4096)  # 1 MiB: as long as may be
        h.expect_equal(started.pid("bus-agent"), before, "the same bus-agent as before")


@h.case("names that look alike have objects of their own")
def _():
    config = h.Configuration()
    names = ["a.b", "a-b", "a_b", "a_2eb", "a b", "\u00e9\u00df", "x" * 200]
    for number, name in enumerate(names):
        config.client(name, KEY % number, b"x")
    with Bus(), server(config):
        objects = Caller().call("/", MANAGER, "GetManagedObjects")[0]
        found = {path: facts[CLIENT]["Name"] for path, facts in objects.items()}
        h.expect_equal(sorted(found.values()), sorted(names), "names")


def places_of(pid, marker):
    """Where in a process's writable memory the bytes lie."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            begin, end = (int(edge, 16) for edge in span.split("-"))
            with contextlib.suppress(OSError, ValueError):
                memory.seek(begin)
                content = memory.read(end - begin)
                at = content.find(marker)
                if at >= 0:
                    found.append((line.split()[-1], hex(begin + at), content.count(marker)))
    return found


@h.case("a new secret is given at the next connection, and lies nowhere in the bus-agent")
def _():
    file, key_id = h.test_key()
    marker = b"A-SECRET-THAT-IS-LOOKED-FOR-" * 3000
    with Bus(), server(h.Configuration().client("one", key_id, b"old")) as started:
        Caller().set("/clients/one", "Secret", "ay", marker)
        h.expect_equal(h.fetch(key=file).blob, marker, "the blob")
        h.expect_equal(Caller().error("/clients/one", PROPERTIES, "Get",
                                      GLib.Variant("(ss)", (CLIENT, "Secret"))),
                       "org.freedesktop.DBus.Error.AccessDenied", "reading it")
        # A sanitizer keeps what was freed, to find who uses it after that.
        for length in () if h.sanitized() else (300, len(marker)):
            Caller().set("/clients/one", "Secret", "ay", marker[:length])
            h.expect_equal(places_of(started.pid("bus-agent"), marker[:28]), [],
                           f"a secret of {length} bytes in the bus-agent's memory")
        for length in () if h.sanitized() else (300, 65536):
            Caller().set("/clients/one", "Secret", "ai", list(marker[:length]))
            h.expect_equal(h.fetch(key=file).blob, marker[:length], "the blob")
            for shape in (marker[:28], b"".join(struct.pack("<i", byte) for byte in marker[:9])):
                h.expect_equal(places_of(started.pid("bus-agent"), shape), [],
                               f"a secret of {length} integers in the bus-agent's memory")
        # Nor does one that is refused: for who asks, for its length, for its type.
        long = marker * (1 + (1 << 20) // len(marker))
        for kind, value in () if h.sanitized() else (
                ("ay", long), ("ai", list(marker[:300]) + [256]), ("ax", list(marker[:300]) + [-1])):
            h.expect("org.freedesktop.DBus.Error." in Caller().error(
                "/clients/one", PROPERTIES, "Set", GLib.Variant(
                    "(ssv)", (CLIENT, "Secret", variant(kind, value)))), f"{kind} is refused")
            for shape in (marker[:28], b"".join(struct.pack("<i", byte) for byte in marker[:9])):
                h.expect_equal(places_of(started.pid("bus-agent"), shape), [],
                               f"a refused secret of type {kind} in the bus-agent's memory")


@h.case("a new secret that finds no memory is refused, and costs nothing")
def _():
    file, key_id = h.test_key()
    with Bus(), server(h.Configuration().client("one", key_id, b"old"),
                       command=h.with_little_locked_memory(262144)) as started:
        before, caller = started.pid("monitor"), Caller()
        for size in (1 << 20, 200000):
            h.expect_equal(
                caller.error("/clients/one", PROPERTIES, "Set",
                             variant("(ssv)", (CLIENT, "Secret", variant("ay", b"x" * size)))),
                "org.freedesktop.DBus.Error.Failed", f"{size} bytes")
        h.expect_equal(h.fetch(key=file).blob, b"old", "the secret as it was")
        caller.set("/clients/one", "Secret", "ay", b"new")
        h.expect_equal(h.fetch(key=file).blob, b"new", "one that fits")
        h.expect_equal(started.pid("monitor"), before, "the same monitor as before")


@h.case("without a bus the server serves; it comes to the bus when there is one, and comes back")
def _():
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    file, key_id = h.test_key()
    config = h.Configuration().client("one", key_id, b"blob")
    with running(config) as started:
        started.log.wait_for("not on the system bus")
        h.expect_equal(h.fetch(key=file).blob, b"blob", "without a bus")
        agent = started.pid("bus-agent")
        bus = Bus()
        for _ in range(2):
            caller = Caller()
            h.wait_until(caller.has_server, "on the bus", 30)
            h.expect_equal(caller.get("/clients/one", "Name"), "one", "name")
            before = len(started.log.lines)
            bus.stop()
            h.expect_equal(h.fetch(key=file).blob, b"blob", "while the bus is away")
            started.log.wait_for("not on the system bus.*has gone", start=before)
            bus.start()
        h.wait_until(Caller().has_server, "on the bus", 30)
        h.expect_equal(started.pid("bus-agent"), agent, "the bus-agent lives on")
        started.log.wait_for("on the system bus as", start=before)
        said = [line for line in started.log.lines if "the system bus" in line]
        h.expect_equal([" not on " in line for line in said], [True, False] * 3,
                       f"once when it is away, once when it is back: {said}")
        bus.stop()


@h.case("a name that somebody else has is taken over when it is free")
def _():
    with Bus(extra=LOOSE):
        thief = Caller()
        thief.connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "RequestName",
                                   GLib.Variant("(su)", (OURS, 4)), None, 0, -1, None)
        with running(three_clients()) as started:
            started.log.wait_for("no bus name se.recompile.Mandos")
            caller = Caller()
            h.wait_until(lambda: caller.has_server(OLD), "the other name", 10)
            thief.close()
            started.log.wait_for("on the system bus as", 20)
            h.expect_equal(caller.get("/clients/one", "Name"), "one", "name")
            h.expect_equal(sum("no bus name" in line for line in started.log.lines), 1, "said once")


@h.case("a bus-agent that dies is replaced, with everything as it was")
def _():
    with Bus(), server(three_clients()) as started:
        caller = Caller()
        caller.set("/clients/one", "Host", "s", "changed")
        first = started.pid("bus-agent")
        os.kill(first, signal.SIGKILL)
        started.pid("bus-agent", other_than=first)
        h.wait_until(caller.has_server, "on the bus again", 20)
        h.expect_equal(caller.get("/clients/one", "Host"), "changed", "host")


@h.case("a waiting client is seen and approved in mandos-monitor")
def _():
    file, key_id = h.test_key()
    config = h.Configuration().client("waiter", key_id, b"blob", approval_delay="PT2M",
                                      approved_by_default="False")
    with Bus(), server(config):
        with contextlib.suppress(FileExistsError):
            os.symlink("pts/ptmx", "/dev/ptmx")
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", LINES="24", COLUMNS="80")
            os.execvp("/usr/sbin/mandos-monitor", ["mandos-monitor"])
        screen = b""

        def sees(text, seconds=20):
            nonlocal screen
            end = time.monotonic() + seconds * h.SLACK
            while text not in screen and time.monotonic() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    screen += os.read(terminal, 65536)
            h.expect(text in screen, f"{text!r} on the screen: {screen[-1500:]!r}")
        sees(b"waiter")
        started = h.start_fetch("--timeout", "60", key=file)
        sees(b"enial")
        os.write(terminal, b"a")
        fetched = h.finish_fetch(started)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        h.expect_equal(fetched.blob, b"blob", f"after approval: {fetched}")


@h.case("doc/operating.md's commands list who waits, and approve and refuse")
def _():
    file, key_id = h.test_key()
    config = h.Configuration().client("web", key_id, b"blob", approval_delay="PT10M",
                                      approved_by_default="False")
    page = (h.SOURCE / "doc/operating.md").read_text()

    def run(command):
        h.expect(f"\n{command}\n" in page, f"doc/operating.md shows {command}")
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True,
                             timeout=30 * h.SLACK)
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), command)
        return ran.stdout
    waiting = ("mandos-ctl --dump-json | python3 -c 'import json, sys; [print(name) for name, client "
               "in json.load(sys.stdin).items() if client[\"ApprovalPending\"]]'")
    not_enabled = waiting.replace('if client["ApprovalPending"]', 'if not client["Enabled"]')
    told = "gdbus monitor --system --dest se.recompile.Mandos | grep --line-buffered NeedApproval"
    h.expect(f"\n{told}\n" in page, "doc/operating.md shows how to be told")
    with Bus(), server(config):
        notice = subprocess.Popen(["bash", "-c", f"{told} 2>&1"], stdout=subprocess.PIPE, text=True)
        h.expect_equal(run(waiting), "", "nobody waits")
        for command, blob in (("mandos-ctl --approve web", b"blob"), ("mandos-ctl --deny web", b"")):
            started = h.start_fetch("--timeout", "60", key=file)
            h.wait_until(lambda: run(waiting) == "web\n", "web waits", 20)
            run(command)
            h.expect_equal(h.finish_fetch(started).blob, blob, command)
            h.wait_until(lambda: run(waiting) == "", "nobody waits", 20)
            time.sleep(1.1)  # until the answer is over
        h.expect("/clients/web: se.recompile.Mandos.Client.NeedApproval (uint64 600000, false)"
                 in notice.stdout.readline(), "the notice")
        notice.kill()
        notice.wait()
        h.expect_equal(run(not_enabled), "", "all are enabled")
        subprocess.run(["mandos-ctl", "--disable", "web"], check=True, timeout=30 * h.SLACK)
        h.expect_equal(run(not_enabled), "web\n", "who is not enabled")


DBUS_PROGRAM = f"""
import dbus, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus, loop = dbus.SystemBus(), GLib.MainLoop()
manager = dbus.Interface(bus.get_object("{OURS}", "/"), "{MANAGER}")
print(sorted(manager.GetManagedObjects()))
client = bus.get_object("{OURS}", "/clients/one")
properties = dbus.Interface(client, "{PROPERTIES}")
print(properties.Get("{CLIENT}", "Host"), properties.GetAll("{CLIENT}")["Timeout"])
def changed(interface, values, invalidated):
    print(interface, dict(values), list(invalidated))
    loop.quit()
client.connect_to_signal("PropertiesChanged", changed, "{PROPERTIES}")
properties.Set("{CLIENT}", "Host", "by.python3-dbus")
loop.run()
client.Disable(dbus_interface="{CLIENT}")
try:
    properties.Get("{CLIENT}", "Secret")
except dbus.DBusException as error:
    print(error.get_dbus_name())
"""


@h.case("foreign readers: gdbus, busctl, python3-dbus")
def _():
    get = [CLIENT, "Host"]
    with Bus(), server(three_clients()):
        monitor = subprocess.Popen(["gdbus", "monitor", "--system", "-d", OURS],
                                   stdout=subprocess.PIPE, text=True)
        for line in monitor.stdout:
            if "is owned by" in line:
                break
        for command, wanted in (
                (["gdbus", "introspect", "--system", "-d", OURS, "-o", "/clients/one"],
                 "readwrite s Host = 'one.example'"),
                (["gdbus", "call", "--system", "-d", OURS, "-o", "/clients/one", "-m",
                  PROPERTIES + ".Set", *get, "<'by.gdbus'>"], "()"),
                (["busctl", "--system", "get-property", OURS, "/clients/one", *get],
                 's "by.gdbus"'),
                (["busctl", "--system", "set-property", OURS, "/clients/one", *get, "s",
                  "by.busctl"], ""),
                (["busctl", "--system", "introspect", OURS, "/clients/one"], '"by.busctl"'),
                (["busctl", "--system", "tree", OURS], "/clients/foo_bar_1"),
                (["busctl", "--system", "call", OURS, "/", MANAGER, "GetManagedObjects"],
                 '"Host" s "third.example"'),
                (["/usr/bin/python3", "-c", DBUS_PROGRAM], "by.busctl 3600000\n"
                 f"{CLIENT} {{dbus.String('Host'): dbus.String('by.python3-dbus', variant_level=1)}}"
                 " []\norg.freedesktop.DBus.Error.AccessDenied\n"),
                (["gdbus", "call", "--system", "-d", OURS, "-o", "/clients/one", "-m",
                  PROPERTIES + ".Get", CLIENT, "Enabled"], "(<false>,)")):
            ran = subprocess.run(command, capture_output=True, text=True, timeout=30 * h.SLACK)
            h.expect(ran.returncode == 0 and wanted in ran.stdout,
                     f"{command}: {ran.stdout}{ran.stderr}")
        seen = []
        for line in monitor.stdout:
            seen.append(line)
            if "'Enabled': <false>" in line:
                break
        for host in ("by.gdbus", "by.busctl", "by.python3-dbus"):
            h.expect(f"{{'Host': <'{host}'>}}" in "".join(seen), f"gdbus monitor sees {host}: {seen}")
        monitor.kill()
        monitor.wait()


# ---------------------------------------------------------------- Zeroconf

AVAHI = "org.freedesktop.Avahi"


class Avahi:
    """avahi-daemon on a veth pair to a network namespace of its own; a context manager."""

    def __init__(self, ipv6=True):
        run = lambda *command: subprocess.run(command, check=True, capture_output=True)
        with contextlib.suppress(subprocess.CalledProcessError):
            run("ip", "netns", "del", "peer")
        run("ip", "netns", "add", "peer")
        run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", "peer")
        if not ipv6:
            pathlib.Path("/proc/sys/net/ipv6/conf/veth0/disable_ipv6").write_text("1")
            run("ip", "netns", "exec", "peer", "sh", "-c",
                "echo 1 > /proc/sys/net/ipv6/conf/veth1/disable_ipv6")
        run("ip", "link", "set", "veth0", "up")
        run("ip", "address", "add", "10.9.9.1/24", "dev", "veth0")
        run("ip", "-n", "peer", "address", "add", "10.9.9.2/24", "dev", "veth1")
        run("ip", "-n", "peer", "link", "set", "veth1", "up")
        run("ip", "-n", "peer", "link", "set", "lo", "up")
        if ipv6:
            h.wait_until(lambda: "tentative" not in (found := subprocess.run(
                ["ip", "-6", "address", "show", "dev", "veth0", "scope", "link"],
                capture_output=True, text=True).stdout) and "fe80" in found,
                "a link-local address", 10)
        self.config = h.temporary() / "avahi.conf"
        self.config.write_text("[server]\nhost-name=tester\nallow-interfaces=veth0\n"
                               "use-ipv6=yes\nuse-ipv4=yes\n[wide-area]\nenable-wide-area=no\n")
        self.start()

    def start(self):
        os.makedirs("/run/avahi-daemon", exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/run/avahi-daemon/pid")
        self.process = subprocess.Popen(
            ["avahi-daemon", "--no-drop-root", "--no-chroot", "--no-rlimits", "-f", self.config],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        caller = Caller()
        h.wait_until(lambda: caller.has_server(AVAHI), "avahi-daemon is on the bus", 20)
        caller.close()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        subprocess.run(["ip", "netns", "del", "peer"], check=False, capture_output=True)


class Browser:
    """What services of ours Avahi sees come and go."""

    def __init__(self):
        self.listener = Listener()
        self.listener.caller.call("/", AVAHI + ".Server", "ServiceBrowserNew",
                                  GLib.Variant("(iissu)", (-1, -1, "_mandos._tcp", "local", 0)),
                                  to=AVAHI)

    def events(self):
        return [(member, body[2], body[1]) for _, _, member, body in list(self.listener.signals)
                if member in ("ItemNew", "ItemRemove")]

    def now(self):
        """The names that are announced, each with its protocols (0: IPv4, 1: IPv6)."""
        names = set()
        for member, name, protocol in self.events():
            (names.add if member == "ItemNew" else names.discard)((name, protocol))
        return sorted(names)


def find_by_mdns(ipv6):
    """The real client, at the other end of the veth pair, finds the server by itself."""
    keys, section = h.real_client()
    config = h.Configuration()
    config.clients["real"] = section
    config.server_options["servicename"] = "M\u00e4ndos"
    wanted = [("M\u00e4ndos", 0), ("M\u00e4ndos", 1)][:2 if ipv6 else 1]
    with Bus(), Avahi(ipv6):
        browser = Browser()
        with server(config, False, "--interface", "veth0", without=(), address="::") as started:
            h.wait_until(lambda: browser.now() == wanted, f"it is announced: {wanted}", 20)
            h.expect_equal(h.run_real_client(
                keys, "--interface=veth1", "--network-hook-dir=/nonexistent",
                before=("ip", "netns", "exec", "peer"), seconds=60), b"correct horse battery staple", "the password")
            started.log.wait_for("address=(fe80:|.*10.9.9.2)" if ipv6 else "address=.*10.9.9.2")
        h.wait_until(lambda: browser.now() == [], "the announcement is taken back", 5)


@h.case("the real client finds the server by mDNS and gets its password")
def _():
    find_by_mdns(True)


@h.case("so it does on a network without IPv6, from a server that listens on both")
def _():
    find_by_mdns(False)


@h.case("an Avahi daemon that hangs keeps nobody, at the start, later and at the end")
def _():
    with Bus(), Avahi() as avahi:
        avahi.process.send_signal(signal.SIGSTOP)
        with running(three_clients(), without=()) as started:
            caller = Caller()
            h.wait_until(caller.has_server, "on the bus", 5)
            began = time.monotonic()
            for count in range(20):
                h.expect_equal(caller.get("/clients/one", "Name"), "one", "name")
                caller.set("/clients/one", "Host", "s", f"host{count}")
            h.expect(time.monotonic() - began < 5 * h.SLACK, "it answers")
            started.log.wait_for("not announced by Avahi, retrying: no answer", 20)
            avahi.process.send_signal(signal.SIGCONT)
            started.log.wait_for("announced by Avahi as Mandos", 30)
            browser = Browser()
            h.wait_until(lambda: browser.now() == [("Mandos", 1)], "announced, once", 20)
            agent = started.pid("bus-agent")
            avahi.process.send_signal(signal.SIGSTOP)
            caller.set("/clients/one", "Host", "s", "last")
            h.expect_equal(caller.get("/clients/one", "Host"), "last", "host")
            h.expect_equal(started.pid("bus-agent"), agent, "the same bus-agent")
            caller.close()
            started.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            h.expect_equal(started.process.wait(10 * h.SLACK), 0, "exit status")
            h.expect(time.monotonic() - began < 1.5 + h.SLACK, "the end is kept for a second")
        avahi.process.send_signal(signal.SIGCONT)
        h.wait_until(lambda: browser.now() == [], "the announcement is gone", 20)


@h.case("a bus daemon that hangs keeps nobody: at the start, later, and when it is replaced")
def _():
    file, key_id = h.test_key()
    config = h.Configuration().client("one", key_id, b"blob")
    with Bus() as bus, Avahi() as avahi:
        bus.process.send_signal(signal.SIGSTOP)
        with running(config, without=()) as started:
            agent = started.pid("bus-agent")
            h.expect_equal(h.fetch(key=file).blob, b"blob", "while the bus hangs")
            started.log.wait_for("not on the system bus, retrying: no answer", 30)
            bus.process.send_signal(signal.SIGCONT)
            caller = Caller()
            h.wait_until(caller.has_server, "on the bus", 30)
            started.log.wait_for("announced by Avahi as Mandos", 30)
            h.expect(not started.log.find("not announced"), "a missing bus is said once")
            bus.process.send_signal(signal.SIGSTOP)
            h.expect_equal(h.fetch(key=file).blob, b"blob", "while it hangs again")
            before = len(started.log.lines)
            bus.stop()
            started.log.wait_for("not on the system bus.*has gone", 30, start=before)
            bus.start()
            caller = Caller()
            h.wait_until(caller.has_server, "on the next bus", 30)
            h.expect_equal(caller.get("/clients/one", "Name"), "one", "name")
            avahi.stop()
            avahi.start()
            browser = Browser()
            h.wait_until(lambda: browser.now() == [("Mandos", 1)], "announced on it", 30)
            caller.close()
            h.expect_equal(started.pid("bus-agent"), agent, "the same bus-agent all along")
            bus.process.send_signal(signal.SIGSTOP)
            started.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            h.expect_equal(started.process.wait(10 * h.SLACK), 0, "exit status")
            h.expect(time.monotonic() - began < 1.5 + h.SLACK, "the end is kept for a second")


@h.case("a second server of the same name is renamed; without D-Bus there is no bus name")
def _():
    with Bus(), Avahi():
        browser = Browser()
        with server(three_clients(), without=()):
            h.wait_until(lambda: browser.now() == [("Mandos", 1)], "the first", 20)
            second = h.Server(three_clients(), "--port", "4712", without=("--no-dbus",))
            second.log.wait_for("the service name Mandos is taken")
            h.wait_until(lambda: browser.now() == [("Mandos", 1), ("Mandos #2", 1)], "both", 20)
            second.process.terminate()
            h.expect_equal(second.process.wait(10 * h.SLACK), 0, "exit status")
            h.wait_until(lambda: browser.now() == [("Mandos", 1)], "the first alone", 5)
        with running(three_clients(), without=("--no-dbus",)):
            h.wait_until(lambda: browser.now() == [("Mandos", 1)], "announced", 20)
            caller = Caller()
            h.expect_equal([caller.has_server(OURS), caller.has_server(OLD)], [False, False],
                           "bus names")
            caller.close()


@h.case("when the host gets another name the service is announced again, with the new one")
def _():
    with Bus(), Avahi(), server(three_clients(), without=()):
        browser, caller = Browser(), Caller()

        def host():
            with contextlib.suppress(GLib.Error):  # not there at the moment
                return caller.call("/", AVAHI + ".Server", "ResolveService", GLib.Variant(
                    "(iisssiu)", (-1, -1, "Mandos", "_mandos._tcp", "local", -1, 0)), to=AVAHI)[5]
        h.wait_until(lambda: host() == "tester.local", "the first name", 20)
        caller.call("/", AVAHI + ".Server", "SetHostName", GLib.Variant("(s)", ("other",)), to=AVAHI)
        h.wait_until(lambda: host() == "other.local", "the new name", 20)
        h.wait_until(lambda: browser.now() == [("Mandos", 1)], "announced, once", 20)
        caller.close()


@h.case("an interface that is made anew: announced on its new index, and this is logged")
def _():
    run = lambda *command: subprocess.run(["ip", *command], check=True, capture_output=True)
    with Bus(), Avahi(), running(three_clients(), "--interface", "veth0", without=(),
                                 address="::") as started:
        browser = Browser()
        h.wait_until(lambda: ("Mandos", 1) in browser.now(), "announced", 20)
        before = socket.if_nametoindex("veth0")
        run("link", "delete", "veth0")
        started.log.wait_for("interface veth0 is gone")
        run("link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", "peer")
        run("link", "set", "veth0", "up")
        run("-n", "peer", "link", "set", "veth1", "up")
        after = socket.if_nametoindex("veth0")
        h.expect(after != before, "it is another interface")
        started.log.wait_for(f"announcing on the interface veth0, index {after}")
        indices = lambda: [body[0] for _, _, member, body in list(browser.listener.signals)
                           if member == "ItemNew" and body[2] == "Mandos"]
        h.wait_until(lambda: after in indices(), "announced on the new index", 30)


@h.case("an address that is gone is not announced; once it is back it is")
def _():
    address = lambda verb: subprocess.run(["ip", "address", verb, "10.8.8.8/32", "dev", "veth0"], check=True)
    with Bus(), Avahi():
        address("add")
        with running(three_clients(), without=(), address="::ffff:10.8.8.8") as started:
            browser = Browser()
            h.wait_until(lambda: browser.now() != [], "announced", 20)
            address("delete")
            started.log.wait_for("10.8.8.8 is gone")
            h.wait_until(lambda: browser.now() == [], "the announcement is taken back", 20)
            address("add")
            h.wait_until(lambda: browser.now() != [], "announced again", 30)
            address("delete")


@h.case("both daemons killed and started again: announced again; --no-ipv6 says IPv4")
def _():
    with Bus() as bus, Avahi() as avahi:
        with running(three_clients(), "--no-ipv6", without=(), address="0.0.0.0") as started:
            browser = Browser()
            h.wait_until(lambda: browser.now() == [("Mandos", 0)], "announced", 20)
            avahi.stop()
            started.log.wait_for("not announced by Avahi")
            avahi.start()
            browser = Browser()
            h.wait_until(lambda: browser.now() == [("Mandos", 0)], "after avahi-daemon", 30)
            before = len(started.log.lines)
            bus.stop()
            avahi.stop()
            started.log.wait_for("not on the system bus.*has gone", start=before)
            bus.start()
            avahi.start()
            browser = Browser()
            h.wait_until(lambda: browser.now() == [("Mandos", 0)], "after the bus", 40)
            caller = Caller()
            h.wait_until(caller.has_server, "on the bus", 30)
            caller.close()


def many():
    """Ten thousand take a sanitized server seconds in which it does nothing else, and so misses others."""
    return 1000 if h.sanitized() else 10000


def ten_thousand(count=None):
    config = h.Configuration()
    for number in range(count or many()):
        config.client(f"client{number}", KEY % number, b"\xd2\x01x", host=f"host{number}.example.org",
                      interval="PT10H", timeout="PT20H", extended_timeout="PT20H")
    return config


def resident(pid):
    return int(h.status_of(pid)["RssAnon"].split()[0]) * 1024


@h.case("a start tells nobody of changes: the clients are there as they are")
def _():
    config = ten_thousand()
    for section in config.clients.values():
        section["checker"] = "exit 1"
    for run in ("the first", "with saved state"):
        with Bus():
            listener = Listener()
            with server(config):
                objects = Caller().raw("/", MANAGER, "GetManagedObjects", seconds=60)
                h.expect_equal(objects.get_child_value(0).n_children(), many(), "objects")
                listener.sync()
                # Checkers may have run; but nobody was enabled or got another expiry.
                told = [each for each in listener.signals if each[2] == "PropertiesChanged" and
                        {"LastEnabled", "Expires"} & (each[3][1].keys() | set(each[3][2]))]
                h.expect_equal(told, [], f"signals of {run} start")


@h.case("ten thousand clients in one call and in one reload, with little memory each")
def _():
    with Bus(), server(ten_thousand(1)) as started:
        Caller().call("/", MANAGER, "GetManagedObjects")
        base = resident(started.pid("bus-agent"))
        alone = resident(started.pid("monitor"))
    with Bus(), server(ten_thousand()) as started:
        pid, monitor = started.pid("bus-agent"), started.pid("monitor")
        before = resident(pid)
        began = time.monotonic()
        objects = Caller().raw("/", MANAGER, "GetManagedObjects", seconds=60)
        print(f"# {time.monotonic() - began:.2f} s, {(before - base) / 10000:.0f} bytes a client")
        h.expect_equal(objects.get_child_value(0).n_children(), many(), "objects")
        h.expect(h.sanitized() or before - base <= 600 * 10000, f"{(before - base) / 10000} bytes a client")
        if h.sanitized():
            return  # a sanitizer gives nothing back
        # What a burst took is given back: else each could leave more behind.
        h.wait_until(lambda: resident(pid) - before < 2 << 20, "the answer's memory is given back")
        for _ in range(3):
            before = len(started.log.lines)
            started.process.send_signal(signal.SIGUSR1)
            started.log.wait_for("read again", seconds=60, start=before)
            h.wait_until(lambda: resident(monitor) - alone < 1900 * 10000,
                         "the memory of the reload is given back")
        print(f"# afterwards {(resident(pid) - base) / 10000:.0f} bytes a client, in the monitor "
              f"{(resident(monitor) - alone) / 10000:.0f}")


@h.case("what is told of a change of all clients takes no memory for good")
def _():
    if h.sanitized():
        return
    config = ten_thousand()
    with Bus(), server(config) as started:
        pid = started.pid("bus-agent")
        caller = Caller()
        caller.call("/", MANAGER, "GetManagedObjects", seconds=60)  # all is there
        h.wait_until(lambda: resident(pid) < 12 << 20, "the answer's memory is given back", 20)
        for section in config.clients.values():
            section |= {"timeout": "PT30H", "extended_timeout": "PT40H"}
        config.write()
        started.process.send_signal(signal.SIGUSR1)
        started.log.wait_for("read again", seconds=60)
        largest = lambda: int(h.status_of(pid)["VmHWM"].split()[0]) >> 10
        h.wait_until(lambda: caller.get("/clients/client9999", "Timeout") == 30 * 3600 * 1000,
                     "the change is told", 60)
        print(f"# the largest it was: {largest()} MiB")
        h.wait_until(lambda: resident(pid) < 12 << 20, "the signals' memory is given back", 20)


def cpu_of(started):
    """Seconds of CPU time that each of the server's processes has used."""
    return [sum(int(field) for field in pathlib.Path(f"/proc/{pid}/stat").read_text()
                .rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")
            for pid in sorted(h.tree(started.process.pid))]


def storm(started, count, clients):
    """Changes one client after the other, `count` times in all; the listener must get every one, in
    order. Returns changes a second and the memory of the bus-agent meanwhile."""
    caller, listener = Caller(), Listener()
    sizes, outstanding, began = [], 0, time.monotonic()

    def done(connection, result):
        nonlocal outstanding
        connection.call_finish(result)
        outstanding -= 1
    for number in range(count):
        caller.connection.call(
            OURS, f"/clients/client{number % clients}", PROPERTIES, "Set",
            GLib.Variant("(ssv)", (CLIENT, "Host", GLib.Variant("s", f"h{number}"))), None, 0,
            60000, None, done)
        outstanding += 1
        while outstanding > (0 if number == count - 1 else 100):  # the daemon allows 128
            GLib.MainContext.default().iteration(True)
        if number % (count // 5) == count // 5 - 1:
            h.wait_until(lambda: any(each[3][1:2] == ({"Host": f"h{number}"},)
                                     for each in listener.signals[-50:]),
                         "the last change is told", 30)
            sizes.append(resident(started.pid("bus-agent")))
    took = time.monotonic() - began
    told = [(path, body[1]["Host"]) for path, _, member, body in listener.signals
            if member == "PropertiesChanged" and "Host" in body[1]]  # one or another is checked
    compare(told, [(f"/clients/client{number % clients}", f"h{number}")
                   for number in range(count)], "what was told")
    return count / took, sizes


@h.case("a storm of a thousand changes a second of 10,000 clients reaches a listener whole")
def _():
    config = ten_thousand()
    config.state = pathlib.Path("/run/state")  # memory: the disk is not what is measured
    config.state.mkdir(mode=0o700, exist_ok=True)
    with Bus(), server(config) as started:
        spent = cpu_of(started)
        rate, sizes = storm(started, 5000, many())
        spent = max(after - before for after, before in zip(cpu_of(started), spent))
        print(f"# {rate:.0f} changes/s, {5000 / spent:.0f} a second of CPU time of the process of "
              f"ours that is busiest, memory {sizes}")
        # Who else is busy on the machine, and what listener and bus cost, is not ours.
        limit = h.SLACK if h.sanitized() else 1
        h.expect(rate >= 1000 or spent * 1000 <= 5000 * limit, f"{spent} s for 5000 changes")
        h.expect(h.sanitized() or sizes[-1] - sizes[0] < 1 << 20, f"memory grows: {sizes}")


# Calls, 5,000 a second. Arguments: whether it reads what comes back; the file where it counts them.
FLOOD = f"""
import os, select, socket, struct, sys, time
reads, count = sys.argv[1] == "reads", os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
s = socket.socket(socket.AF_UNIX); s.connect("{SOCKET}")
s.sendall(b"\\0AUTH EXTERNAL 30\\r\\nBEGIN\\r\\n")
def field(code, kind, value):
    data = value.encode()
    return bytes([code, 1, ord(kind), 0]) + struct.pack("<I", len(data)) + data + b"\\0"
def message(serial, path, to, interface, member):
    out = b""
    for one in ((1, "o", path), (6, "s", to), (2, "s", interface), (3, "s", member)):
        out += b"\\0" * (-len(out) % 8) + field(*one)
    return (b"l\\1\\0\\1" + struct.pack("<III", 0, serial, len(out)) + out +
            b"\\0" * (-len(out) % 8))
s.sendall(message(1, "/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus",
                  "Hello"))
# Half of them the dearest call, if the answers are not read.
dear = ("/clients/client2", "{OURS}", "{CLIENT}", "NoSuch") if reads else (
    "/", "{OURS}", "{MANAGER}", "GetManagedObjects")
block = b"".join(message(2 + i, *(dear if i % 2 else (
    "/clients/client1", "{OURS}", "{CLIENT}", "CheckedOK"))) for i in range(50))
s.setblocking(False)
sent, left = 0, b""
while True:
    ready = select.select([s] if reads else [], [s], [])
    if ready[0] and not s.recv(1 << 20):
        break
    if ready[1]:
        left = left or block
        left = left[s.send(left):]
        if not left:
            sent += 50
            os.pwrite(count, b"%d" % sent, 0)
            time.sleep(0.01)  # 5,000 a second, and there are two of us
"""


@h.case("who calls without end, and reads no answer, waits for himself alone")
def _():
    with Bus(), server(ten_thousand(1000)) as started:
        pid, counts = started.pid("bus-agent"), []
        floods = []
        for kind in ("reads", "never-reads"):
            counts.append(h.temporary() / kind)
            floods.append(subprocess.Popen([sys.executable, "-c", FLOOD, kind, counts[-1]],
                                           stderr=subprocess.DEVNULL))
        calls = lambda: [int(file.read_text() or 0) if file.exists() else 0 for file in counts]
        h.wait_until(lambda: min(calls()) >= 100, "both flood", 20)
        caller, times, sizes = Caller(), [], []
        end = time.monotonic() + 60 * h.SLACK
        # Served while the floods go on: both are under way before and after.
        while (len(times) < 10 or sum(calls()) < 20000) and time.monotonic() < end:
            began = time.monotonic()
            h.expect_equal(caller.get("/clients/client7", "Name"), "client7", "name")
            caller.set("/clients/client7", "Host", "s", str(began))
            h.expect_equal(caller.get("/clients/client7", "Host"), str(began), "host")
            times.append(time.monotonic() - began)
            sizes.append(resident(pid) >> 20)
        sent = calls()
        alive = [flood.poll() is None for flood in floods]
        for flood in floods:
            flood.kill()
            flood.wait()
        print(f"# {len(times)} rounds of three calls, the slowest {max(times):.2f} s, median "
              f"{sorted(times)[len(times) // 2]:.3f} s, beside {sent} calls of the floods; memory "
              f"{sizes[0]} to {max(sizes)} MiB")
        h.expect(len(times) >= 10 and sum(sent) >= 20000, f"{len(times)} rounds beside {sent}")
        h.expect_equal(started.pid("bus-agent"), pid, "the same bus-agent")
        h.expect(h.sanitized() or max(sizes) < 400, f"memory in MiB: {sizes}")
        h.expect_equal(alive, [True, True], "the floods went on meanwhile")
        h.wait_until(lambda: caller.get("/clients/client1", "Name"), "afterwards", 20)


def raw_call(path, interface, member, to):
    """A call whose answer is read and not looked into: how long it takes."""
    import socket as sockets, struct

    def field(code, kind, value):
        data = value.encode()
        return bytes([code, 1, ord(kind), 0]) + struct.pack("<I", len(data)) + data + b"\0"

    def message(serial, *fields):
        out = b""
        for one in fields:
            out += b"\0" * (-len(out) % 8) + field(*one)
        return (b"l\1\0\1" + struct.pack("<III", 0, serial, len(out)) + out +
                b"\0" * (-len(out) % 8))
    link = sockets.socket(sockets.AF_UNIX)
    link.connect(SOCKET)
    link.sendall(b"\0AUTH EXTERNAL 30\r\n")
    link.recv(4096)
    bus = "org.freedesktop.DBus"
    link.sendall(b"BEGIN\r\n" + message(1, (1, "o", "/org/freedesktop/DBus"), (6, "s", bus),
                                        (2, "s", bus), (3, "s", "Hello")))
    time.sleep(0.2)
    link.recv(1 << 16)
    began = time.monotonic()
    link.sendall(message(2, (1, "o", path), (6, "s", to), (2, "s", interface), (3, "s", member)))
    head = link.recv(16, sockets.MSG_WAITALL)
    size, _, fields = struct.unpack("<III", head[4:])
    left = fields + -fields % 8 + size
    while left > 0:
        left -= len(link.recv(min(left, 1 << 20)))
    return time.monotonic() - began


def measure():
    """GetManagedObjects with 1000 clients: the original and ours."""
    def run(started):
        # A reader that does not look into the answer, so that its own time is not measured.
        times = []
        spent = sum(cpu_of(started))
        for _ in range(5):
            times.append(raw_call("/", MANAGER, "GetManagedObjects", OURS))
        return sorted(times)[2], (sum(cpu_of(started)) - spent) / 5
    original, ours = both(run, lambda: ten_thousand(1000))
    print(f"# GetManagedObjects of 1000 clients, median of 5: original {original[0]:.3f} s, "
          f"ours {ours[0]:.3f} s, {original[0] / ours[0]:.1f} times faster; CPU of the server "
          f"{original[1]:.3f} s and {ours[1]:.3f} s, {original[1] / max(ours[1], 0.001):.1f} times")
    with Bus(), server(ten_thousand(1000)) as started:
        rate, _ = storm(started, 2000, 1000)
    print(f"# Changes, each confirmed when it is on the disk below {h.temporary()}: {rate:.0f} a second")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        h.enter_namespaces()
        measure()
        sys.exit()
    h.main()
