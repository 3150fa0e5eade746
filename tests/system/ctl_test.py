#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""mandos-ctl beside the original's: the same calls to both, on our server and on the original server.

Needs python3-gi, dbus-daemon and, for what is compared, the original server with its mandos-ctl."""
import base64, contextlib, datetime, json, os, pathlib, re, stat, subprocess, time

import harness as h
from bus_test import KEY, original_server, running, timeless
from private_bus import *

CTL = str(h.PREFIX / "sbin/mandos-ctl")
ORIGINAL = "/usr/sbin/mandos-ctl"
# Debian 13 has it in the second place.
POLICY_OF_ORIGINAL = next((place for place in map(pathlib.Path, (
    "/etc/dbus-1/system.d/mandos.conf", "/usr/share/dbus-1/system.d/mandos.conf")) if place.exists()), None)


def ctl(*words, before=()):
    return subprocess.run([*before, CTL, *words], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60 * h.SLACK)


# Loads the original's tool once and runs each call in a process of its own: starting Python takes
# longer than all that the tool does. A call is a line of JSON with its words, and so is its result.
FORKING = """
import json, os, sys, tempfile, traceback
sys.argv = [sys.argv[1]]
tool = {"__name__": "the_original"}
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), tool)
for line in sys.stdin:
    out, err = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.argv[1:] = json.loads(line)
        status = 0
        try:
            tool["main"]()
        except SystemExit as ended:
            status = ended.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    read = lambda file: os.pread(file.fileno(), 1 << 20, 0).decode()
    print(json.dumps([status, read(out), read(err)]), flush=True)
    out.close()
    err.close()
"""


class Original:
    """The original's tool; called as ctl() is."""

    def __init__(self):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", FORKING, ORIGINAL], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return subprocess.CompletedProcess(words, *json.loads(self.process.stdout.readline()))

    def close(self):
        self.process.communicate()


def three_clients():
    config = h.Configuration()
    for number, name in enumerate(("one", "foo.bar-1", "third")):
        config.client(name, KEY % (number + 1), b"secret", host=f"{name}.example")
    return config


class Serving:
    """A bus with a server on it: ours, or the original."""

    def __init__(self, original=False, config=None):
        self.bus = Bus(POLICY_OF_ORIGINAL.read_text() if original else POLICY)
        config = config or three_clients()
        self.server = original_server(config) if original else running(config)

    def __enter__(self):
        self.bus.__enter__()
        self.started = self.server.__enter__()
        caller = Caller()
        h.wait_until(caller.has_server, "the server is on the bus", 60)
        caller.close()
        return self.started

    def __exit__(self, *about):
        self.server.__exit__(*about)
        self.bus.__exit__(*about)


# Command lines that are wrong before a server is asked. Status 2 and nothing on standard output.
WRONG = """
-a | --all | -v -a | -j -a | -j -v | -avj | -j -e one | -je one | -j -V one | -v -e one | -ev one
-v -V one | -V | -V one third | -e | -d | -b | -r | -A | -D | -t PT1M | -H x | -c true | -s /etc/hostname
--start-checker | --stop-checker | --approve-by-default | --deny-by-default | --extended-timeout PT1M
--interval PT1M | --approval-delay PT1M | --approval-duration PT1M | -e -d one | -d -e one
--enable --disable -a | --deny --approve one | -A -D one | --start-checker --stop-checker one
--approve-by-default --deny-by-default one | -r -e one | -r -A one | -r -V one | -r -r one | -r -b one
-r -H x one | --e one | --a one | --app one | --ver | --de one | --den one | --st one | --d one
--approval-d PT1M one | --frobnicate | --foo=1 -e one | -Q | -vQ one | -v1 | --verbose=1 | --verb= one
--enable=yes one | -hx | -xh one | -t | --timeout | -s | -c | -H | -t -v one | -H -x one | -c -- one
-t -- one | --timeout --all | -s /nonexistent one | -s /etc one | one -x | --help=1 | --timeout one
-V -a one third | -eQ one | -H -e one | --start one --stop one | --interval | --host | -i
"""
# In their order: (what, command line). Each is played by both tools on servers of the same state.
PLAYED = """
| -v | --verbose | -j | --dump-json | one | one third | third one | one one | one foo.bar-1 -v
-j one | -j third one third | -- one | one -- third | -- -x | - | -5 | nobody | one nobody | nobody one
-e nobody | -a -e nobody | -V nobody | -r nobody | -v nobody | -j nobody
-V one | --is-enabled third | -V -a | -V -e one | -V -V one | -d one | -V one | -V -d one | -j
-d -V third | -j third | -e -V third | -e third | -e one | -e -e one | -ab | -abe | --en one | --disa third
-e -a | -d -a one | | -e --all | -V -b one | -A -V one | -V -H x one | -j one
-H new.example one | --host other.example one third | -Hx one | -H=x one | --host=-x one | -eHx one
-eH=x one | -H '' one | -j one | -H 'a"b\\c' one | -j one | -v one | -H ü one | -j one | -v | -H '-x y' one
-v one | -c true one | --checker 'test -e /' one | --checker= one | -c 'true # %%(host)s' third | -v | -j
-t PT2H one | --timeout=PT3H one | --timeo PT1H one | -tPT90M one | -t=PT1H1M1S one | one | -t 5h one | one
-t 1d12h one | one | -t '1d 12h' one | one | -t ' 5h ' one | -t P1W one | one | -t '3w 2d' one | one
-t P1DT2H3M4S one | one | -t PT36H one | -t P2D -t P3D one | one | -t 2w one third | -v
--extended-timeout PT5M one | --ex PT6M one | -v one | -i PT20M -c true one | --interval 1h one
--approval-delay PT1M one | --approval-delay 0 one | --approval-delay P1D foo.bar-1
--approval-duration PT2M one | --approval-duration 1s one | --approve-by-default one | --deny-by-default one
--approve-b third | --deny-b third | -V -e --approval-delay P1D one | -j foo.bar-1 one
-H a -c true --deny-by-default one | -j one | -A one | -D one | --approve -a | --deny -a
--secret SECRET one | --se SECRET one | --sec=SECRET one | -s SECRET -a | --secret=SECRET third | -s - one
--debug -H h one | --debug -j foo.bar-1 | --debug -V one
-c 'sleep 1000' third | --start-checker third | -V third | --stop-checker third
-t PT0S foo.bar-1 | foo.bar-1 | -V foo.bar-1 | -t 0s one | -t 0 one | one
--remove third | third | -D -r one | one | -j | --rem foo.bar-1 | -j | -e -a
"""


