# SPDX-License-Identifier: GPL-3.0-or-later
"""A system bus of a test's own, and calls over it. Needs python3-gi and dbus-daemon; a test that
imports this is skipped without the first."""
import contextlib, os, pathlib, re, subprocess, sys

try:
    from gi.repository import Gio, GLib
except ImportError:
    system = "/usr/bin/python3"
    if os.path.realpath(sys.executable) != os.path.realpath(system) and os.path.exists(system):
        os.execv(system, [system, *sys.argv])
    print("1..0 # SKIP no python3-gi")
    sys.exit(77)

import harness as h

OURS, OLD = "se.recompile.Mandos", "se.bsnet.fukt.Mandos"
CLIENT = OURS + ".Client"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER = "org.freedesktop.DBus.ObjectManager"
SOCKET = "/run/dbus/system_bus_socket"
POLICY = (h.SOURCE / "dist/dbus-mandos.conf.in").read_text().replace(
    "@BUS_USER@", "_mandos-bus").replace("@BUS_GROUP@", "_mandos").replace(
    "@CHECKER_USER@", "_mandos").replace("@NETWORKER_USER@", "_mandos-net").replace(
    "@WATCH_USER@", "_mandos-watch")
LOOSE = """<policy context="default"><allow send_destination="*"/><allow own="*"/></policy>"""
CONFIG = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
<allow send_destination="org.freedesktop.DBus"
       send_interface="org.freedesktop.DBus.Introspectable"/></policy>
{policy}{avahi}</busconfig>"""


def start_daemon(config):
    """A bus with that configuration, which listens."""
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    # Printed once it listens: the socket exists before that.
    h.expect(daemon.stdout.readline(), "the bus has not started")
    daemon.stdout.close()
    return daemon


class Bus:
    """A system bus for this namespace; a context manager."""

    def __init__(self, policy=POLICY, extra=""):
        self.config = h.temporary() / "bus.conf"
        inner = re.search("<busconfig>(.*)</busconfig>", policy, re.S)
        avahi = pathlib.Path("/usr/share/dbus-1/system.d/avahi-dbus.conf")
        self.config.write_text(CONFIG.format(
            socket=SOCKET, policy=(inner.group(1) if inner else policy) + extra,
            avahi=f"<include>{avahi}</include>" if avahi.exists() else ""))
        os.makedirs("/run/dbus", exist_ok=True)
        self.start()

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        self.process = start_daemon(self.config)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def variant(kind, value):
    """GLib.Variant, which is slow for bytes."""
    if kind == "ay":
        return GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(value), True)
    return GLib.Variant(kind, value)


class Caller:
    """A connection of its own to the bus."""

    def __init__(self):
        self.connection = Gio.DBusConnection.new_for_address_sync(
            f"unix:path={SOCKET}", Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.connection.set_exit_on_close(False)

    def raw(self, path, interface, method, body=None, seconds=20, to=OURS):
        if interface is None:  # whichever has the method
            message = Gio.DBusMessage.new_method_call(to, path, None, method)
            if body is not None:
                message.set_body(body)
            reply, _ = self.connection.send_message_with_reply_sync(
                message, 0, int(seconds * h.SLACK * 1000), None)
            reply.to_gerror()  # raises what it says
            return reply.get_body() or GLib.Variant("()", ())
        return self.connection.call_sync(to, path, interface, method, body, None,
                                         Gio.DBusCallFlags.NONE, int(seconds * h.SLACK * 1000),
                                         None)

    def call(self, *arguments, **options):
        return self.raw(*arguments, **options).unpack()

    def error(self, *arguments, **options):
        """The D-Bus name of the error that the call must give."""
        try:
            self.call(*arguments, **options)
        except GLib.Error as error:
            return Gio.DBusError.get_remote_error(error)
        raise h.Failure(f"no error: {arguments}")

    def get(self, path, name):
        return self.call(path, PROPERTIES, "Get", GLib.Variant("(ss)", (CLIENT, name)))[0]

    def set(self, path, name, kind, value, interface=CLIENT):
        return self.call(path, PROPERTIES, "Set", GLib.Variant(
            "(ssv)", (interface, name, variant(kind, value))))

    def has_server(self, to=OURS):
        return self.connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                         "org.freedesktop.DBus", "NameHasOwner",
                                         GLib.Variant("(s)", (to,)), None, 0, -1, None).unpack()[0]

    def close(self):
        self.connection.close_sync(None)
