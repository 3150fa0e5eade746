#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service as an administrator has it: systemd as PID 1, in namespaces of the test's own, starts
the unit that `meson install` installs, in its sandbox, and the real mandos-client is served by it.

The root file system is the machine's own under an overlay that is thrown away. Environment as for
the harness. Needs root, systemd, dbus, fping, mandos and mandos-client.
"""
import os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness  # noqa: E402

PREFIX = str(harness.PREFIX)
# PrivateTmp= gives a folder of its own; /tmp itself may hold the build, where checkers write nothing.
CHECKER = "fping -q -- %%(host)s && touch /var/tmp/checked"

# PID 1 of the new namespaces until it becomes systemd. $1: a folder of the test's own.
SETUP = r"""
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  touch dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
ip link set lo up

DESTDIR=$PWD meson install --no-rebuild --quiet -C "$2"
# Where systemd looks, whatever the prefix is.
for part in systemd/system sysusers.d tmpfiles.d; do
  mkdir -p usr/local/lib/$part
  [ "$3" = /usr/local ] || cp ".$3/lib/$part"/mandos* usr/local/lib/$part/
done
cp "$1.conf"/* etc/mandos/
chown -R 0:0 etc/mandos
# As a Python server leaves it: ours takes it over.
rm -rf var/lib/mandos/*
chown daemon var/lib/mandos

rm -rf etc/systemd/system/*.wants etc/mandos/clients.d/* var/log/journal
rm -f etc/systemd/system/mandos.service
for unit in systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-logind systemd-networkd \
    systemd-resolved systemd-tmpfiles-setup systemd-tmpfiles-clean apparmor docker console-getty getty@tty1; do
  ln -sf /dev/null etc/systemd/system/$unit.service
done
mkdir -p etc/systemd/system/mandos.service.d
# The build may lie where the sandbox hides it.
printf '[Unit]\nWants=\n[Service]\nWatchdogSec=4\nBindReadOnlyPaths=%s\n%s\n' "$3" "$4" > etc/systemd/system/mandos.service.d/test.conf
printf '[Unit]\nWants=basic.target dbus.socket\nAfter=basic.target\n' > etc/systemd/system/mandos-test.target
exec env -i container=mandos-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . /lib/systemd/systemd --unit=mandos-test.target --log-target=console --show-status=no
"""


class Machine:
    """systemd in namespaces; everything in it dies with it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mandos-systemd-"))
        self.conf = pathlib.Path(f"{self.folder}.conf")
        self.conf.mkdir(mode=0o700)
        self.keys, section = harness.real_client()
        section.update(host="127.0.0.1", checker=CHECKER, interval="PT2S", timeout="PT10M")
        self.section = section
        self.write("mandos.conf", {"DEFAULT": {"port": harness.PORT, "zeroconf": "no",
                                               "debuglevel": "INFO"}})
        self.write("clients.conf", {"real": section})
        self.hierarchy = next(pathlib.Path(line.split()[1]) for line in
                              pathlib.Path("/proc/self/mounts").read_text().splitlines()
                              if line.split()[2] == "cgroup2")
        self.cgroup = self.hierarchy / self.folder.name
        self.cgroup.mkdir()
        enter = f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"'
        self.log = open(self.folder.with_suffix(".log"), "w+")
        self.process = subprocess.Popen(
            ["sh", "-c", enter, "sh", "unshare", "--mount", "--pid", "--net", "--uts", "--ipc",
             "--cgroup", "--fork", "--kill-child=KILL", "sh", "-c", SETUP, "sh", self.folder,
             harness.BUILD, PREFIX,
             "ProtectHome=tmpfs" if PREFIX.startswith(("/root/", "/home/")) else ""], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = None
        harness.wait_until(self.find_init, "the first process of the namespaces", 60)
        harness.wait_until(lambda: self.run("systemctl", "is-active", "mandos-test.target",
                                            check=False).stdout == "active\n", "systemd is up", 90)

    def write(self, name, sections, folder=None):
        file = (folder or self.conf) / name
        file.touch(mode=0o600)
        with open(file, "w") as out:
            for title, options in sections.items():
                out.write(f"[{title}]\n")
                for key, value in options.items():
                    out.write(f"{key} = " + str(value).replace("\n", "\n\t") + "\n")

    def find_init(self):
        if self.process.poll() is not None:
            raise harness.Failure(f"it did not start: {self.folder.with_suffix('.log').read_text()}")
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        found = pathlib.Path(children).read_text().split()
        if found and pathlib.Path(f"/proc/{found[0]}/comm").read_text() == "systemd\n":
            self.pid = int(found[0])
        return self.pid

    def run(self, *command, check=True, root=True, timeout=60):
        """Inside; with `root` in its file system, else only on its network."""
        where = ["-m", "-p", "-u", "-i", "-C", "-r", "-w"] if root else []
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-n", *where, "--", *command],
                              capture_output=True, text=True, timeout=timeout * harness.SLACK)
        if check and done.returncode != 0:
            raise harness.Failure(f"{command}: {done.stdout}{done.stderr}")
        return done

    def root(self, path):
        return pathlib.Path(f"/proc/{self.pid}/root{path}")

    def property(self, name, unit="mandos.service"):
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def processes(self):
        """Role -> process numbers as seen from outside."""
        found = {}
        for pid in self.members():
            try:
                name = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(os.path.basename(name), []).append(pid)
        return found

    def members(self):
        file = self.cgroup / "system.slice/mandos.service/cgroup.procs"
        try:
            return [int(line) for line in file.read_text().split()]
        except (FileNotFoundError, OSError):
            return []

    def journal(self, unit="mandos.service"):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def secret(self):
        """What the real client gets and decrypts, or None."""
        plugin = next(pathlib.Path("/usr/lib").glob("*/mandos/plugins.d/mandos-client"))
        files = [f"--{option}={self.keys / file}" for option, file in (
            ("pubkey", "pubkey.txt"), ("seckey", "seckey.txt"), ("tls-privkey", "tls-privkey.pem"),
            ("tls-pubkey", "tls-pubkey.pem"))]
        try:
            done = subprocess.run(["nsenter", "-t", str(self.pid), "-n", "--", plugin,
                                   f"--connect=::1:{harness.PORT}", "--interface=none", "--retry=1",
                                   *files], capture_output=True, timeout=20 * harness.SLACK)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        # Its cgroups, deepest first, once the kernel has let go of the processes.
        for _ in range(100):
            for folder in sorted((each for each in self.cgroup.rglob("*") if each.is_dir()),
                                 key=lambda each: -len(each.parts)) + [self.cgroup]:
                try:
                    folder.rmdir()
                except OSError:
                    pass
            if not self.cgroup.exists():
                break
            time.sleep(0.1)
        self.log.close()
        self.folder.with_suffix(".log").unlink()
        shutil.rmtree(self.conf)
        self.folder.rmdir()