def lines(script):
    """The command lines of such a text, split as a shell does."""
    import shlex
    secret = h.temporary() / "secret"
    secret.write_bytes(b"\x01\x02new")
    return [[str(secret) if word == "SECRET" else word for word in shlex.split(one)]
            for row in script.strip().splitlines() for one in row.split(" | ")
            for one in [one.removeprefix("| ")]]


def sorted_clients(output):
    """What a call has written, with the clients in a fixed order: the original server's changes with
    every start."""
    if output.startswith("{"):
        return sorted(json.loads(output, object_pairs_hook=list), key=str)
    heading, *rows = output.splitlines() or [""]
    return [heading, *sorted(rows)]


def play(original, call):
    with Serving(original):
        told = []
        for words in lines(PLAYED):
            ran = call(*words)
            output = timeless(ran.stdout)
            told.append((words, ran.returncode, sorted_clients(output) if original else output,
                         [line for line in ran.stderr.splitlines() if ": warning: " not in line] != []))
    return told


def same_on(original):
    tool = Original()
    theirs, ours = play(original, tool), play(original, ctl)
    tool.close()
    for (words, *wanted, their_words), (_, *found, our_words) in zip(theirs, ours):
        h.expect_equal(found, wanted, f"mandos-ctl {' '.join(words)}: status and output")
        # The original says of every older duration that it is invalid, and takes it.
        older = not our_words and wanted[0] == 0 and re.search(r"\d[smhdw]", " ".join(words))
        h.expect(our_words == their_words or older or "0" in words,
                 f"mandos-ctl {' '.join(words)}: standard error")
    print(f"# {len(ours)} calls compared on {'the original server' if original else 'our server'}",
          flush=True)


@h.case("wrong command lines fail as they do with the original's tool")
def _():
    tool = Original()
    for words in lines(WRONG):
        # Python 3.12 and later obey -h before they read the letters that follow it.
        if words == ["-hx"] and tool(*words).returncode == 0:
            h.expect_equal(ctl(*words).returncode, 2, "-hx")
            continue
        for who, ran in (("the original", tool(*words)), ("ours", ctl(*words))):
            h.expect_equal((ran.returncode, ran.stdout), (2, ""), f"{who}: mandos-ctl {' '.join(words)}")
            h.expect(ran.stderr, f"{who}: {words}")
    tool.close()
    print(f"# {len(lines(WRONG))} wrong command lines compared", flush=True)


@h.case("every call has the status and the output that it has with the original's tool, on our server")
def _():
    same_on(original=False)


@h.case("every call has the status and the output that it has with the original's tool, on its server")
def _():
    same_on(original=True)


@h.case("every option of the original is there, and --help fits 80 columns")
def _():
    theirs = subprocess.run([ORIGINAL, "--help"], capture_output=True, text=True).stdout.split("options:")[1]
    options = lambda text: set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text))
    ours = ctl("--help")
    h.expect_equal((ours.returncode, ours.stderr), (0, ""), "--help")
    h.expect_equal(options(theirs) - options(ours.stdout), set(), "options of the original")
    played = {word for words in lines(PLAYED) + lines(WRONG) for word in words}
    h.expect_equal(options(theirs) - played - {"--help", "-h", "--version", "--check", "--bump-timeout",
                                               "-b"}, set(), "options that are not played")
    wide = [line for line in ours.stdout.splitlines() if len(line) > 80]
    h.expect_equal(wide, [], "lines of more than 80 columns")
    h.expect_equal(ctl("--check").returncode, 0, "the self-test")
    h.expect(re.fullmatch(r"mandos-ctl \d+\.\d+\.\d+ \(mandos-separated\)\n", ctl("--version").stdout),
             "--version")


