#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server counts, mandos-ctl metrics and verify, the account that may only read, the examples
for events --exec, and what servers that answer nonsense come to.

Needs python3-gi, dbus-daemon, avahi-daemon, curl, python3-prometheus-client and, for what is compared,
the original server."""
import base64, contextlib, json, os, pathlib, re, resource, signal, socket, subprocess, threading, time

import harness as h
from bus_test import KEY, Avahi, running
from ctl_test import CTL, MAY_OWN, WHOLE, Serving, Stream, asking, ctl, names_on_bus, three_clients
from private_bus import *

STATISTICS = OURS + ".Statistics"
SECRET = CLIENT + ".Secret"


def families(text):
    """What two foreign parsers read of it: one of OpenMetrics, and one of the format that the
    textfile collector takes it for. They must agree."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
    from prometheus_client.parser import text_string_to_metric_families as of_prometheus
    samples = lambda parse: {(each.name, *sorted(each.labels.items())): each.value
                             for family in parse(text) for each in family.samples}
    found = samples(of_openmetrics)
    h.expect_equal(samples(of_prometheus), found, "the two parsers")
    return found


def metrics(status=0):
    ran = ctl("metrics")
    h.expect_equal((ran.returncode, bool(ran.stderr)), (status, status != 0), ran.stderr)
    return {(name.removeprefix("mandos_"), *(value for _, value in labels)): number
            for (name, *labels), number in families(ran.stdout).items()}


def statistics(caller):
    return caller.call("/", PROPERTIES, "GetAll", GLib.Variant("(s)", (STATISTICS,)))[0]


@h.case("the server counts what happens, and metrics writes it as OpenMetrics")
def _():
    config, key = asking(approval_duration="PT10M")
    granted, granted_id = h.test_key()
    stranger, _ = h.test_key()
    config.client("free", granted_id, b"blob")
    for section in config.clients.values():
        section |= {"interval": "P200D", "timeout": "P400D"}
    with Serving(config=config):
        before = metrics()
        h.expect_equal({name: before[name] for name in before if name[0].endswith("_total")}, {
            ("grants_total",): 0, ("unknown_keys_total",): 0,
            ("refusals_total", "Approval timed out"): 0, ("refusals_total", "Denied"): 0,
            ("refusals_total", "Disabled"): 0, ("refusals_total", "Key changed"): 0,
            ("checks_total", "passed"): 0, ("checks_total", "failed"): 0,
            ("process_restarts_total", "monitor"): 0, ("process_restarts_total", "networker"): 0,
            ("process_restarts_total", "checker-runner"): 0,
            ("process_restarts_total", "bus-agent"): 0}, "at the start")
        h.expect(abs(before["grants_created",] - time.time()) < 100 * h.SLACK, "since when it counts")
        h.expect_equal(before["start_timestamp_seconds",], before["grants_created",], "since when")
        for _ in range(3):
            h.expect_outcome(h.fetch(key=granted), "blob")
        h.fetch(key=stranger)
        waiting = h.start_fetch(key=key)
        h.expect_equal(ctl("wait", "-t", "1m", "asks").returncode, 0, "it waits")
        h.expect_equal(metrics()["approvals_pending",], 1, "who waits")
        ctl("-D", "asks")
        h.finish_fetch(waiting)
        h.fetch(key=key)
        ctl("-d", "asks")
        h.fetch(key=key)
        for name, command in (("one", "true"), ("third", "exit 3"), ("foo.bar-1", "kill -9 $$")):
            ctl("-c", command, "--start-checker", name)
        done = lambda: sum(number for name, number in metrics().items() if name[0] == "checks_total") == 3
        h.wait_until(done, "three checks have ended", 20)
        found = metrics()
        caller = Caller()
        counted = statistics(caller)
        for name, value, told in (
                (("grants_total",), 3, counted["Grants"]),
                (("refusals_total", "Denied"), 2, counted["Refusals"]["Denied"]),
                (("refusals_total", "Disabled"), 1, counted["Refusals"]["Disabled"]),
                (("refusals_total", "Key changed"), 0, counted["Refusals"]["Key changed"]),
                (("unknown_keys_total",), 1, counted["UnknownKeys"]),
                (("checks_total", "passed"), 1, counted["ChecksPassed"]),
                (("checks_total", "failed"), 2, counted["ChecksFailed"]),
                (("approvals_pending",), 0, counted["ApprovalsPending"])):
            h.expect_equal((found[name], told), (value, value), f"{name}")
        h.expect_equal(counted["ServiceName"], "", "what is announced without Zeroconf")
        h.expect(0 <= found["client_last_check_age_seconds", "one"] < 100 * h.SLACK, "time since a check")
        h.expect(("client_last_check_age_seconds", "third") not in found, "no check has succeeded")
        h.expect_equal(found["clients", "disabled"], 1, "disabled")
        # The objects that the original's clients ask for are as they were.
        managed = caller.call("/", MANAGER, "GetManagedObjects")[0]
        h.expect_equal({interface for each in managed.values() for interface in each} &
                       {STATISTICS, SECRET}, set(), "interfaces that the original does not have")
        h.expect_equal(caller.error("/", PROPERTIES, "Set", GLib.Variant(
            "(ssv)", (STATISTICS, "Grants", GLib.Variant("t", 7)))),
            "org.freedesktop.DBus.Error.PropertyReadOnly", "a change")
        caller.close()