PASSPHRASE = b"correct horse battery staple"
ROLES = {"mandos", "mandos-monitor", "mandos-networker", "mandos-checker-runner"}


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = Machine()
        cls.addClassCleanup(cls.machine.end)
        cls.machine.run("systemd-sysusers")
        cls.machine.run("systemctl", "reload-or-restart", "dbus.service", check=False)

    def setUp(self):
        self.run_ = self.machine.run
        self.run_("systemctl", "reset-failed", check=False)

    def start(self):
        done = self.run_("systemctl", "start", "mandos.service", check=False)
        self.assertEqual(done.returncode, 0, done.stderr + self.machine.journal())
        self.assertLessEqual(ROLES, set(self.machine.processes()), self.machine.journal())

    def test_1_starts_in_its_sandbox_and_serves(self):
        machine = self.machine
        self.assertEqual(machine.property("FragmentPath"),
                         "/usr/local/lib/systemd/system/mandos.service")  # not Debian's
        self.start()
        self.assertEqual(machine.property("ActiveState"), "active")
        self.assertRegex(machine.property("StatusText"), r"Serving 1 clients on port 4711")
        self.assertEqual(machine.secret(), PASSPHRASE)
        self.assertRegex(machine.journal(), r'audit: verdict=granted client="real" key_id=\w{64} '
                         r'address=::1 reason="No approval needed"')
        state = machine.root("/var/lib/mandos").stat()
        self.assertEqual((state.st_uid, state.st_gid, state.st_mode & 0o7777), (0, 0, 0o700))
        # The unit's sandbox is really there, and each process's own within it.
        for role, pids in machine.processes().items():
            if role not in ROLES:
                continue
            status = dict(line.split(":\t", 1) for line in pathlib.Path(
                f"/proc/{pids[0]}/status").read_text().splitlines() if ":\t" in line)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), role)
            if role in ("mandos-monitor", "mandos-networker"):
                self.assertEqual(int(status["CapBnd"], 16) | int(status["CapEff"], 16), 0, role)
            self.assertEqual(status["Uid"].split()[0] == "0", role in ("mandos", "mandos-monitor"))
        mounts = pathlib.Path(f"/proc/{machine.processes()['mandos-monitor'][0]}/mounts").read_text()
        self.assertRegex(mounts, r"(?m)^\S+ / overlay ro,")

    def test_1a_who_strangers_reach_cannot_write_to_the_journal(self):
        self.start()
        for role in ("mandos-networker", "mandos-bus-agent"):
            pid = self.machine.processes()[role][0]
            self.assertRegex(os.readlink(f"/proc/{pid}/fd/2"), "/dev/null$", role)
        monitor = self.machine.processes()["mandos-monitor"][0]
        self.assertIn("socket:", os.readlink(f"/proc/{monitor}/fd/2"))

    def test_1b_units_run_a_program_for_each_event_and_write_metrics(self):
        machine, ctl = self.machine, PREFIX + "/sbin/mandos-ctl"
        self.start()
        harness.wait_until(lambda: self.run_(ctl, check=False).returncode == 0, "the server is on the bus", 20)
        program = machine.root("/etc/mandos/event")
        self.run_("systemctl", "start", "mandos-events.service")
        self.assertEqual(machine.property("ActiveState", "mandos-events.service"), "inactive")  # no program
        program.write_text("#!/bin/sh\necho told $MANDOS_EVENT $MANDOS_CLIENT by $(id -un)\n"
                           f"{ctl} --remove real\n")
        program.chmod(0o755)
        self.addCleanup(self.run_, "systemctl", "stop", "mandos-events.service")
        self.run_("systemctl", "start", "mandos-events.service")

        def told():
            self.run_(ctl, "--disable", "real")
            self.run_(ctl, "--enable", "real")  # still there: the program may only read
            return "told disabled real by _mandos-watch" in machine.journal("mandos-events.service")
        harness.wait_until(told, "the program has run", 20)
        harness.wait_until(lambda: "only administrators may change this" in
                           machine.journal("mandos-events.service"), "and was refused a change", 20)
        self.run_("systemctl", "stop", "mandos-events.service")
        # Where there is no node exporter, nothing is to be done.
        self.run_("systemctl", "start", "mandos-metrics.service")
        self.assertFalse(machine.root("/run/mandos-metrics").exists())
        folder = machine.root("/var/lib/prometheus/node-exporter")
        folder.mkdir(parents=True)
        os.chown(folder, 1, 1)
        self.run_("systemctl", "start", "mandos-metrics.timer")
        self.addCleanup(self.run_, "systemctl", "stop", "mandos-metrics.timer")
        for enabled, change in ((1, "--enable"), (0, "--disable"), (1, "--enable")):
            self.run_(ctl, change, "real")
            self.run_("systemctl", "start", "mandos-metrics.service")
            text = self.run_("cat", "/var/lib/prometheus/node-exporter/mandos.prom").stdout
            self.assertIn("mandos_up 1\n", text)
            self.assertIn(f'mandos_client_enabled{{client="real"}} {enabled}\n', text)
        self.assertEqual(os.readlink(folder / "mandos.prom"), "/run/mandos-metrics/mandos.prom")
        self.run_("systemctl", "stop", "mandos.service")
        self.assertNotEqual(self.run_("systemctl", "start", "mandos-metrics.service", check=False).returncode, 0)
        self.assertIn("mandos_up 0\n", self.run_("cat", "/run/mandos-metrics/mandos.prom").stdout)

    def test_2_checkers_work_in_the_sandbox(self):
        self.start()

        def checked():
            return list(self.machine.root("/var/tmp").glob("systemd-private-*-mandos.service-*/tmp/checked"))
        harness.wait_until(checked, f"fping as a checker succeeds: {self.machine.journal()}", 20)

    def test_3_reload_takes_a_client_that_was_added(self):
        self.start()
        ours = lambda: {role: pids for role, pids in self.machine.processes().items() if role in ROLES}
        before = ours()
        self.machine.write("more.conf", {"more": dict(self.machine.section, key_id="ab" * 32)},
                           self.machine.root("/etc/mandos/clients.d"))
        self.run_("systemctl", "reload", "mandos.service")
        harness.wait_until(lambda: "2 clients" in self.machine.journal(), "the new client", 10)
        self.assertEqual(self.machine.secret(), PASSPHRASE)
        self.assertEqual(ours(), before)  # nobody was started afresh for it
        self.assertEqual(self.machine.property("ActiveState"), "active")

    def test_3a_a_reload_that_fails_says_why(self):
        self.start()
        wrong = self.machine.root("/etc/mandos/clients.d/wrong.conf")
        self.machine.write("wrong.conf", {"wrong": {"key_id": "1234"}}, wrong.parent)
        done = self.run_("systemctl", "reload", "mandos.service", check=False)
        wrong.unlink()
        self.assertNotEqual(done.returncode, 0)
        journal = self.machine.journal()
        for words in ("64 hexadecimal digits", "nothing was changed", "the reload failed"):
            self.assertIn(words, journal)
        self.assertEqual(self.machine.property("ActiveState"), "active")
        self.assertEqual(self.machine.secret(), PASSPHRASE)
        self.run_("systemctl", "reload", "mandos.service")

    def test_3b_an_interface_that_comes_late_is_waited_for(self):
        self.run_("systemctl", "stop", "mandos.service")
        conf = self.machine.root("/etc/mandos/mandos.conf")
        before = conf.read_text()
        self.addCleanup(self.run_, "systemctl", "stop", "mandos.service")
        self.addCleanup(conf.write_text, before)
        conf.write_text(before + "interface = late0\n")
        self.start()  # neither fails nor hangs
        status = lambda: self.machine.property("StatusText")
        self.assertIn("Waiting for the interface late0", status())
        self.assertIsNone(self.machine.secret())
        self.run_("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1")
        harness.wait_until(lambda: "Serving" in status(), f"the status: {self.machine.journal()}", 10)
        self.run_("ip", "link", "delete", "late0")
        harness.wait_until(lambda: "Waiting for the interface late0" in status(), "the status", 10)

    def test_4_restart_keeps_the_state(self):
        self.start()
        harness.wait_until(lambda: len(list(self.machine.root("/var/lib/mandos").iterdir())) >= 1,
                           "state on disk", 15)
        main = self.machine.property("MainPID")
        self.run_("systemctl", "restart", "mandos.service")
        self.assertNotEqual(self.machine.property("MainPID"), main)
        self.assertEqual(self.machine.secret(), PASSPHRASE)

    def test_4b_a_state_file_that_another_could_have_planted_stops_the_start(self):
        self.start()
        self.run_("systemctl", "stop", "mandos.service")
        folder = self.machine.root("/var/lib/mandos")
        planted = folder / "planted.client"
        # The file may be root's: who owned the folder could have renamed, kept or removed any.
        for file_owner, owner, mode, why in (
                (1, 1, 0o700, "found in a directory of user daemon"), (0, 1, 0o700, "found in a directory of user daemon"),
                (0, 1, 0o755, "found in a directory of user daemon"), (0, 0, 0o770, "that others may write"),
                (1, 0, 0o700, "planted.client: belongs to user daemon, expected root")):
            with self.subTest(file_owner=file_owner, owner=owner, mode=oct(mode)):
                planted.write_bytes(b"x")
                os.chown(planted, file_owner, file_owner)
                os.chown(folder, owner, owner)
                folder.chmod(mode)
                self.run_("systemctl", "reset-failed", "mandos.service", check=False)
                seen = len(self.machine.journal())
                done = self.run_("systemctl", "start", "mandos.service", check=False)
                self.assertNotEqual(done.returncode, 0)
                self.run_("systemctl", "stop", "mandos.service")
                self.assertIn(why, self.machine.journal()[seen:])
                self.assertTrue(planted.exists())
                status = folder.stat()
                self.assertEqual((status.st_uid, status.st_gid, status.st_mode & 0o7777), (owner, owner, mode))
                planted.unlink()
        for left in folder.iterdir():
            left.unlink()
        os.chown(folder, 1, 1)
        self.start()
        self.assertEqual((folder.stat().st_uid, folder.stat().st_mode & 0o7777), (0, 0o700))
        self.assertEqual(self.machine.secret(), PASSPHRASE)

    def test_4c_a_state_directory_that_is_a_link_is_refused_and_what_it_leads_to_left_alone(self):
        self.run_("systemctl", "stop", "mandos.service")
        folder, elsewhere = self.machine.root("/var/lib/mandos"), self.machine.root("/var/lib/elsewhere")
        shutil.rmtree(folder)
        elsewhere.mkdir()
        os.chown(elsewhere, 1, 1)
        elsewhere.chmod(0o750)
        folder.symlink_to("elsewhere")
        done = self.run_("systemctl", "start", "mandos.service", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.run_("systemctl", "stop", "mandos.service")
        self.assertIn("/var/lib/mandos: found a symbolic link", self.machine.journal())
        self.assertEqual((elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o7777), (1, 0o750))
        folder.unlink()
        self.start()  # makes the folder
        self.assertEqual((folder.stat().st_uid, folder.stat().st_mode & 0o7777), (0, 0o700))

    def test_4d_the_state_directory_stays_ours_over_a_boot_and_an_upgrade_of_the_package_mandos(self):
        # doc/operating.md and README.Debian, "Switch over".
        self.run_("dpkg-statoverride", "--add", "root", "root", "0700", "/var/lib/mandos")
        self.addCleanup(self.run_, "dpkg-statoverride", "--remove", "/var/lib/mandos")
        self.start()
        folder = self.machine.root("/var/lib/mandos")
        ours = self.machine.root("/usr/local/lib/tmpfiles.d/mandos.conf")
        masked = self.machine.root("/etc/tmpfiles.d/mandos.conf")

        def upgrade(what):
            self.run_("systemd-tmpfiles", "--create")  # as at boot
            self.run_("systemd-tmpfiles", "--create", "mandos.conf")
            # It restarts mandos.service, which is ours. The variables are what it has from dpkg.
            done = self.run_("env", "DEBIAN_FRONTEND=noninteractive", "DPKG_MAINTSCRIPT_PACKAGE=mandos",
                             "DPKG_MAINTSCRIPT_NAME=postinst",
                             "/var/lib/dpkg/info/mandos.postinst", "configure", "1.8.15-1", check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual((folder.stat().st_uid, folder.stat().st_mode & 0o7777), (0, 0o700), what)
            self.start()
            self.assertEqual(self.machine.secret(), PASSPHRASE)

        upgrade("installed below /usr/local: our file of the same name replaces Debian's")
        aside = ours.rename(ours.with_name("mandos-separated.conf"))
        masked.parent.mkdir(exist_ok=True)
        masked.symlink_to("/dev/null")
        self.addCleanup(aside.rename, ours)
        self.addCleanup(masked.unlink)
        upgrade("installed as a package: a link replaces Debian's")

    def test_5_a_monitor_that_is_killed_is_replaced(self):
        self.start()
        main = self.machine.property("MainPID")
        monitor = self.machine.processes()["mandos-monitor"][0]
        os.kill(monitor, signal.SIGKILL)
        harness.wait_until(lambda: self.machine.processes().get("mandos-monitor", [monitor]) !=
                           [monitor] and self.machine.secret() == PASSPHRASE, "served again", 30)
        self.assertEqual(self.machine.property("MainPID"), main)

    def test_6_the_watchdog_replaces_a_supervisor_that_hangs(self):
        self.start()
        supervisor = self.machine.processes()["mandos"][0]
        restarts = int(self.machine.property("NRestarts"))
        os.kill(supervisor, signal.SIGSTOP)
        harness.wait_until(lambda: int(self.machine.property("NRestarts")) > restarts,
                           "systemd's watchdog", 30)
        harness.wait_until(lambda: self.machine.property("ActiveState") == "active", "again", 30)
        self.assertNotIn(supervisor, self.machine.members())
        self.assertEqual(self.machine.secret(), PASSPHRASE)

    def test_7_stop_leaves_nothing(self):
        self.start()
        began = time.monotonic()
        self.run_("systemctl", "stop", "mandos.service")
        self.assertLess(time.monotonic() - began, 10 * harness.SLACK)
        self.assertEqual(self.machine.members(), [])
        self.assertEqual(self.machine.property("Result"), "success")
        self.assertEqual(self.machine.property("ExecMainStatus"), "0")
        left = self.run_("ps", "-eo", "args").stdout
        self.assertNotRegex(left, r"(?m)^(\S*/)?mandos")
        self.assertIsNone(self.machine.secret())

    def test_8_socket_activation(self):
        self.run_("systemctl", "stop", "mandos.service")
        self.run_("systemctl", "start", "mandos.socket")
        self.addCleanup(self.run_, "systemctl", "stop", "mandos.service", "mandos.socket")
        self.assertEqual(self.machine.members(), [])
        # The client's connection is what starts the service, and it is not lost.
        self.assertEqual(self.machine.secret(), PASSPHRASE)
        self.assertEqual(self.machine.property("ActiveState"), "active")
        # The socket outlives a restart.
        self.run_("systemctl", "restart", "mandos.service")
        self.assertEqual(self.machine.secret(), PASSPHRASE)

    def test_9_a_wrong_configuration_fails_with_its_reason(self):
        self.run_("systemctl", "stop", "mandos.service")
        wrong = self.machine.root("/etc/mandos/clients.d/wrong.conf")
        self.machine.write("wrong.conf", {"wrong": {"key_id": "1234"}}, wrong.parent)
        self.addCleanup(wrong.unlink)
        # One section costs its own client the service, and nobody else.
        self.run_("systemctl", "start", "mandos.service")
        self.assertIn("64 hexadecimal digits", self.machine.journal())
        self.assertIn("others have errors in clients.conf", self.machine.property("StatusText"))
        self.run_("systemctl", "stop", "mandos.service")
        settings = self.machine.root("/etc/mandos/mandos.conf")
        before = settings.read_text()
        self.addCleanup(settings.write_text, before)
        settings.write_text("[DEFAULT]\nport = many\n")
        done = self.run_("systemctl", "start", "mandos.service", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.run_("systemctl", "stop", "mandos.service")
        self.assertRegex(self.machine.journal(), 'mandos.conf:2: .*port: found "many"')

    def test_a_a_unit_of_another_name_takes_the_usual_one_and_gives_it_back(self):
        # As the Debian package has it, beside the unit of the package "mandos" in /lib.
        fragment = lambda: self.machine.property("FragmentPath")
        self.run_("systemctl", "stop", "mandos.service")
        ours = self.machine.root("/usr/local/lib/systemd/system")
        text = (ours / "mandos.service").read_text()
        (ours / "mandos.service").unlink()
        (ours / "mandos-separated.service").write_text(text + "Alias=mandos.service\n")
        drop_ins = self.machine.root("/etc/systemd/system")
        (drop_ins / "mandos.service.d").rename(drop_ins / "mandos-separated.service.d")
        self.run_("systemctl", "daemon-reload")
        theirs = fragment()
        self.assertRegex(theirs, "^(/usr)?/lib/systemd/system/mandos.service$")
        self.run_("systemctl", "enable", "--now", "mandos-separated.service")
        self.assertTrue(fragment().endswith("/mandos-separated.service"), fragment())
        self.run_("systemctl", "restart", "mandos.service")
        self.assertEqual(self.machine.secret(), PASSPHRASE)
        self.run_("systemctl", "disable", "--now", "mandos-separated.service")
        self.run_("systemctl", "daemon-reload")
        self.assertEqual(fragment(), theirs)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("must be run as root")
    unittest.main(argv=sys.argv[:1], verbosity=2, failfast="--failfast" in sys.argv)