@h.case("what the original gets wrong is refused or done")
def _():
    with Serving():
        before = ctl("-j", "one").stdout
        # It takes these for 0 or for a part of what they say, and so disables a client.
        for time in ("nonsense", "", "5", "PT", "P", "1.5h", "5mx", "-5m", "P1D2W", "PT1H1S", "1W", "PT5M PT5M",
                     "99999999999999999999w", "P99999999999999W"):
            ran = ctl(f"--timeout={time}", "one")
            h.expect_equal((ran.returncode, ran.stdout), (2, ""), f"--timeout={time}")
            h.expect("duration" in ran.stderr, ran.stderr)
        h.expect_equal(ctl("-j", "one").stdout, before, "the client")
        # It ends with a traceback where a duration is longer than 24 days.
        h.expect_equal(ctl("-t", "P1Y2M3DT4H5M6S", "one").returncode, 0, "a long duration")
        h.expect("423T04:05:06" in ctl("one").stdout, ctl("one").stdout)
        # It removes the client and then fails.
        h.expect_equal(ctl("-r", "-D", "-e", "one").returncode, 2, "--remove with more than --deny")
        # It takes no option between operands.
        h.expect_equal(ctl("-d", "one", "--host=x", "third").returncode, 0, "mixed operands")
        found = json.loads(ctl("-j").stdout)
        h.expect_equal([(found[name]["Enabled"], found[name]["Host"]) for name in ("one", "third")],
                       [(False, "x")] * 2, "both")
        # It looks at one client only.
        h.expect_equal(ctl("-V", "-a").returncode, 1, "--is-enabled --all")
    with Serving(config=h.Configuration()):
        ran = ctl()
        h.expect_equal((ran.returncode, ran.stdout, ran.stderr),
                       (0, "Name Enabled Timeout Last Successful Check\n", ""), "no client at all")
        h.expect_equal(ctl("-j").stdout, "{}\n", "no client at all")
        h.expect_equal(ctl("-V", "-a").returncode, 1, "no client is enabled")


@h.case("a mistake is told so that it can be put right")
def _():
    def fails(ran, *wanted):
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        for text in wanted:
            h.expect(text in ran.stderr, f"{text!r} is not in {ran.stderr!r}")
    fails(ctl(), "cannot connect to the system bus")
    with Bus():
        fails(ctl("-e", "one"), "no Mandos server runs")
    with Serving():
        fails(ctl("tird"), 'no client "tird"; did you mean "third"?')
        fails(ctl("-d", "FOO.BAR"), '"foo.bar-1"')
        fails(ctl("-d", "something.else"), 'no client "something.else"\n')
        for user, groups in (("games", "--clear-groups"), ("_mandos", "--groups=_mandos")):
            fails(ctl(before=["setpriv", f"--reuid={user}", f"--regid={user}", groups]),
                  "permission denied", "members of the group _mandos")
        h.expect_equal(ctl(before=["setpriv", "--reuid=games", "--regid=games", "--groups=_mandos"])
                       .returncode, 0, "a member of the group")
        full = subprocess.run(["sh", "-c", f"{CTL} -j > /dev/full"], capture_output=True, text=True)
        h.expect_equal(full.returncode, 1, "a full disk")
        h.expect("No space left" in full.stderr, full.stderr)
        # What disables a client is told before it is done; what is done afterwards as asked.
        h.expect_equal(json.loads(ctl("-j", "one").stdout)["one"]["Enabled"], True, "enabled")
        ran = ctl("-t", "PT1S", "one")
        h.expect_equal((ran.returncode, ran.stdout), (0, ""), ran.stderr)
        h.expect(re.search(r"^mandos-ctl: warning: one: a timeout of 00:00:01 disables it at once: ",
                           ran.stderr), ran.stderr)
        h.expect("one: a timeout of 00:00:01 is less than the interval" in ran.stderr, ran.stderr)
        h.wait_until(lambda: not json.loads(ctl("-j", "one").stdout)["one"]["Enabled"], "it is disabled")
        ran = ctl("-s", "/etc/hostname", "one")
        h.expect_equal((ran.returncode, ran.stderr),
                       (0, "mandos-ctl: warning: one: the new secret is not an OpenPGP message: the client "
                           "could not decrypt it\n"), "a secret of something else")
        # What fails for one client is done for the others.
        ran = ctl("-H", "\udcff", "one")
        h.expect_equal(ran.returncode, 1, f"not UTF-8: {ran.stderr}")
        # No control character of a setting reaches the terminal.
        h.expect_equal(ctl("-H", "a\x1b[2J\nb\u009bc", "one").returncode, 0, "a strange host")
        h.expect("a?[2J?b?c" in ctl("-v", "one").stdout, ctl("-v", "one").stdout)