@h.case("each process that had to be replaced is counted, also over a restart of the monitor")
def _():
    with Bus():
        started = h.Server(three_clients(), without=("--no-zeroconf",))
        restarts = lambda: {name[1]: number for name, number in metrics().items()
                            if name[0] == "process_restarts_total"}
        wanted = {"monitor": 0, "networker": 0, "checker-runner": 0, "bus-agent": 0}

        def there():
            ran = ctl("metrics")
            return ran.returncode == 0 and restarts() == wanted
        h.wait_until(there, "nothing yet", 20)
        for role in ("networker", "checker-runner", "networker", "bus-agent", "monitor", "monitor"):
            old = started.pid(role)
            os.kill(old, signal.SIGKILL)
            started.pid(role, other_than=old)
            wanted[role] += 1
            h.wait_until(there, f"{wanted}", 40)
        # A counter that begins anew says so.
        h.expect_equal(metrics()["grants_total",], 0, "of the new bus-agent")
        started.process.send_signal(signal.SIGTERM)
        h.expect_equal(started.process.wait(20 * h.SLACK), 0, "its end")


@h.case("with the original server metrics and verify say what can be known")
def _():
    with Serving(original=True):
        found = metrics()
        h.expect_equal(found["up",], 1, "it runs")
        h.expect_equal(found["clients", "enabled"], 3, "its clients")
        h.expect_equal([name for name in found if name[0].endswith(("_total", "_created"))], [],
                       "what it does not count")
        ran = ctl("verify", "one")
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        h.expect("this server does not report its form" in ran.stdout, ran.stdout)


@h.case("the account of the units may read and listen, and change nothing")
def _():
    config, key = asking()
    config.client("whole", KEY % 20, WHOLE)
    as_watch = dict(before=["setpriv", "--reuid=_mandos-watch", "--regid=_mandos-watch", "--clear-groups"])
    with Serving(config=config) as started:
        for words in ([], ["-j"], ["status"], ["metrics"], ["verify", "whole"], ["-V", "one"]):
            ran = ctl(*words, **as_watch)
            h.expect_equal((ran.returncode, ran.stderr), (0, ""), f"{words}: {ran.stderr}")
        before = names_on_bus()
        listening = subprocess.Popen([*as_watch["before"], CTL, "wait", "-t", "1m", "asks"],
                                     stdout=subprocess.PIPE, text=True)
        h.wait_until(lambda: set(names_on_bus()) - set(before), "it listens")
        waiting = h.start_fetch(key=key)
        listening.communicate(timeout=60 * h.SLACK)
        h.expect_equal(listening.returncode, 0, "it hears of it")
        before = ctl("-j").stdout
        for words in (["-d", "one"], ["-A", "asks"], ["-D", "asks"], ["-r", "one"], ["-H", "x", "one"],
                      ["--start-checker", "one"], ["-b", "one"], ["-s", "/etc/hostname", "one"]):
            ran = ctl(*words, **as_watch)
            h.expect_equal((ran.returncode, ran.stdout), (1, ""), f"{words}")
            h.expect("permission denied" in ran.stderr, ran.stderr)
        h.expect_equal(ctl("-j").stdout, before, "what it has changed")
        started.log.wait_for("was refused a change")
        ctl("-D", "asks")
        h.finish_fetch(waiting)


