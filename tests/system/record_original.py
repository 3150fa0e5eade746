#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what the Python server (Debian package mandos) does with one client.

Plays each script of SCRIPTS on the original, which runs on a bus of its own, and writes down what
the bus shows: one JSON file a script. tests/unit/monitor/client_recorded_test.cc plays the same on
the state machine and must see the same.

    record_original.py --test-client build/tests/support/test-client [SCRIPT...]

Needs the packages mandos, dbus, python3-dbus and python3-gi. Changes nothing outside a temporary
folder and the folder of recordings. Takes about five minutes.
"""
import argparse
import base64
import datetime
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

HOUR = 3600000
MINUTE = 60000
BUS_NAME = "se.recompile.Mandos"
INTERFACE = "se.recompile.Mandos.Client"
CHECKER = 'eval "$RECORDED_CHECKER"'
ATTRIBUTES = ("approval_delay", "approval_duration", "created", "enabled", "expires", "fingerprint",
              "host", "interval", "key_id", "last_approval_request", "last_checked_ok",
              "last_enabled", "name", "timeout", "dbus_object_path")
DURATIONS = ("Timeout", "ExtendedTimeout", "Interval", "ApprovalDelay", "ApprovalDuration")
STAMPS = ("Created", "Expires", "LastEnabled", "LastCheckedOK", "LastApprovalRequest")
# What is the same in every recording, or never readable.
LEFT_OUT = ("Name", "KeyID", "Fingerprint", "ObjectPath", "Created", "Secret")
SETTLE = 0.3  # seconds after a step until its effects are looked at

# Steps: ("wait", seconds), ("until_checker",), ("checker_exits", status), ("checker_killed", signal),
# ("connect", connection), ("hang_up", connection), ("restart", seconds in between), ("Approve", yes),
# ("CheckedOK",), ("Set", property, value).
# Settings: milliseconds for durations, whole seconds; what is missing is long, so that it does not get in the way.
SCRIPTS = {
    "checking": (
        {"timeout": 7000, "interval": 3000},
        [("until_checker",), ("checker_exits", 0),
         ("until_checker",), ("checker_exits", 7),
         ("until_checker",), ("wait", 2.5),
         ("Set", "Enabled", True),
         ("until_checker",), ("checker_killed", 9),
         ("CheckedOK",), ("wait", 1.0), ("Set", "LastCheckedOK", ""), ("wait", 8)]),
    "one_checker_at_a_time": (
        {"interval": 2000},
        [("until_checker",), ("CheckedOK",), ("wait", 5), ("Set", "CheckerRunning", True),
         ("checker_exits", 0), ("until_checker",), ("checker_exits", 0)]),
    "never_checked": (
        {"interval": 2000, "timeout": 2 * MINUTE},
        [("until_checker",), ("checker_exits", 1), ("wait", 4)]),
    "settings": (
        {},
        [("Set", "Timeout", 30 * MINUTE), ("Set", "ExtendedTimeout", 5000),
         ("Set", "ApprovalDelay", 1500), ("Set", "ApprovalDuration", 2500),
         ("Set", "ApprovedByDefault", False), ("Set", "Host", "it's; `here`"),
         ("Set", "Secret", "other"), ("Set", "Checker", ": %(host)s; " + CHECKER),
         ("Set", "Interval", 4000), ("checker_exits", 0),
         ("until_checker",), ("Set", "CheckerRunning", False),
         ("Set", "CheckerRunning", True), ("Set", "CheckerRunning", True), ("checker_exits", 2),
         ("Set", "Timeout", 10), ("Set", "Timeout", HOUR), ("Set", "Interval", HOUR),
         ("Set", "Enabled", False), ("CheckedOK",),
         ("Set", "CheckerRunning", True), ("checker_exits", 0),
         ("Set", "Enabled", True), ("Set", "Enabled", True),
         ("Set", "CheckerRunning", True), ("Set", "Enabled", False)]),
    "no_approval_needed": (
        {"timeout": 10 * MINUTE},
        [("connect", "a"), ("wait", 1), ("connect", "b"),
         ("Set", "ExtendedTimeout", MINUTE), ("connect", "c"),
         ("Set", "ApprovedByDefault", False), ("connect", "d"),
         ("Set", "Enabled", False), ("connect", "e")]),
    "approved_by_default": (
        {"approval_delay": 2000}, [("connect", "a"), ("wait", 2.5), ("connect", "b"), ("wait", 2.5)]),
    "denied_by_default": (
        {"approval_delay": 2000, "approved_by_default": False},
        [("connect", "a"), ("wait", 1), ("connect", "b"), ("wait", 3)]),
    "approve": (
        {"approval_delay": MINUTE, "approval_duration": 2000},
        [("connect", "a"), ("connect", "b"), ("Approve", True), ("connect", "c"), ("wait", 2),
         ("connect", "d"), ("Approve", False), ("connect", "e"), ("wait", 2),
         ("connect", "f"), ("Approve", True), ("wait", 2.5), ("Approve", True), ("connect", "g"),
         ("wait", 2.5), ("Approve", False), ("connect", "h")]),
    "approve_twice": (
        {"approval_delay": MINUTE, "approval_duration": 3000},
        [("Approve", True), ("wait", 1.5), ("Approve", True), ("wait", 1.2), ("connect", "a")]),
    "approve_after_deny": (
        {"approval_delay": MINUTE, "approval_duration": 3000},
        [("Approve", False), ("connect", "a"), ("Approve", True), ("connect", "b")]),
    "deny_without_delay": (
        {"approval_duration": 5000},
        [("Approve", False), ("connect", "a"), ("Set", "ApprovalDelay", MINUTE), ("connect", "b")]),
    "disabled_while_waiting_default_yes": (
        {"approval_delay": 3000}, [("connect", "a"), ("Set", "Enabled", False), ("wait", 3.5)]),
    "disabled_while_waiting_default_no": (
        {"approval_delay": 3000, "approved_by_default": False},
        [("connect", "a"), ("Set", "Enabled", False), ("wait", 3.5)]),
    "expired_while_waiting": (
        {"approval_delay": 4000, "interval": 1000, "checker": "false"},
        [("until_checker",), ("connect", "a"), ("wait", 1.5), ("wait", 3)]),
    "disabled_is_approved": (
        {"approval_delay": MINUTE, "approval_duration": 10000},
        [("Set", "Enabled", False), ("Approve", True), ("connect", "a"), ("Set", "Enabled", True),
         ("connect", "b")]),
    "default_changed_while_waiting": (
        {"approval_delay": 3000, "approved_by_default": False},
        [("connect", "a"), ("Set", "ApprovedByDefault", True), ("wait", 3)]),
    "delay_changed_while_waiting": (
        {"approval_delay": 3000, "approved_by_default": False},
        [("connect", "a"), ("Set", "ApprovalDelay", 10000), ("wait", 3),
         ("connect", "b"), ("wait", 4), ("Set", "ApprovalDelay", 0), ("Approve", True)]),
    "hang_up_while_waiting": (
        {"approval_delay": 3000}, [("connect", "a"), ("wait", 0.5), ("hang_up", "a"), ("wait", 4)]),
    "expansion": (
        {"approval_delay": 2000, "approval_duration": 90 * 1000, "interval": HOUR,
         "timeout": 25 * HOUR, "host": "it's", "checker": "".join(
             ": {0} %%({0})s;".format(name) for name in ATTRIBUTES) + ": 100%%%%"},
        [("Set", "CheckerRunning", True), ("wait", 0.5), ("connect", "a"), ("Set", "Host", ""),
         ("Set", "Interval", 24 * HOUR), ("wait", 1), ("Set", "Timeout", 50 * 24 * HOUR),
         ("Set", "ApprovalDelay", 1), ("Set", "Enabled", False), ("Set", "CheckerRunning", True)]),
    "bad_checker": (
        {"interval": 2000, "timeout": HOUR},
        [("until_checker",), ("checker_exits", 0),
         ("Set", "Checker", "%(host)d"), ("wait", 2), ("Set", "Checker", CHECKER),
         ("wait", 2.5), ("checker_exits", 0),
         ("Set", "Checker", "%(nothing)s"), ("wait", 2), ("Set", "Checker", CHECKER),
         ("wait", 1.5)]),
    "restart_keeps_settings": (
        {"enabled": False},
        [("Set", "Timeout", 30 * MINUTE), ("Set", "Host", "elsewhere"), ("Set", "Enabled", True),
         ("CheckedOK",), ("restart", 0.5), ("Set", "Enabled", False), ("restart", 0.5)]),
    "restart_past_expiry_last_ok": (
        {"interval": 2000, "timeout": 6000},
        [("until_checker",), ("checker_exits", 0), ("restart", 7)]),
    "restart_past_expiry_last_failed": (
        {"interval": 2000, "timeout": 3000},
        [("until_checker",), ("checker_exits", 0), ("until_checker",), ("checker_exits", 3),
         ("restart", 5)]),
    "restart_past_expiry_never_checked": (
        {"interval": 2000}, [("wait", 0.1), ("restart", 5)]),
    "restart_extended": (
        {"interval": 2000}, [("connect", "a"), ("restart", 0.5)]),
}


class NoState(Exception):
    """The original did not save its state: its clean-up now and then fails on a race of its own."""


def milliseconds(stamp):
    """Of the epoch, from an ISO time in UTC; none from an empty one."""
    if not stamp:
        return None
    moment = datetime.datetime.fromisoformat(str(stamp)).replace(tzinfo=datetime.timezone.utc)
    return round(moment.timestamp() * 1000)


class Original:
    """The original server with one client on a bus of its own."""

    def __init__(self, folder, test_client, settings):
        self.folder = folder
        self.test_client = test_client
        self.processes = []
        self.server = None
        self.signals = []
        self.connections = {}
        self.answers = {}
        folder.chmod(0o755)
        for name in ("state", "checkers", "home"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        bus_socket = folder / "bus"
        (folder / "bus.conf").write_text(f"""<busconfig><type>system</type>
            <listen>unix:path={bus_socket}</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow send_destination="*" eavesdrop="true"/>
            <allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>""")
        self.processes.append(subprocess.Popen(
            ["dbus-daemon", "--nofork", "--config-file", folder / "bus.conf"],
            stderr=subprocess.DEVNULL))
        self.address = f"unix:path={bus_socket}"
        while not bus_socket.exists():
            time.sleep(0.02)
        self.bus = dbus.bus.BusConnection(self.address)
        self.bus.add_signal_receiver(
            lambda *arguments, member: self.signals.append([member, *map(plain, arguments)]),
            dbus_interface=INTERFACE, member_keyword="member")
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            self.port = probe.getsockname()[1]
        self.key = folder / "key.pem"
        key_id = subprocess.run([test_client, "--generate", "ed25519", "--key", self.key],
                                check=True, capture_output=True, text=True).stdout.strip()
        options = {"key_id": key_id, "fingerprint": "", "host": "host.example",
                   "secret": base64.b64encode(b"a secret").decode(), "checker": CHECKER,
                   **{name: f"{value // 1000}s" if type(value) is int else str(value)
                      for name, value in settings.items()}}
        (folder / "clients.conf").write_text(
            "[one]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        (folder / "mandos.conf").write_text("[DEFAULT]\n")

    def start(self):
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address,
                       "HOME": str(self.folder / "home"),
                       "RECORDED_CHECKER": f"D={self.folder / 'checkers'}; >$D/$$; "
                                           "until [ -s $D/$$.end ]; do sleep 0.02; done; "
                                           ". $D/$$.end"}
        self.server = subprocess.Popen(
            ["/usr/sbin/mandos", "--foreground", "--no-zeroconf", "--address", "::1", "--port",
             str(self.port), "--configdir", self.folder, "--statedir", self.folder / "state"],
            env=environment, stderr=open(self.folder / "log", "ab"), start_new_session=True)
        deadline = time.monotonic() + 20
        while not self.bus.name_has_owner(BUS_NAME):
            if time.monotonic() > deadline or self.server.poll() is not None:
                raise RuntimeError("the original does not start: " + (self.folder / "log").read_text())
            time.sleep(0.01)
        # Past its preparations as soon as it answers.
        self.client = self.bus.get_object(BUS_NAME, "/clients/one", introspect=False)
        self.properties = dbus.Interface(self.client, dbus.PROPERTIES_IFACE)
        while True:
            try:
                return self.state()
            except dbus.DBusException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def stop(self):
        self.server.terminate()
        try:
            self.server.wait(15)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.server.wait()
        self.end_checkers()
        while self.bus.name_has_owner(BUS_NAME):
            time.sleep(0.01)

    def end_checkers(self):
        for started in (self.folder / "checkers").glob("*[0-9]"):
            self.end_checker(started, "exit 0")

    def end_checker(self, started, how):
        temporary = started.with_suffix(".new")
        temporary.write_text(how + "\n")
        temporary.chmod(0o644)
        temporary.rename(started.with_suffix(".end"))
        started.unlink()

    def newest_checker(self):
        started = sorted((self.folder / "checkers").glob("*[0-9]"), key=lambda f: f.stat().st_mtime_ns)
        return started[-1]

    def close(self):
        if self.server:
            self.stop()
        for process in [*self.connections.values(), *self.processes]:
            process.kill()
            process.wait()
        self.bus.close()

    def state(self):
        return {str(name): plain(value) for name, value in
                self.properties.GetAll(INTERFACE, timeout=10).items() if name not in LEFT_OUT}

    def listen(self, seconds, until=lambda: False):
        context = GLib.MainContext.default()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            while context.pending():
                context.iteration(False)
            time.sleep(0.005)

    def act(self, what, *arguments):
        if what == "wait":
            self.listen(arguments[0])
        elif what == "until_checker":
            self.listen(30, lambda: any(s[0] == "CheckerStarted" for s in self.signals))
        elif what == "checker_exits":
            self.end_checker(self.newest_checker(), f"exit {arguments[0]}")
        elif what == "checker_killed":
            self.end_checker(self.newest_checker(), f"kill -{arguments[0]} $$")
        elif what == "connect":
            self.connections[arguments[0]] = subprocess.Popen(
                [self.test_client, "--host", "::1", "--port", str(self.port), "--key", self.key,
                 "--timeout", "60"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        elif what == "hang_up":
            process = self.connections.pop(arguments[0])
            process.kill()
            process.wait()
        elif what == "Approve":
            self.client.Approve(arguments[0], dbus_interface=INTERFACE)
        elif what == "CheckedOK":
            self.client.CheckedOK(dbus_interface=INTERFACE)
        elif what == "Set":
            name, value = arguments
            if name in DURATIONS:
                value = dbus.UInt64(value)
            elif name == "Secret":
                value = dbus.ByteArray(value.encode())
            self.properties.Set(INTERFACE, name, value)
        else:
            raise ValueError(what)

    def finished_connections(self):
        ended = {}
        for name, process in list(self.connections.items()):
            if process.poll() is not None:
                ended[name] = process.stdout.read().decode()
                del self.connections[name]
        return ended


def plain(value):
    """A D-Bus value as JSON has it."""
    if isinstance(value, (bool, dbus.Boolean)):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def record(test_client, settings, steps):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mandos-record-"))
    settings = {"timeout": HOUR, "extended_timeout": 2 * HOUR, "interval": HOUR, **settings}
    original = None
    try:
        original = Original(folder, test_client, settings)
        before_start = round(time.time() * 1000)
        state = original.start()
        epoch = milliseconds(state["LastEnabled"]) or before_start

        def relative(properties):
            return {name: (milliseconds(value) - epoch if value else None) if name in STAMPS else value
                    for name, value in properties.items()}

        def first_check(properties, start):
            """Milliseconds from `start` to the first checker, seen from the expiry."""
            return properties["Expires"] - properties["Interval"] - start if properties["Enabled"] else 0

        seen = relative(state)
        recording = {"settings": settings, "first_check": first_check(seen, 0), "start": seen,
                     "steps": []}
        for step in steps:
            at = round(time.time() * 1000) - epoch
            if step[0] == "restart":
                original.stop()
                if not (folder / "state" / "clients.pickle").exists():
                    raise NoState
                time.sleep(step[1])
                original.signals.clear()
                state = relative(original.start())
                started = round(time.time() * 1000) - epoch
                step = ["restart", started, first_check(state, started)]
            else:
                original.act(*step)
            original.listen(SETTLE)
            state = relative(original.state())
            entry = {"at": at, "do": list(step),
                     "seen_at": round(time.time() * 1000) - epoch,
                     "signals": [s for s in original.signals if s[0] != "PropertyChanged"],
                     "changed": {name: value for name, value in state.items()
                                 if value != seen[name]},
                     "answers": original.finished_connections()}
            original.signals.clear()
            recording["steps"].append({key: value for key, value in entry.items()
                                       if value not in ([], {})})
            seen = state
        return recording
    finally:
        if original:
            original.close()
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-client", required=True)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] /
                        "unit" / "monitor" / "recorded")
    parser.add_argument("script", nargs="*")
    options = parser.parse_args()
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    test_client = os.path.abspath(options.test_client)
    for name in options.script or SCRIPTS:
        for _ in range(10):
            try:
                recording = record(test_client, *SCRIPTS[name])
                break
            except NoState:
                print(name, "again: the original saved no state", flush=True)
        else:
            sys.exit(f"{name}: the original never saved its state")
        steps = recording.pop("steps")
        head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n"
                       for key, value in recording.items())
        lines = ",\n".join("    " + json.dumps(step) for step in steps)
        (options.output / f"{name}.json").write_text(
            "{\n" + head + '  "steps": [\n' + lines + "\n  ]\n}\n")
        print(name, flush=True)


if __name__ == "__main__":
    main()