class Impostor:
    """Owns the server's name and answers GetManagedObjects with `reply`."""
    XML = """<node><interface name="org.freedesktop.DBus.ObjectManager"><method name="GetManagedObjects">
<arg type="%s" direction="out"/></method></interface></node>"""

    def __init__(self, reply):
        self.reply = reply

    def __enter__(self):
        import threading
        ready, self.loop = threading.Event(), None

        def run():
            context = GLib.MainContext()
            context.push_thread_default()
            caller = Caller()
            node = Gio.DBusNodeInfo.new_for_xml(self.XML % self.reply.get_type_string()[1:-1])
            caller.connection.register_object(
                "/", node.interfaces[0], lambda *about: about[-1].return_value(self.reply), None, None)
            caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                        GLib.Variant("(su)", (OURS, 0)), to="org.freedesktop.DBus")
            self.loop = GLib.MainLoop.new(context, False)
            ready.set()
            self.loop.run()
            caller.close()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        h.expect(ready.wait(20), "the impostor is ready")

    def __exit__(self, *_):
        self.loop.quit()
        self.thread.join(20)


MAY_OWN = '<policy user="root"><allow own="*"/><allow send_destination="*"/></policy>'


@h.case("a server that answers nonsense is called that")
def _():
    one = GLib.Variant("a{oa{sa{sv}}}", {"/clients/one": {CLIENT: {"Name": GLib.Variant("s", "one")}}})
    wrong = GLib.Variant("a{oa{sa{sv}}}", {"/clients/one": {CLIENT: {
        "Name": GLib.Variant("s", "one"), "Enabled": GLib.Variant("s", "yes")}}})
    for reply, told in ((GLib.Variant("(s)", ("hello",)), "malformed"),
                        (GLib.Variant("(a{sv})", ({},)), "malformed"),
                        (GLib.Variant.new_tuple(one), "/clients/one has no Enabled"),
                        (GLib.Variant.new_tuple(wrong), "Enabled of /clients/one has the wrong type")):
        with Bus(POLICY, MAY_OWN), Impostor(reply):
            for words in ([], ["-j"], ["-e", "one"], ["-V", "one"]):
                ran = ctl(*words)
                h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
                h.expect("nonsense" in ran.stderr and told in ran.stderr, ran.stderr)


@h.case("status says whether all is well, as a monitoring plugin does")
def _():
    def says(level, *wanted):
        ran = ctl("status")
        h.expect_equal((ran.returncode, ran.stdout.split()[:2], ran.stderr), (
            level, ["MANDOS", ("OK", "WARNING", "CRITICAL", "UNKNOWN")[level]], ""), ran.stdout)
        for text in wanted:
            h.expect(text in ran.stdout, f"{text!r} is not in {ran.stdout!r}")
    says(3, "cannot connect to the system bus")
    h.expect_equal([ctl("status", word).returncode for word in ("one", "--nonsense")], [3, 3], "usage")
    with Bus():
        says(2, "no Mandos server runs")
    with Serving():
        ran = ctl("status", before=["setpriv", "--reuid=games", "--regid=games", "--clear-groups"])
        h.expect_equal(ran.returncode, 3, ran.stdout)
        h.expect("group _mandos" in ran.stdout, ran.stdout)
        says(0, "3 clients, 3 enabled, 0 waiting", "| clients=3 enabled=3 waiting=0 failed=0")
        ctl("-d", "one")
        says(1, "WARNING: one is disabled", "2 enabled")
        ctl("-c", "exit 7", "--start-checker", "third")
        ended = lambda: json.loads(ctl("-j", "third").stdout)["third"]["LastCheckerStatus"] == 7
        h.wait_until(ended, "the checker has ended")
        says(1, "third: the last check failed with status 7, expires in 00:", "1 failed")
        ctl("-i", "1w", "third")
        says(2, "CRITICAL: third: the last check failed", "WARNING: one is disabled")


# An OpenPGP message as far as its lengths say: a key of a passphrase, then data.
WHOLE = bytes.fromhex("8c0d04090302") + bytes(8) + bytes.fromhex("ff") + bytes.fromhex("d22a01") + bytes(41)


def asking(**options):
    """Three clients and one that asks for approval: (configuration, its key)."""
    key, key_id = h.test_key()
    options = {"approval_delay": "PT10M", "approved_by_default": "False", **options}
    return three_clients().client("asks", key_id, b"blob", host="asks.example", **options), key


@h.case("verify says whether a client will get its password, and what stands in the way")
def _():
    def says(name, status, *wanted):
        ran = ctl("verify", name)
        h.expect_equal((ran.returncode, ran.stderr), (status, ""), ran.stdout)
        h.expect_equal(status, int("PROBLEM" in ran.stdout), ran.stdout)
        for text in wanted:
            h.expect(text in ran.stdout, f"{text!r} is not in {ran.stdout!r}")
    config, key = asking()
    # The secret of the others is none that a client could decrypt: see numbers_test.py.
    for name in ("one", "asks"):
        config.clients[name]["secret"] = base64.b64encode(WHOLE).decode()
    config.client("none", "E3B0C442 98FC1C14 9AFBF4C8 996FB924 27AE41E4 649B934C A495991B 7852B855",
                  b"blob")
    with Serving(config=config):
        says("one", 0, "ok       it is enabled", "not checked yet; it expires in 00:", "needs no approval",
             "key ID is 0000000")
        says("asks", 1, "PROBLEM  it is denied unless somebody approves it within 00:10:00")
        says("none", 1, "PROBLEM  its key ID is that of an empty key")
        asked = h.start_fetch(key=key)
        h.expect_equal(ctl("wait", "--timeout", "20s", "asks").returncode, 0, "it waits")
        says("asks", 1, "it waits for approval right now")
        ctl("-D", "asks")
        h.finish_fetch(asked)
        ctl("--approve-by-default", "-b", "asks")
        says("asks", 0, "approved by default, after 00:10:00", "ok       the last check succeeded")
        ctl("-d", "asks")
        says("asks", 1, "PROBLEM  it is disabled")
        ran = ctl("verify", "oen")
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), "an unknown client")
        h.expect('did you mean "one"?' in ran.stderr, ran.stderr)