@h.case("verify says what the server's secret is, and never what is in it")
def _():
    config = three_clients()
    config.client("whole", KEY % 20, WHOLE)
    damaged = h.temporary() / "damaged"
    damaged.write_bytes(WHOLE[:-3])
    other = h.temporary() / "other"
    other.write_bytes(b"secret")
    armored = h.temporary() / "armored"
    armored.write_text(f"-----BEGIN PGP MESSAGE-----\n\n{base64.b64encode(WHOLE).decode()}\n"
                       "-----END PGP MESSAGE-----\n")

    def says(status, text):
        ran = ctl("verify", "whole")
        h.expect_equal((ran.returncode, ran.stderr), (status, ""), ran.stdout)
        h.expect(text in ran.stdout, ran.stdout)
    with Serving(config=config):
        says(0, "ok       its secret is a complete OpenPGP message")
        for file, status, text in (
                (damaged, 1, "PROBLEM  its secret is a damaged OpenPGP message"),
                (other, 1, "PROBLEM  its secret is not an OpenPGP message"),
                (armored, 0, "ok       its secret is a complete OpenPGP message")):
            h.expect_equal(ctl("-s", str(file), "whole").returncode, 0, "a new secret")
            says(status, text)
        caller = Caller()
        asked = lambda method, *names: caller.call("/clients/whole", PROPERTIES, method, GLib.Variant(
            f"({'s' * len(names)})", names))[0]
        h.expect_equal(asked("GetAll", SECRET), {"Form": "OpenPGP"}, "all of it")
        h.expect_equal(asked("Get", SECRET, "Form"), "OpenPGP", "its form")
        h.expect_equal(caller.error("/clients/whole", PROPERTIES, "Set", GLib.Variant(
            "(ssv)", (SECRET, "Form", GLib.Variant("s", "other")))),
            "org.freedesktop.DBus.Error.PropertyReadOnly", "a change")
        h.expect_equal(caller.error("/clients/whole", PROPERTIES, "Get", GLib.Variant(
            "(ss)", (SECRET, "Secret"))), "org.freedesktop.DBus.Error.UnknownProperty", "the secret")
        caller.close()


@h.case("verify says on which interfaces the server is announced, or that nobody knows")
def _():
    config = three_clients()
    config.client("whole", KEY % 20, WHOLE)

    def says(status, text):
        ran = ctl("verify", "whole")
        h.expect_equal((ran.returncode, ran.stderr), (status, ""), ran.stdout)
        h.expect(text in ran.stdout, f"{text!r} is not in {ran.stdout!r}")
        return True
    with Bus():
        with Avahi() as avahi:
            with running(config, without=(), address="::") as started:
                everywhere = 'ok       Zeroconf announces the server "Mandos" on veth0 (IPv4, IPv6)'
                announced = lambda: everywhere in ctl("verify", "whole").stdout
                h.wait_until(announced, "it is announced", 30)
                says(0, everywhere)
                caller = Caller()
                h.expect_equal(statistics(caller)["ServiceName"], "Mandos", "its name")
                # Somebody else's is told apart.
                group = caller.call("/", "org.freedesktop.Avahi.Server", "EntryGroupNew",
                                    to="org.freedesktop.Avahi")[0]
                caller.call(group, "org.freedesktop.Avahi.EntryGroup", "AddService", GLib.Variant(
                    "(iiussssqaay)", (-1, 0, 0, "Other", "_mandos._tcp", "", "", 9, [])),
                    to="org.freedesktop.Avahi")
                caller.call(group, "org.freedesktop.Avahi.EntryGroup", "Commit", to="org.freedesktop.Avahi")
                h.wait_until(lambda: "other Mandos servers are announced on veth0 (IPv4)" in
                             ctl("verify", "whole").stdout, "another one", 20)
                says(0, 'the server "Mandos" on veth0 (IPv4, IPv6)')
                caller.close()
                avahi.process.send_signal(signal.SIGSTOP)
                began = time.monotonic()
                says(0, "note     not known whether Zeroconf announces the server: Avahi does not answer")
                h.expect(time.monotonic() - began < 10 * h.SLACK, "how long a hanging Avahi is waited for")
                avahi.process.send_signal(signal.SIGCONT)
                avahi.stop()
                says(0, "note     not known whether Zeroconf announces the server: Avahi does not run")
                avahi.start()
                h.wait_until(announced, "it is announced again", 60)
            with running(config):
                says(0, "note     Zeroconf does not announce the server")
        # It should be announced, and Avahi has no interface to do so on.
        avahi.config.write_text("[server]\nallow-interfaces=none0\n[wide-area]\nenable-wide-area=no\n")
        avahi.start()
        try:
            with running(config, without=()):
                h.wait_until(lambda: says(1, 'PROBLEM  Zeroconf does not announce the server "Mandos"'),
                             "not announced")
        finally:
            avahi.stop()




