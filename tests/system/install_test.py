#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `meson install` puts where, and what it leaves alone.

Needs MANDOS_BUILD (a finished build) and, as its arguments, the folders and names that the build
was configured with, NAME=VALUE. Everything happens below a folder of its own.
"""
import json, os, pathlib, re, shutil, stat, subprocess, sys, tempfile, unittest

BUILD = pathlib.Path(os.environ["MANDOS_BUILD"])
SOURCE = pathlib.Path(__file__).resolve().parents[2]
GIVEN = dict(argument.split("=", 1) for argument in sys.argv[1:])
PREFIX, SERVICE = GIVEN["prefix"], GIVEN["service"]
PROGRAMS = ("monitor", "networker", "checker-runner") + (
    ("bus-agent",) if (BUILD / "bus-agent/mandos-bus-agent").exists() else ())

WANTED = {
    GIVEN["sbindir"] + "/mandos": 0o755,
    GIVEN["sbindir"] + "/mandos-import-state": 0o755,
    GIVEN["libexec"] + "/empty": 0o755 | stat.S_IFDIR,
    PREFIX + f"/lib/systemd/system/{SERVICE}.service": 0o644,
    PREFIX + f"/lib/systemd/system/{SERVICE}.socket": 0o644,
    PREFIX + f"/lib/sysusers.d/{SERVICE}.conf": 0o644,
    PREFIX + f"/lib/tmpfiles.d/{SERVICE}.conf": 0o644,
    PREFIX + f"/share/bash-completion/completions/{SERVICE}": 0o644,
    PREFIX + "/share/mandos-separated/mandos.conf": 0o644,
    PREFIX + "/share/mandos-separated/clients.conf": 0o644,
    PREFIX + "/share/mandos-separated/selinux/mandos.te": 0o644,
    PREFIX + "/share/mandos-separated/selinux/mandos.if": 0o644,
    PREFIX + "/share/mandos-separated/selinux/mandos.fc": 0o644,
    GIVEN["mandir"] + f"/man8/{SERVICE}.8": 0o644,
    GIVEN["mandir"] + f"/man5/{SERVICE}.conf.5": 0o644,
    GIVEN["mandir"] + f"/man5/{SERVICE}-clients.conf.5": 0o644,
    GIVEN["config"] + "/mandos.conf": 0o644,
    GIVEN["config"] + "/clients.conf": 0o600,
    GIVEN["config"] + "/clients.d": 0o700 | stat.S_IFDIR,
    GIVEN["state"]: 0o700 | stat.S_IFDIR,
}
WANTED.update({f"{GIVEN['libexec']}/mandos-{name}": 0o755 for name in PROGRAMS})
if GIVEN["ctl"]:
    WANTED[GIVEN["ctl"]] = 0o755
    WANTED[GIVEN["mandir"] + "/man8/mandos-ctl.8"] = 0o644
    WANTED[PREFIX + "/share/bash-completion/completions/mandos-ctl"] = 0o644
    for unit in ("events.service", "metrics.service", "metrics.timer"):
        WANTED[PREFIX + f"/lib/systemd/system/{SERVICE}-{unit}"] = 0o644
    for example in ("mail", "notify"):
        WANTED[PREFIX + f"/share/doc/mandos-separated/examples/{example}"] = 0o755
if GIVEN["view"]:
    WANTED[GIVEN["view"]] = 0o755
    WANTED[GIVEN["mandir"] + "/man8/mandos-monitor.8"] = 0o644
if GIVEN["bus_policy"]:
    WANTED[GIVEN["bus_policy"]] = 0o644


class Install(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="mandos-install-"))
        self.addCleanup(shutil.rmtree, self.root)

    def path(self, name):
        return self.root / name.lstrip("/")

    def install(self, umask=0o022):
        done = subprocess.run(["meson", "install", "--no-rebuild", "-C", BUILD, "--destdir",
                               self.root], capture_output=True, text=True, timeout=120, umask=umask)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_every_file_and_no_other_with_its_mode(self):
        for umask in (0o022, 0o077):
            self.install(umask)
            found = {}
            for entry in sorted(self.root.rglob("*")):
                status = entry.lstat()
                name = "/" + str(entry.relative_to(self.root))
                if stat.S_ISREG(status.st_mode):
                    found[name] = stat.S_IMODE(status.st_mode)
                elif not stat.S_ISDIR(status.st_mode) or name in WANTED or not any(entry.iterdir()):
                    found[name] = stat.S_IMODE(status.st_mode) | (
                        stat.S_IFDIR if stat.S_ISDIR(status.st_mode) else 0)
            show = lambda files: {name: oct(mode) for name, mode in sorted(files.items())}
            self.maxDiff = None
            self.assertEqual(show(found), show(WANTED))
            shutil.rmtree(self.root)
            self.root.mkdir()

    def test_a_second_install_keeps_the_configuration(self):
        self.install()
        edited = {}
        for name, mode in (("mandos.conf", 0o640), ("clients.conf", 0o400)):
            file = self.path(GIVEN["config"] + "/" + name)
            file.chmod(0o600)
            file.write_text(f"[DEFAULT]\n; edited {name}\n")
            file.chmod(mode)
            edited[file] = (file.read_text(), mode)
        client = self.path(GIVEN["config"] + "/clients.d/one.conf")
        client.write_text("[one]\n")
        state = self.path(GIVEN["state"])
        (state / "kept").write_text("state")
        state.chmod(0o750)
        self.install()
        for file, (text, mode) in edited.items():
            self.assertEqual((file.read_text(), stat.S_IMODE(file.stat().st_mode)), (text, mode))
        self.assertEqual(client.read_text(), "[one]\n")
        self.assertEqual((state / "kept").read_text(), "state")
        self.assertEqual(stat.S_IMODE(state.stat().st_mode), 0o750)

    def test_a_link_is_an_administrators_file_too(self):
        config = self.path(GIVEN["config"])
        config.mkdir(parents=True)
        (config / "clients.conf").symlink_to("/nonexistent/clients.conf")
        self.install()
        self.assertTrue((config / "clients.conf").is_symlink())

    def test_what_uninstall_takes_is_the_programs_and_not_the_configuration(self):
        self.install()
        log = (BUILD / "meson-logs/install-log.txt").read_text()
        logged = {line for line in log.splitlines() if line and not line.startswith("#")}
        for name in ("/mandos.conf", "/clients.conf"):
            self.assertNotIn(str(self.path(GIVEN["config"])) + name, logged)
        self.assertIn(str(self.path(GIVEN["sbindir"])) + "/mandos", logged)

    def test_with_the_prefix_of_a_distribution_nothing_that_runs_goes_to_etc(self):
        folder = self.root / "build"
        done = subprocess.run(["meson", "setup", "--prefix=/usr", "-Dtests=false", SOURCE, folder],
                              capture_output=True, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        installed = json.loads((folder / "meson-info/intro-installed.json").read_text()).values()
        self.assertIn("/usr/lib/systemd/system/mandos.service", installed)
        if GIVEN["bus_policy"]:
            self.assertIn("/usr/share/dbus-1/system.d/mandos-separated.conf", installed)
        self.assertEqual([file for file in installed if not file.startswith("/usr/")], [])

    def test_the_defaults_in_the_configuration_can_be_put_in_force(self):
        self.install()
        monitor = self.path(GIVEN["libexec"] + "/mandos-monitor")
        folder = self.root / "judged"
        folder.mkdir(mode=0o700)
        text = self.path(GIVEN["config"] + "/mandos.conf").read_text()
        (folder / "mandos.conf").write_text(re.sub(r"^;", "", text, flags=re.M))
        done = subprocess.run(["mandos-inspect", f"--configdir={folder}"], executable=monitor,
                              capture_output=True, text=True, timeout=30)
        # "Go on, into the background": common/inspection.h.
        self.assertEqual((done.returncode, done.stderr), (65, ""))
        # Every setting stands there.
        page = (SOURCE / "man/mandos.conf.5.in").read_text()
        known = set(re.findall(r"^\.It Ic (\w+) Li = ", page, re.M))
        self.assertEqual(set(re.findall(r"^;(\w+) =", text, re.M)), known)

    def test_the_completion_knows_the_options_of_help(self):
        self.install()
        monitor = self.path(GIVEN["libexec"] + "/mandos-monitor")
        told = subprocess.run(["mandos-inspect", "--help"], executable=monitor, text=True,
                              capture_output=True, timeout=30).stdout.split("\n", 2)[2]
        script = self.path(PREFIX + f"/share/bash-completion/completions/{SERVICE}")

        def completed(*words):
            line = " ".join(f"'{word}'" for word in words)
            done = subprocess.run(
                ["bash", "-uec", f". {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
                 'compopt() { :; }; _mandos; printf "%s\\n" "${COMPREPLY[@]}"'],
                capture_output=True, text=True, timeout=30)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return set(done.stdout.split())
        self.assertEqual(completed("mandos", "--"), set(re.findall(r"--[a-z0-9-]+", told)))
        self.assertEqual(completed("mandos", "--debuglevel", "E"), {"ERROR"})
        self.assertEqual(completed("mandos", "--debuglevel", "=", "D"), {"DEBUG"})
        self.assertEqual(completed("mandos", "--configdir", "/sy"), {"/sys"})
        self.assertIn("lo", completed("mandos", "-i", ""))
        self.assertEqual(completed("mandos", "--port", ""), set())

    def test_the_unit_is_confined(self):
        self.install()
        units = self.path(PREFIX + "/lib/systemd/system")
        for unit, most in (("", 3.0), ("-events", 1.5), ("-metrics", 1.5))[:3 if GIVEN["ctl"] else 1]:
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                                   units / f"{SERVICE}{unit}.service"],
                                  capture_output=True, text=True, timeout=60)
            level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
            self.assertTrue(level, done.stdout + done.stderr)
            self.assertLessEqual(float(level[1]), most, unit)

    def test_systemd_accepts_what_is_for_it(self):
        self.install()
        # The unit names programs by their place, which is below our folder here.
        units = self.root / "units"
        units.mkdir()
        files = [name for name in WANTED if "/systemd/system/" in name]
        self.assertEqual(len(files), 5 if GIVEN["ctl"] else 2)
        for name in files:
            text = self.path(name).read_text()
            for command in ("ExecStart=", "ExecReload="):
                for folder in {GIVEN["sbindir"], os.path.dirname(GIVEN["ctl"])} - {""}:
                    text = text.replace(command + folder, command + str(self.path(folder)))
            (units / os.path.basename(name)).write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                               *sorted(units.iterdir())], capture_output=True, text=True, timeout=60)
        ours = [line for line in done.stderr.splitlines() if re.search(SERVICE + r"(-\w+)?\.", line)]
        self.assertEqual((done.returncode, ours), (0, []))
        (self.root / "etc").mkdir(exist_ok=True)
        done = subprocess.run(["systemd-sysusers", f"--root={self.root}",
                               self.path(PREFIX + f"/lib/sysusers.d/{SERVICE}.conf")],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        accounts = dict(line.split(":")[0:3:2]
                        for line in (self.root / "etc/passwd").read_text().splitlines())
        self.assertEqual(set(accounts), set(GIVEN["accounts"].split(",")))
        self.assertEqual(len(set(accounts.values())), 4)
        state = self.path(GIVEN["state"])
        state.rmdir()
        subprocess.run(["systemd-tmpfiles", "--create", f"--root={self.root}",
                        self.path(PREFIX + f"/lib/tmpfiles.d/{SERVICE}.conf")], check=True,
                       timeout=60)
        self.assertEqual(stat.S_IMODE(state.stat().st_mode), 0o700)
        # What another owns is judged by the server.
        os.chown(state, 1, 1)
        state.chmod(0o750)
        subprocess.run(["systemd-tmpfiles", "--create", f"--root={self.root}",
                        self.path(PREFIX + f"/lib/tmpfiles.d/{SERVICE}.conf")], check=True,
                       timeout=60)
        self.assertEqual((state.stat().st_uid, stat.S_IMODE(state.stat().st_mode)), (1, 0o750))


if __name__ == "__main__":
    os.environ.pop("DESTDIR", None)
    unittest.main(argv=sys.argv[:1], verbosity=2)