@h.case("wait waits for a client, and no longer than it may")
def _():
    config, key = asking()
    with Serving(config=config):
        for words, told in ((["--timeout", "1s", "one"], "one: not waiting within 1s"),
                            (["-t0", "-f", "granted", "asks"], "asks: not granted within 0")):
            ran = ctl("wait", *words)
            h.expect_equal((ran.returncode, ran.stdout), (3, ""), ran.stderr)
            h.expect(told in ran.stderr, ran.stderr)
        others = len(names_on_bus())
        waiting = subprocess.Popen([CTL, "wait", "asks"], stdout=subprocess.PIPE, text=True)
        granted = subprocess.Popen([CTL, "wait", "--for", "granted", "--timeout=PT1M", "asks"],
                                   stdout=subprocess.PIPE, text=True)
        h.wait_until(lambda: len(names_on_bus()) >= others + 2, "both listen")
        asked = h.start_fetch(key=key)
        told, _ = waiting.communicate(timeout=20 * h.SLACK)
        h.expect(told.endswith(" waiting client=asks delay=600000 approved_by_default=false\n"), told)
        h.expect_equal(waiting.returncode, 0, "it waits")
        # Who comes later finds it waiting.
        h.expect_equal(ctl("wait", "asks").returncode, 0, "it waits already")
        h.expect_equal(granted.poll(), None, "not granted yet")
        ctl("-A", "asks")
        h.expect_equal(h.finish_fetch(asked).blob, b"blob", "what it got")
        granted.communicate(timeout=20 * h.SLACK)
        h.expect_equal(granted.returncode, 0, "granted")
        for event in ("enabled", "disabled"):
            ctl(f"--{event[:-1]}", "one")
            h.expect_equal(ctl("wait", "--for", event, "one").returncode, 0, event)
        removed = subprocess.Popen([CTL, "wait", "one"], stderr=subprocess.PIPE, text=True)
        h.wait_until(lambda: len(names_on_bus()) >= others + 1, "it listens")
        ctl("-r", "one")
        told = removed.communicate(timeout=20 * h.SLACK)
        h.expect_equal(removed.returncode, 1, f"removed: {told}")
        for words, status in ((["nobody"], 1), ([], 2), (["one", "third"], 2), (["-f", "x", "third"], 2),
                              (["-t", "x", "third"], 2)):
            h.expect_equal(ctl("wait", *words).returncode, status, f"wait {words}")


def names_on_bus():
    """The connections on the bus but our own: the server's and those of who listens."""
    caller = Caller()
    names = caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames",
                        to="org.freedesktop.DBus")[0]
    own = caller.connection.get_unique_name()
    caller.close()
    return [name for name in names if name.startswith(":") and name != own]


class Stream:
    """mandos-ctl events; its lines as they come."""

    def __init__(self, *words):
        self.file = h.temporary() / f"events-{time.monotonic_ns()}"
        self.errors = self.file.with_suffix(".errors")
        before = len(names_on_bus())
        with open(self.file, "w") as out, open(self.errors, "w") as errors:
            self.process = subprocess.Popen([CTL, "events", *words], stdout=out, stderr=errors)
        h.wait_until(lambda: len(names_on_bus()) > before, "it listens")

    def lines(self):
        return self.file.read_text().splitlines()

    def wait_for(self, pattern, seconds=20):
        find = lambda: next((line for line in self.lines() if re.search(pattern, line)), None)
        try:
            return h.wait_until(find, pattern, seconds)
        except h.Failure as failure:
            raise h.Failure(f"{failure} in {self.lines()}") from None

    def stop(self):
        self.process.terminate()
        h.expect_equal(self.process.wait(20 * h.SLACK), 0, "status after SIGTERM")
        return self.lines()