GOOD = {"Name": ("s", "one"), "Enabled": ("b", True), "Timeout": ("t", 1), "LastCheckedOK": ("s", ""),
        "Created": ("s", ""), "Interval": ("t", 1), "Host": ("s", ""), "KeyID": ("s", ""),
        "Fingerprint": ("s", ""), "CheckerRunning": ("b", False), "LastEnabled": ("s", ""),
        "ApprovalPending": ("b", False), "ApprovedByDefault": ("b", True), "LastApprovalRequest": ("s", ""),
        "ApprovalDelay": ("t", 0), "ApprovalDuration": ("t", 1), "Checker": ("s", ""),
        "ExtendedTimeout": ("t", 1), "Expires": ("s", ""), "LastCheckerStatus": ("n", 0)}


def objects(**instead):
    """The answer of GetManagedObjects with one client."""
    all_of_it = {name: GLib.Variant(*value) for name, value in (GOOD | instead).items() if value}
    return GLib.Variant("(a{oa{sa{sv}}})", ({"/clients/one": {CLIENT: all_of_it}},))


class Posing:
    """Owns the server's name; object "/" answers GetManagedObjects and the properties of statistics."""
    XML = """<node><interface name="org.freedesktop.DBus.ObjectManager"><method name="GetManagedObjects">
<arg type="a{oa{sa{sv}}}" direction="out"/></method></interface>
<interface name="org.freedesktop.DBus.Properties"><method name="GetAll"><arg type="s" direction="in"/>
<arg type="%s" direction="out"/></method></interface></node>"""

    def __init__(self, managed=None, counted=None, silent=False):
        self.silent, self.asked, self.unanswered = silent, 0, []
        self.managed = managed or objects()
        self.counted = counted or GLib.Variant("(a{sv})", ({},))

    def answer(self, _connection, _sender, _path, _interface, method, _body, invocation):
        self.asked += 1
        if self.silent:
            return self.unanswered.append(invocation)
        if method == "GetAll":
            message = Gio.DBusMessage.new_method_reply(invocation.get_message())
            message.set_body(self.counted)
            self.caller.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
        else:
            invocation.return_value(self.managed)

    def answer_all(self):
        """What was asked while it was silent."""
        for invocation in self.unanswered:
            invocation.return_value(self.managed)

    def emit(self, path, interface, member, body):
        self.caller.connection.emit_signal(None, path, interface, member, body)
        self.caller.connection.flush_sync(None)

    def __enter__(self):
        ready = threading.Event()

        def run():
            context = GLib.MainContext()
            context.push_thread_default()
            self.caller = Caller()
            node = Gio.DBusNodeInfo.new_for_xml(self.XML % self.counted.get_type_string()[1:-1])
            for interface in node.interfaces:
                self.caller.connection.register_object("/", interface, self.answer, None, None)
            self.caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                             GLib.Variant("(su)", (OURS, 0)), to="org.freedesktop.DBus")
            self.loop = GLib.MainLoop.new(context, False)
            ready.set()
            self.loop.run()
            self.caller.close()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        h.expect(ready.wait(20 * h.SLACK), "the impostor is ready")
        return self

    def __exit__(self, *_):
        self.loop.quit()
        self.thread.join(20)


COUNTED = {"StartTime": ("s", "2026-11-27T00:00:00"), "Grants": ("t", 1), "Refusals": ("a{st}", {"x\n\"y": 2}),
           "ChecksPassed": ("t", 1), "ChecksFailed": ("t", 1), "UnknownKeys": ("t", 1),
           "Restarts": ("a{st}", {}), "ApprovalsPending": ("t", 0), "ServiceName": ("s", "")}


def counts(**instead):
    return GLib.Variant("(a{sv})", ({name: GLib.Variant(*value)
                                     for name, value in (COUNTED | instead).items() if value},))


@h.case("every command says of a server that answers nonsense that it does")
def _():
    before = h.temporary() / "before.json"
    before.write_text("{}")
    commands = {("status",): 3, ("verify", "one"): 1, ("metrics",): 1, ("diff", str(before)): 2,
                ("restore", str(before)): 1, ("events",): 1, ("wait", "one"): 1, ("-v",): 1,
                ("-e", "-a"): 1}
    for managed, told in ((objects(Expires=("i", 5)), "Expires of /clients/one has the wrong type"),
                          (objects(LastCheckerStatus=None), "has no LastCheckerStatus"),
                          (objects(Timeout=("as", ["x"])), "has no Timeout"),
                          (GLib.Variant("(a{oa{sa{sv}}})", ({"/x": {"org.other": {}}},)), None)):
        with Bus(POLICY, MAY_OWN), Posing(managed):
            for words, status in commands.items():
                if told is None:
                    if words[0] in ("status", "metrics", "-v"):  # no client, and no nonsense
                        h.expect_equal(ctl(*words).returncode, 0, f"{words}")
                    continue
                ran = ctl(*words)
                h.expect_equal(ran.returncode, status, f"{words}: {ran.stderr}")
                h.expect("nonsense" in ran.stdout + ran.stderr and told in ran.stdout + ran.stderr,
                         f"{words}: {ran.stdout}{ran.stderr}")
    for counted, told in ((counts(Grants=("s", "many")), "Grants of its statistics has the wrong type"),
                          (counts(Refusals=("a{ss}", {})), "Refusals of its statistics has the wrong type"),
                          (counts(StartTime=("s", "once")), "StartTime of its statistics has the wrong type"),
                          (counts(Restarts=None), "its statistics are incomplete"),
                          (GLib.Variant("(s)", ("x",)), "nonsense")):
        with Bus(POLICY, MAY_OWN), Posing(counted=counted):
            ran = ctl("metrics")
            h.expect_equal((ran.returncode, families(ran.stdout)), (1, {("mandos_up",): 0}), ran.stderr)
            h.expect("nonsense" in ran.stderr and told in ran.stderr, ran.stderr)
            h.expect_equal(ctl("verify", "one").returncode, 1, "verify")
            h.expect_equal(ctl().returncode, 0, "a list needs no statistics")
    # What is strange, and no nonsense, is written as it is: quoted, for the parsers.
    with Bus(POLICY, MAY_OWN), Posing(counted=counts()):
        h.expect_equal(metrics()["refusals_total", 'x\n"y'], 2, "a strange reason")
    with Bus(POLICY, MAY_OWN), Posing():
        h.expect_equal([name for name in metrics() if name[0].endswith("_total")], [], "no statistics")


@h.case("a stream goes on after signals that are nonsense, and says that they are")
def _():
    with Bus(POLICY, MAY_OWN), Posing() as server:
        stream = Stream()
        for path, interface, member, body in (
                ("/clients/one", CLIENT, "Rejected", GLib.Variant("(i)", (1,))),
                ("/clients/one", CLIENT, "NeedApproval", GLib.Variant("(s)", ("soon",))),
                ("/clients/one", CLIENT, "CheckerCompleted", None),
                ("/clients/one", PROPERTIES, "PropertiesChanged", GLib.Variant("(i)", (1,))),
                ("/clients/one", PROPERTIES, "PropertiesChanged", GLib.Variant(
                    "(sa{sv}as)", (CLIENT, {"Enabled": GLib.Variant("s", "no")}, []))),
                ("/", OURS, "ClientNotFound", GLib.Variant("(s)", ("key",))),
                ("/", OURS, "ClientAdded", GLib.Variant("(i)", (1,))),
                ("/", MANAGER, "InterfacesRemoved", GLib.Variant("(s)", ("x",)))):
            said = stream.errors.read_text().count("nonsense")
            server.emit(path, interface, member, body)
            h.wait_until(lambda: stream.errors.read_text().count("nonsense") == said + 1, member, 20)
        # Nothing is known of these, and nothing wrong with them.
        server.emit("/clients/none", CLIENT, "GotSecret", None)
        server.emit("/clients/one", CLIENT, "FromTheFuture", GLib.Variant("(i)", (1,)))
        server.emit("/clients/one", CLIENT, "GotSecret", None)
        stream.wait_for(r"Z granted client=one$")
        h.expect_equal(len(stream.stop()), 1, "events")