@h.case("events tells what happens, also over a restart of the server and of the bus")
def _():
    config, key = asking()
    # The first check comes at a random time within the interval, and must not come now.
    for section in config.clients.values():
        section |= {"interval": "P200D", "timeout": "P400D"}
    stranger, strange_id = h.test_key()
    with Serving(config=config):
        plain, lines, third = Stream(), Stream("--json"), Stream("-j", "third")
        waiting = h.start_fetch(key=key)
        lines.wait_for('"waiting"')
        late = Stream("asks")
        late.wait_for(r"Z waiting client=asks$")
        ctl("-A", "asks")
        h.finish_fetch(waiting)
        lines.wait_for('"granted"')
        h.fetch(key=stranger)
        ctl("-d", "asks")
        h.fetch(key=key)
        lines.wait_for('"refused"')
        ctl("-c", "exit 3", "--start-checker", "third")
        lines.wait_for('"checked"')
        ctl("-e", "asks")
        ctl("-b", "one")
        ctl("-t", "2s", "one")
        lines.wait_for('"expired"')
        ctl("-r", "third")
        third.wait_for('"removed"')
        lines.wait_for('"removed"')
        plain.wait_for("removed")
        told = [json.loads(line) for line in lines.stop()]
        h.expect_equal(list(told[0]), ["time", "event", "client", "delay", "approved_by_default"], "keys")
        h.expect_equal([(each.pop("event"), each.pop("client", None), each) for each in told
                        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each.pop("time"))], [
            ("waiting", "asks", {"delay": 600000, "approved_by_default": False}),
            ("granted", "asks", {}),
            ("unknown-key", None, {"key_id": strange_id.upper(), "address": "::1"}),
            ("disabled", "asks", {}),
            ("refused", "asks", {"reason": "Disabled"}),
            ("checked", "third", {"ok": False, "status": 3}),
            ("enabled", "asks", {}),
            ("expired", "one", {}),
            ("disabled", "third", {}),
            ("removed", "third", {})], "the events")
        h.expect_equal([line.split("Z ", 1)[1] for line in plain.lines()][:2], [
            "waiting client=asks delay=600000 approved_by_default=false", "granted client=asks"], "text")
        h.expect_equal([json.loads(line)["client"] for line in third.stop()], ["third"] * 3, "its events")
    plain.wait_for("server-gone")
    with Serving(config=config):
        plain.wait_for("server-back")
        ctl("-H", "new", "one")
    errors = plain.errors.read_text()
    h.expect("lost the system bus" in errors and "connected to the system bus again" in errors, errors)
    plain.stop()


def commands():
    """The command lines of all processes."""
    for pid in h.processes():
        with contextlib.suppress(OSError):
            yield pathlib.Path(f"/proc/{pid}/cmdline").read_text()


@h.case("events --exec runs a program for each event, without a shell and not too many at a time")
def _():
    place = h.temporary() / "exec"
    place.mkdir()
    program = place / "program"
    program.write_text(f"""#!/bin/sh
echo "$#|$MANDOS_EVENT|$MANDOS_CLIENT|$MANDOS_REASON|$MANDOS_KEY_ID|$MANDOS_FAKE|${{MANDOS_TIME%%T*}}" >> {place}/told
while [ ! -e {place}/go ]; do sleep 0.05; done
exit 5
""")
    program.chmod(0o755)
    with Serving():
        stream = Stream("--exec", str(program))
        for _ in range(6):
            ctl("-d", "one")
            ctl("-e", "one")
        stream.wait_for("enabled")
        h.wait_until(lambda: len(stream.lines()) == 12, "all events")
        told = lambda: (place / "told").read_text().splitlines() if (place / "told").exists() else []
        h.wait_until(lambda: len(told()) == 4, "four run")
        running = list(h.processes().values()).count(stream.process.pid)
        h.expect_equal(running, 4, "at a time")
        (place / "go").touch()
        h.wait_until(lambda: len(told()) == 12, "all have run")
        today = stream.lines()[0][:10]
        h.expect_equal(sorted(told()), [f"0|disabled|one||||{today}"] * 6 + [f"0|enabled|one||||{today}"] * 6,
                       "what they were told")
        h.wait_until(lambda: "ended with status 5" in stream.errors.read_text(), "what failed")
        stream.stop()
        # Four that hang do not keep the others from running for good.
        (place / "go").unlink()
        (place / "told").unlink()
        stream = Stream("--exec", str(program), "--kill-after", "1s")
        for _ in range(3):
            ctl("-d", "one")
            ctl("-e", "one")
        h.wait_until(lambda: len(told()) == 6, "all were run", 30)
        h.wait_until(lambda: "ran for 00:00:01 and is killed" in stream.errors.read_text(), "that they hung")
        ctl("-d", "one")
        h.wait_until(lambda: len(told()) == 7, "one more")
        stream.stop()
        h.wait_until(lambda: not any(str(program) in each for each in commands()), "none is left")
        for time_text in ("0", "x", ""):
            h.expect_equal(ctl("events", "--exec", "true", "--kill-after", time_text).returncode, 2, "no time")
        ctl("-e", "one")
        stream = Stream("--exec", "/nonexistent")
        ctl("-d", "one")
        stream.wait_for("disabled")
        h.wait_until(lambda: "cannot run /nonexistent" in stream.errors.read_text(), "what cannot run")
        stream.stop()