@h.case("a stream that finds nonsense after the bus was away says so once, and goes on trying")
def _():
    with Bus(POLICY, MAY_OWN):
        with Posing() as server:
            stream = Stream()

            def granted():
                server.emit("/clients/one", CLIENT, "GotSecret", None)
                return [line for line in stream.lines() if "granted client=one" in line]
            h.wait_until(granted, "it knows the server", 20)
    stream.wait_for("server-gone")
    with Bus(POLICY, MAY_OWN):
        with Posing(objects(Expires=("i", 5))) as server:
            h.wait_until(lambda: "nonsense" in stream.errors.read_text(), "what it finds", 20)
            time_of = lambda: [line for line in stream.errors.read_text().splitlines() if "nonsense" in line]
            h.wait_until(lambda: server.asked >= 3, "it tries again", 20)
            h.expect_equal(len(time_of()), 1, "lines about it")
        with Posing() as server:
            h.wait_until(lambda: "connected to the system bus again" in stream.errors.read_text(),
                         "it is connected", 20)
            stream.wait_for("server-back")
            before = len(stream.lines())
            h.wait_until(lambda: granted()[-1] in stream.lines()[before:], "what it tells then", 20)
    stream.process.terminate()
    h.expect_equal(stream.process.wait(20 * h.SLACK), 0, "its end")


@h.case("a server that took the place of another, and answers nonsense, is asked again")
def _():
    with Bus(POLICY, MAY_OWN):
        with Posing():
            stream = Stream()
        stream.wait_for("server-gone")
        with Posing(objects(Expires=("i", 5))) as server:
            h.wait_until(lambda: server.asked >= 2, "it is asked again", 20)
            h.expect_equal(stream.errors.read_text().count("nonsense"), 1, "lines about it")
            server.managed = objects()
            stream.wait_for("server-back")
            server.emit("/clients/one", CLIENT, "GotSecret", None)
            stream.wait_for("granted client=one")
        h.expect_equal([line.split()[1] for line in stream.stop()][:3],
                       ["server-gone", "server-back", "granted"], "events")


@h.case("what happens before the first answer is told after it, and once")
def _():
    with Bus(POLICY, MAY_OWN), Posing(objects(ApprovalPending=("b", True)), silent=True) as server:
        stream = Stream()
        h.wait_until(lambda: server.asked == 1, "it has asked")
        server.emit("/clients/one", CLIENT, "NeedApproval", GLib.Variant("(tb)", (60000, False)))
        server.emit("/clients/one", CLIENT, "GotSecret", None)
        server.emit("/", OURS, "ClientAdded", GLib.Variant("(o)", ("/clients/one",)))
        server.silent = False
        server.answer_all()
        stream.wait_for("granted")
        server.emit("/clients/one", CLIENT, "Rejected", GLib.Variant("(s)", ("Denied",)))
        stream.wait_for("refused")
        h.expect_equal([line.split("Z ")[1] for line in stream.stop()], [
            "waiting client=one delay=60000 approved_by_default=false", "granted client=one",
            "refused client=one reason=Denied"], "events")


@h.case("a server that does not answer keeps no limit and no signal from being heeded")
def _():
    with Bus(POLICY, MAY_OWN), Posing(silent=True):
        started = time.monotonic()
        ran = ctl("wait", "--timeout", "1s", "one")
        h.expect_equal((ran.returncode, ran.stdout), (3, ""), ran.stderr)
        h.expect("the server has not answered" in ran.stderr, ran.stderr)
        for number in (signal.SIGTERM, signal.SIGINT):
            stream = Stream()
            stream.process.send_signal(number)
            h.expect_equal(stream.process.wait(20), 0, "its end")
        h.expect(time.monotonic() - started < 45, "it waited for the answer")
    # Who does not want to wait is told how it is.
    with Bus(POLICY, MAY_OWN), Posing():
        h.expect_equal(ctl("wait", "-t", "0", "--for", "enabled", "one").returncode, 0, "it is")
        h.expect_equal(ctl("wait", "-t", "0", "one").returncode, 3, "it is not")


@h.case("another server that is away is tried ever more rarely, and ssh complains once")
def _():
    place = h.temporary() / "ssh"
    place.mkdir()
    (place / "ssh").write_text(f"""#!/bin/sh
[ ! -e {place}/down ] && exec systemd-stdio-bridge
echo >> {place}/tried
echo "ssh: connect to host away port 22: Connection refused" >&2
exit 255
""")
    (place / "ssh").chmod(0o755)
    with Bus(POLICY, MAY_OWN), Posing() as server:
        lines, errors = place / "lines", place / "errors"
        with open(lines, "w") as out, open(errors, "w") as to:
            stream = subprocess.Popen([CTL, "events", "--server", "away"], stdout=out, stderr=to,
                                      env=os.environ | {"PATH": f"{place}:{os.environ['PATH']}"})

        def granted():
            server.emit("/clients/one", CLIENT, "GotSecret", None)
            return "granted" in lines.read_text()
        bridges = lambda: [pid for pid, parent in h.processes().items() if parent == stream.pid]
        h.wait_until(granted, "it knows the server", 20)
        (place / "down").touch()
        for pid in bridges():
            os.kill(pid, signal.SIGKILL)
        tries = lambda: len((place / "tried").read_text()) if (place / "tried").exists() else 0
        times = []
        for number in (1, 2, 3):
            h.wait_until(lambda: tries() == number, f"attempt {number}", 20)
            times.append(time.monotonic())
        h.expect(times[2] - times[1] > 1.3 * (times[1] - times[0]), f"times of the attempts: {times}")
        (place / "down").unlink()
        h.wait_until(lambda: "connected to the system bus again" in errors.read_text(), "it is there again", 30)
        stream.terminate()
        h.expect_equal(stream.wait(20 * h.SLACK), 0, "its end")
        h.expect_equal(errors.read_text(), "mandos-ctl: lost the system bus; trying again\n"
                       "ssh: connect to host away port 22: Connection refused\n"
                       "mandos-ctl: connected to the system bus again\n", "what it says")
        h.expect_equal([line.split()[1] for line in lines.read_text().splitlines() if "granted" not in line],
                       ["server-gone", "server-back"], "events")


@h.case("a client that nobody has is called that also by commands that wait, and where there is none")
def _():
    for config, told in ((three_clients(), 'no client "tird"; did you mean "third"?'),
                         (h.Configuration(), 'no client "tird"')):
        with Serving(config=config):
            for words in (["events", "tird"], ["wait", "tird"], ["wait", "-t", "1m", "-f", "removed", "tird"],
                          ["verify", "tird"], ["-V", "tird"], ["tird"]):
                ran = ctl(*words)
                h.expect_equal((ran.returncode, ran.stdout, ran.stderr), (1, "", f"mandos-ctl: {told}\n"),
                               f"{words}")
    # Without a server nobody knows whom it has: these wait.
    with Bus():
        ran = ctl("wait", "-t", "1s", "tird")
        h.expect_equal(ran.returncode, 3, ran.stderr)
        h.expect("no Mandos server runs; waiting for it" in ran.stderr, ran.stderr)