@h.case("settings move from the original to ours and back, and who is disabled stays disabled")
def _():
    change = [["-d", "third"], ["-t", "PT2H", "-H", "moved.example", "one"],
              ["--deny-by-default", "--approval-delay=PT9M", "-c", "exit 0 # \u00fc", "foo.bar-1"]]
    saved = h.temporary() / "before.json"
    for original in (True, False):
        with Serving(original):
            for words in change:
                h.expect_equal(ctl(*words).returncode, 0, f"{words}")
            saved.write_text(ctl("--dump-json").stdout)
            h.expect_equal((ctl("diff", str(saved)).stdout, ctl("diff", str(saved)).returncode), ("", 0),
                           "nothing differs")
        config = three_clients()
        config.clients["one"]["key_id"] = KEY % 77  # another machine of that name
        for config, status in ((three_clients(), 0), (config, 1)):
            with Serving(not original, config=config):
                before = ctl("diff", str(saved))
                h.expect_equal(before.returncode, 1, "all differs")
                h.expect("third: Enabled: file No, server Yes\n" in before.stdout, before.stdout)
                h.expect("one: Timeout: file 02:00:00, server 01:00:00\n" in before.stdout, before.stdout)
                ran = ctl("restore", str(saved))
                h.expect_equal(ran.returncode, status, ran.stderr)
                h.expect("third: Enabled = No" in ran.stdout, ran.stdout)
                h.expect_equal(ctl("--is-enabled", "third").returncode, 1, "it stays disabled")
                after = ctl("diff", str(saved))
                if status == 0:
                    h.expect_equal((after.returncode, after.stdout), (0, ""), "nothing differs any more")
                else:
                    h.expect("one: its key differs" in ran.stderr, ran.stderr)
                    h.expect("one: KeyID: file 0" in after.stdout, after.stdout)
                    h.expect("one: Host: file moved.example" in after.stdout, after.stdout)


@h.case("restore enables nobody unasked, and a wrong file changes nothing")
def _():
    saved = h.temporary() / "saved.json"
    with Serving():
        saved.write_text(ctl("-j").stdout)
        ctl("-d", "one")
        ran = ctl("restore", str(saved))
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        h.expect("left disabled without --enable" in ran.stderr, ran.stderr)
        h.expect_equal(ctl("-V", "one").returncode, 1, "still disabled")
        ran = ctl("restore", "--enable", str(saved))
        h.expect_equal((ran.returncode, ran.stdout), (0, "one: Enabled = Yes\n"), ran.stderr)
        all_clients = json.loads(saved.read_text())
        all_clients["oen"] = all_clients.pop("one")
        saved.write_text(json.dumps(all_clients))
        ran = ctl("restore", str(saved))
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        h.expect('no client "oen"; did you mean "one"?' in ran.stderr, ran.stderr)
        ran = ctl("diff", str(saved))
        h.expect_equal((ran.returncode, ran.stdout), (1, "oen: only in the file\none: only on the server\n"),
                       "names")
        before = ctl("-j").stdout
        for text, told in (("", "not JSON"), ("{", "not JSON"), ("[]", "JSON that is not an object"), ('{"one": 1}', "not an object"),
                           ('{"one": {"Enabled": 0}}', "Enabled has the wrong type"),
                           ('{"third": {"Enabled": false}, "one": {"Timeout": -1}}', "Timeout has the wrong type"),
                           # What is of something else changes nothing, and is no success either.
                           ('{"third": {"Enabled": false}, "one": {"enabled": false}}', "found no Enabled"),
                           (json.dumps({"a.example": json.loads(before)}), "found no Enabled"),
                           # The bus would carry the half before it.
                           ('{"one": {"Enabled": true, "Host": "x\\u0000y"}}', "Host has a null character")):
            saved.write_text(text)
            for command, status in (("diff", 2), ("restore", 1)):
                ran = ctl(command, str(saved))
                h.expect_equal((ran.returncode, ran.stdout), (status, ""), f"{command} {text}")
                h.expect(told in ran.stderr, ran.stderr)
        h.expect_equal(ctl("-j").stdout, before, "nothing has changed")
        for command, status in (("diff", 2), ("restore", 1)):
            h.expect_equal(ctl(command, "/nonexistent").returncode, status, "no file")
            h.expect_equal(ctl(command).returncode, 2, "usage")


@h.case("metrics are OpenMetrics to a foreign parser")
def _():
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
    samples = lambda text: {(sample.name, *sample.labels.values()): sample.value
                            for family in text_string_to_metric_families(text) for sample in family.samples}
    config = three_clients().client('odd"\\name', KEY % 9, b"x")
    with Serving(config=config):
        ctl("-d", "one")
        ctl("-b", "third")
        found = samples(ctl("metrics").stdout)
        client = json.loads(ctl("-j", "third").stdout)["third"]
        utc = lambda text: datetime.datetime.fromisoformat(text + "+00:00").timestamp()
        for key, value in ((("mandos_up",), 1), (("mandos_clients", "enabled"), 3),
                           (("mandos_clients", "disabled"), 1), (("mandos_client_enabled", "one"), 0),
                           (("mandos_client_enabled", 'odd"\\name'), 1), (("mandos_approvals_pending",), 0),
                           (("mandos_client_last_checker_status", "third"), 0),
                           (("mandos_client_timeout_seconds", "third"), 3600)):
            h.expect_equal(found.get(key), value, f"{key}")
        for key, name in (("mandos_client_last_check_timestamp_seconds", "LastCheckedOK"),
                          ("mandos_client_expiry_timestamp_seconds", "Expires")):
            h.expect(abs(found[key, "third"] - utc(client[name])) < 0.002, f"{key}")
        h.expect(("mandos_client_expiry_timestamp_seconds", "one") not in found, "a disabled client")
        place = h.temporary() / "metrics"
        place.mkdir()
        h.expect_equal(ctl("metrics", "--output", str(place / "mandos.prom")).returncode, 0, "a file")
        aged = lambda samples: {key: value for key, value in samples.items() if not key[0].endswith("_age_seconds")}
        h.expect_equal(aged(samples((place / "mandos.prom").read_text())), aged(found), "the same")
        h.expect_equal((place / "mandos.prom").stat().st_mode & 0o777, 0o644, "its mode")
        h.expect_equal([each.name for each in place.iterdir()], ["mandos.prom"], "files")
        # What is no file is not replaced by one.
        os.mkfifo(place / "fifo")
        os.mknod(place / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (place / "link").symlink_to("mandos.prom")
        kinds = lambda: {each.name: stat.S_IFMT(each.lstat().st_mode) for each in place.iterdir()}
        before = kinds()
        for name in ("fifo", "null", "link", "."):
            ran = ctl("metrics", "--output", str(place / name))
            h.expect_equal(ran.returncode, 1, f"{name}: {ran.stderr}")
            h.expect("regular file" in ran.stderr, ran.stderr)
        h.expect_equal(kinds(), before, "what they are")
        for name in ("fifo", "null", "link"):
            (place / name).unlink()
    ran = ctl("metrics", "-o", str(place / "mandos.prom"))
    h.expect_equal(ran.returncode, 1, "no bus")
    h.expect_equal(samples((place / "mandos.prom").read_text()), {("mandos_up",): 0}, "no server")
    h.expect_equal(ctl("metrics", "-o", str(place / "none/mandos.prom")).returncode, 1, "no folder")


@h.case("bash completes options, commands, files and the names of clients")
def _():
    script = h.PREFIX / "share/bash-completion/completions/mandos-ctl"
    if not pathlib.Path("/dev/fd").exists():
        pathlib.Path("/dev/fd").symlink_to("/proc/self/fd")

    def completed(*words):
        line = " ".join(f"'{word}'" for word in (CTL, *words))
        done = subprocess.run(
            ["bash", "-uec", f". {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; "
             'compopt() { :; }; _mandos_ctl; printf "%s\\n" "${COMPREPLY[@]}"'],
            capture_output=True, text=True, timeout=60 * h.SLACK)
        h.expect_equal((done.returncode, done.stderr), (0, ""), f"completing {words}")
        return set(done.stdout.split("\n")) - {""}
    h.expect_equal(completed("t"), set(), "without a server")
    config = three_clients().client("with blank", KEY % 9, b"x")
    with Serving(config=config):
        options = lambda *words: set(re.findall(r"(?m)^  (?:-\w, |    )(--[a-z-]+)", ctl(*words, "--help").stdout))
        h.expect_equal(completed("--"), options(), "options")
        for command in ("diff", "events", "metrics", "restore", "status", "verify", "wait"):
            h.expect_equal(completed(command, "--"), options(command), f"options of {command}")
            h.expect(command in completed(command[:2]), command)
        h.expect_equal(completed("th"), {"third"}, "a client")
        h.expect_equal(completed("--disable", ""), {"one", "third", "foo.bar-1", "with\\ blank"}, "clients")
        h.expect_equal(completed("verify", "o"), {"one"}, "a client of a command")
        h.expect_equal(completed("--secret", "/etc/host"),
                       {str(each) for each in pathlib.Path("/etc").glob("host*")}, "files")
        h.expect_equal(completed("diff", "/sy"), {"/sys"}, "a file to compare")
        h.expect_equal(completed("wait", "--for", "g"), {"granted"}, "an event")
        h.expect_equal(completed("--timeout", ""), set(), "a time")
        h.expect_equal(completed("--server", ".h"), {".host"}, "a server")
        h.expect_equal(completed("--server", "a", "--server", "=", "b", "ver"), {"verify"}, "a command after servers")
        h.expect_equal(completed("--server", "a", "restore", "--en"), {"--enable"}, "its option")


@h.case("every command has a help of at most 80 columns")
def _():
    for command in ("diff", "events", "metrics", "restore", "status", "verify", "wait"):
        ran = ctl(command, "--help")
        h.expect_equal((ran.returncode, ran.stderr), (0, ""), command)
        h.expect(ran.stdout.startswith(f"Usage: mandos-ctl {command}"), ran.stdout)
        h.expect_equal([line for line in ran.stdout.splitlines() if len(line) > 80], [], command)
        h.expect(ctl(command, "--nonsense").returncode in (2, 3), command)
        h.expect(f"\n  {command} " in ctl("--help").stdout, f"{command} in --help")


if __name__ == "__main__":
    h._cases[:] = [each for each in h._cases if each[1].__module__ == "__main__"]
    h.main()