@h.case("the work grows with the number of clients, and no faster")
def _():
    count = 4000
    kinds = {name: GLib.Variant(*value) for name, value in GOOD.items()}
    many = GLib.Variant("(a{oa{sa{sv}}})", ({f"/clients/c{number}": {
        CLIENT: kinds | {"Name": GLib.Variant("s", f"client{number:05}.example.org")}} for number in range(count)},))

    def used(*words):
        """The CPU time of the command."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = ctl(*words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), f"{words[:2]}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ran.stdout
    saved = h.temporary() / "many.json"
    with Bus(POLICY, MAY_OWN), Posing(many):
        usual, text = used("-j")
        saved.write_text(text)
        names = [f"client{number:05}.example.org" for number in range(count)]
        for words in (["diff", str(saved)], ["restore", str(saved)], ["-v", *names]):
            found = used(*words)[0]
            print(f"# {words[0]}: {found:.2f} s, the list {usual:.2f} s", flush=True)
            h.expect(found < 4 * usual, f"{words[0]}: {found} s, the list {usual} s")


@h.case("who may not ask is told which group may, by every command")
def _():
    before = h.temporary() / "saved.json"
    before.write_text("{}")
    before.chmod(0o644)
    games = dict(before=["setpriv", "--reuid=games", "--regid=games", "--clear-groups"])
    with Serving():
        for words, status in ((["status"], 3), (["verify", "one"], 1), (["metrics"], 1), (["diff", str(before)], 2),
                              (["restore", str(before)], 1), (["events"], 1), (["wait", "one"], 1), (["-V", "one"], 1)):
            ran = ctl(*words, **games)
            h.expect_equal(ran.returncode, status, f"{words}: {ran.stderr}")
            h.expect("only root and members of the group _mandos may" in ran.stdout + ran.stderr, f"{words}")


EXAMPLES = h.PREFIX / "share/doc/mandos-separated/examples"


@contextlib.contextmanager
def smtp_server(mails):
    """A mail server on port 25 of ::1 that keeps what it gets."""
    listener = socket.create_server(("::1", 25), family=socket.AF_INET6)

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                connection.sendall(b"220 tester ESMTP\r\n")
                for line in lines:
                    verb = line.split(b" ")[0].strip().upper()
                    if verb == b"DATA":
                        connection.sendall(b"354 go on\r\n")
                        mail = b""
                        while not mail.endswith(b"\r\n.\r\n"):
                            mail += lines.readline()
                        mails.append(mail.decode())
                    connection.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
    threading.Thread(target=serve, daemon=True).start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def run_example(name, **variables):
    environment = {"PATH": f"{h.temporary()}/bin:/usr/bin:/bin", "MANDOS_TIME": "2026-11-27T12:00:00Z", **variables}
    return subprocess.run([EXAMPLES / name], env=environment, capture_output=True, text=True,
                          timeout=60 * h.SLACK)


@h.case("the example that sends mail does, and nothing from the network becomes a header")
def _():
    mails = []
    with smtp_server(mails):
        evil = "web\r\nBcc: thief@example\r\n.\r\nQUIT"
        for event in ("checked", "granted", "enabled", "disabled", "added", "removed", "server-back"):
            ran = run_example("mail", MANDOS_EVENT=event, MANDOS_CLIENT="web")
            h.expect_equal((ran.returncode, ran.stderr, mails), (0, "", []), event)
        for event in ("waiting", "refused", "expired", "unknown-key", "server-gone"):
            ran = run_example("mail", MANDOS_EVENT=event, MANDOS_CLIENT=evil, MANDOS_REASON=evil,
                              MANDOS_KEY_ID=evil, MANDOS_ADDRESS=evil)
            h.expect_equal((ran.returncode, ran.stderr, len(mails)), (0, "", 1), event)
            head, body = mails.pop().split("\r\n\r\n", 1)
            h.expect_equal([line.split(":")[0] for line in head.split("\r\n")],
                           ["From", "To", "Subject", "Date", "Auto-Submitted", "Content-Type"], head)
            h.expect(body.startswith(f"Event:  {event}\r\n"), body)
            h.expect_equal("\r\nBcc" in body or "\r\n.\r\n" in body[:-5], False, body)
    ran = run_example("mail", MANDOS_EVENT="waiting", MANDOS_CLIENT="web")
    h.expect(ran.returncode != 0 and "curl" in ran.stderr, "without a mail server it says so")


@h.case("the example that notifies a desktop does, and nothing from the network becomes markup")
def _():
    place = h.temporary() / "bin"
    place.mkdir()
    (place / "notify-send").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (place / "notify-send").chmod(0o755)
    for event, text in (("waiting", "a&lt;b&gt;&amp;?c waits for approval"), ("expired", "a&lt;b&gt;&amp;?c expired"),
                        ("refused", "a&lt;b&gt;&amp;?c was refused: &lt;r"), ("granted", "a&lt;b&gt;&amp;?c got its password"),
                        ("unknown-key", "unknown key from &lt;x"), ("server-gone", "no server runs")):
        ran = run_example("notify", MANDOS_EVENT=event, MANDOS_CLIENT="a<b>&\nc", MANDOS_REASON="<r",
                          MANDOS_ADDRESS="<x")
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), event)
        h.expect_equal(ran.stdout.split("|")[2:], ["--", "Mandos", text, ""], event)
    h.expect_equal(run_example("notify", MANDOS_EVENT="checked").stdout, "", "what nobody needs to know")


if __name__ == "__main__":
    h._cases[:] = [each for each in h._cases if each[1].__module__ == "__main__"]
    h.main()
