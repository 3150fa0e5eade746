#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles the SELinux module, puts it into the reference policy and asks the result what each
domain may do. Needs selinux-policy-dev, selinux-policy-default, policycoreutils, python3-setools.

  selinux_policy_test.py SOURCE LIBEXEC SBINDIR
"""
import os, pathlib, re, shutil, subprocess, sys, tempfile, unittest

if "MANDOS_SYSTEM_PYTHON" not in os.environ:  # setools is the distribution's, for its own Python
    os.execve("/usr/bin/python3", ["/usr/bin/python3", *sys.argv],
              dict(os.environ, MANDOS_SYSTEM_PYTHON="1"))

if not pathlib.Path("/var/lib/selinux/default").exists():
    print("skipped: no reference policy (package selinux-policy-default)")
    sys.exit(77)
import setools  # noqa: E402

SOURCE, LIBEXEC, SBINDIR = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
CHILDREN = {"mandos_monitor_t", "mandos_networker_t", "mandos_checker_t", "mandos_bus_t"}
DOMAINS = CHILDREN | {"mandos_t"}
#: A domain that asks for nothing: what it has all the same, every domain has. That differs from one
#: version of the reference policy to the next: the loader's files, /dev/null, the translation of
#: labels. No module can take it away again.
BARE = "mandos_bare_t"
FILES = ("file", "dir", "lnk_file", "chr_file", "blk_file", "sock_file", "fifo_file")
# What makes one process another, or looks into it.
POWER = {"ptrace", "setcurrent", "setexec", "setfscreate", "setsockcreate", "setkeycreate",
         "execmem", "execstack", "execheap", "dyntransition"}


def run(*arguments, **more):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def build(folder):
    for part in ("te", "if", "fc"):
        shutil.copy(SOURCE / f"selinux/mandos.{part}", folder)
    with open(folder / "mandos.te", "a") as module:
        module.write(f"type {BARE};\ndomain_type({BARE})\n")
    said = run("make", "-f", "/usr/share/selinux/devel/Makefile", "NAME=default", "mandos.pp",
               cwd=folder)
    # The distribution's policy in a store of our own, and the module loaded into it as an
    # administrator would: semodule also refuses what contradicts a neverallow rule.
    store = folder / "root"
    shutil.copytree("/var/lib/selinux/default", store / "var/lib/selinux/default")
    (store / "etc/selinux").mkdir(parents=True)
    shutil.copytree("/etc/selinux/default", store / "etc/selinux/default")
    run("semodule", "-p", store, "-n", "-s", "default", "-i", folder / "mandos.pp")
    policy = max((store / "etc/selinux/default/policy").iterdir())
    contexts = store / "etc/selinux/default/contexts/files/file_contexts"
    return said, policy, contexts


class Policy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="mandos-selinux-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.said, policy, cls.contexts = build(cls.folder)
        cls.policy = setools.SELinuxPolicy(str(policy))

        cls.allowed = cls.read_rules(DOMAINS | {"init_t", BARE})

    @classmethod
    def read_rules(cls, domains):
        """What is allowed: domain -> (type, class) -> permissions, attributes resolved. A rule of a
        conditional counts, since an administrator may switch it on."""
        expansions = {}

        def types(name):
            if name not in expansions:
                expansions[name] = ({str(each) for each in name.expand()}
                                    if isinstance(name, setools.policyrep.TypeAttribute)
                                    else {str(name)})
            return expansions[name]
        found = {domain: {} for domain in domains}
        cls.readers = set()
        for rule in cls.policy.terules():
            if rule.ruletype != setools.TERuletype.allow:
                continue
            sources = types(rule.source)
            hit = sources & domains
            kind = str(rule.tclass)
            if (kind == "file" and "read" in rule.perms and rule.enabled()
                    and "mandos_secret_t" in types(rule.target)):
                cls.readers |= sources
            if not hit:
                continue
            perms = {str(each) for each in rule.perms}
            for target in types(rule.target):
                for domain in hit:
                    place = domain if target == "self" else target
                    found[domain].setdefault((place, kind), set()).update(perms)
        cls.everybody = {("self" if target == BARE else target, kind, each)
                         for (target, kind), perms in found[BARE].items() for each in perms}
        return found

    def of(self, domain):
        return self.allowed[domain]

    def beyond(self, domain):
        """The same without what everybody has."""
        for (target, kind), perms in self.of(domain).items():
            place = "self" if target == domain else target
            more = {each for each in perms if not {(target, kind, each), (place, kind, each)}
                    & self.everybody}
            if more:
                yield target, kind, more

    @classmethod
    def members(cls, attribute):
        return {str(name) for name in next(setools.TypeAttributeQuery(
            cls.policy, name=attribute).results()).expand()}

    def test_it_compiles_without_a_warning(self):
        self.assertNotRegex(self.said.lower(), "warning|deprecated")

    def test_no_domain_is_permissive_or_unconfined(self):
        permissive = {str(each.name) for each in self.policy.types() if each.ispermissive}
        self.assertFalse(permissive & DOMAINS)
        for attribute in ("unconfined_domain_type", "files_unconfined_type", "can_load_policy",
                          "kern_unconfined", "can_setenforce", "filesystem_unconfined_type"):
            try:
                members = self.members(attribute)
            except StopIteration:
                continue  # this policy has no such attribute
            self.assertFalse(members & DOMAINS, attribute)

    def test_each_program_enters_its_domain(self):
        for domain in CHILDREN:
            program = domain.replace("_t", "_exec_t")
            found = [str(rule.default) for rule in setools.TERuleQuery(
                self.policy, ruletype=["type_transition"], source="mandos_t", target=program,
                tclass=["process"]).results()]
            self.assertEqual(found, [domain])
            rules = self.of("mandos_t")
            self.assertIn("transition", rules[(domain, "process")])
            # no_new_privs is set by then, and limits are handed down.
            self.assertIn("nnp_transition", rules[(domain, "process2")])
            self.assertIn("rlimitinh", rules[(domain, "process")])
            self.assertIn("entrypoint", self.of(domain)[(program, "file")])
        init = self.of("init_t")
        self.assertIn("transition", init[("mandos_t", "process")])
        self.assertIn("nnp_transition", init[("mandos_t", "process2")])

    def test_only_the_supervisor_starts_them(self):
        # Administrators' domains, which may enter any, are not the server's.
        for domain in DOMAINS:
            started = {target for (target, kind), perms in self.of(domain).items()
                       if kind == "process" and "transition" in perms}
            self.assertEqual(started, CHILDREN if domain == "mandos_t" else set(), domain)

    def test_none_has_power_over_another(self):
        for domain in DOMAINS:
            for (target, kind), perms in self.of(domain).items():
                if kind == "process":
                    self.assertFalse(perms & POWER, f"{domain} {target}")
                if kind in ("bpf", "perf_event", "io_uring", "user_namespace", "kernel_service",
                            "security", "system", "capability2", "cap2_userns", "cap_userns"):
                    self.assertFalse(perms - {"syslog_read", "status"}, f"{domain} {kind} {perms}")

    def test_capabilities(self):
        wanted = {
            "mandos_t": {"setuid", "setgid", "setpcap", "kill", "sys_chroot", "net_raw"},
            "mandos_monitor_t": {"setpcap", "chown", "fowner", "dac_override", "dac_read_search",
                                 "net_bind_service", "ipc_lock"},
            "mandos_networker_t": {"setpcap", "sys_chroot"},
            "mandos_checker_t": {"setpcap", "net_raw"},
            "mandos_bus_t": {"setpcap"},
        }
        for domain, most in wanted.items():
            self.assertEqual(self.of(domain).get((domain, "capability"), set()), most, domain)

    def test_nobody_but_the_monitor_has_the_secrets(self):
        for kind in ("mandos_secret_t", "mandos_state_t", "mandos_conf_t"):
            for domain in DOMAINS - {"mandos_monitor_t"}:
                for (target, tclass), perms in self.of(domain).items():
                    if target == kind and tclass in FILES:
                        self.assertFalse(perms - {"getattr", "search"}, f"{domain} {kind} {perms}")
        reads = self.of("mandos_monitor_t")
        self.assertIn("open", reads[("mandos_secret_t", "file")])
        self.assertNotIn("write", reads[("mandos_secret_t", "file")])
        # Nor any daemon of the system that is confined at all: only those whose work is every file
        # (backup, restore, the package manager, administrators).
        everything = (self.members("files_unconfined_type")
                      | self.members("can_read_shadow_passwords"))
        daemons = self.members("daemon") - everything - DOMAINS
        read = self.readers
        self.assertIn("mandos_monitor_t", read)
        self.assertGreater(len(daemons), 100)
        self.assertFalse(read & daemons)

    def test_the_networker_has_no_file(self):
        # Its own program is what it starts from; the empty root and the folders on the way there are
        # walked through; whether the system is in FIPS mode is read by GnuTLS. Its memory for the
        # next networker can be opened by no path.
        may = {("mandos_networker_exec_t", "file"): {"entrypoint", "execute", "getattr", "ioctl",
                                                      "lock", "map", "open", "read"},
               ("mandos_tmpfs_t", "file"): {"getattr", "read", "write", "map"},
               ("sysctl_crypto_t", "file"): {"getattr", "ioctl", "lock", "open", "read"}}
        locale = self.of("mandos_networker_t").get(("locale_t", "file"), set())
        self.assertFalse(locale & {"write", "append", "create"})
        for target, kind, perms in self.beyond("mandos_networker_t"):
            if kind not in FILES or target in ("locale_t", "mandos_networker_t"):
                continue
            if kind == "dir":
                most = {"getattr", "search", "open"} | (
                    {"read", "ioctl", "lock"} if target in ("sysctl_t", "proc_t", "sysctl_crypto_t",
                                                            "bin_t", "usr_t") else set())
            else:
                most = may.get((target, kind), {"getattr", "read"} if kind == "lnk_file" else set())
            self.assertLessEqual(perms, most, f"{target}:{kind}")

    def test_the_networker_makes_no_socket_and_connects_nowhere(self):
        for target, kind, perms in self.beyond("mandos_networker_t"):
            if not kind.endswith("_socket"):
                continue
            refused = {"create", "connect", "bind", "listen", "name_connect", "name_bind",
                       "node_bind", "connectto", "sendto", "relabelto", "relabelfrom"}
            self.assertFalse(perms & refused, f"{target}:{kind} {perms & refused}")
            if perms & {"read", "write"}:
                self.assertIn((target, kind), {
                    ("mandos_t", "unix_stream_socket"), ("mandos_monitor_t", "tcp_socket"),
                    ("mandos_t", "tcp_socket")})
        perms = self.of("mandos_networker_t")[("mandos_monitor_t", "tcp_socket")]
        self.assertLessEqual({"accept", "read", "write"}, perms)

    def test_the_networker_and_the_monitor_execute_nothing(self):
        for domain in ("mandos_networker_t", "mandos_monitor_t", "mandos_bus_t"):
            for (target, kind), perms in self.of(domain).items():
                self.assertNotIn("execute_no_trans", perms, f"{domain} {target}:{kind}")
        # The one that does.
        self.assertIn("execute_no_trans", self.of("mandos_checker_t")[("shell_exec_t", "file")])
        self.assertIn("execute_no_trans", self.of("mandos_checker_t")[("ping_exec_t", "file")])

    def test_the_monitor_opens_no_connection(self):
        for target, kind, perms in self.beyond("mandos_monitor_t"):
            if kind == "tcp_socket":
                self.assertFalse(perms & {"name_connect"}, target)
            if kind == "unix_stream_socket":
                # With the journal: systemd has made its socket before the policy was loaded, says a
                # newer reference policy, or after.
                self.assertFalse(perms & {"connectto"} and target not in ("syslogd_t", "init_t", "kernel_t"),
                                 f"{target} {perms}")

    def test_checkers_write_only_where_they_may(self):
        for target in ("etc_t", "usr_t", "bin_t", "lib_t", "mandos_exec_t", "var_lib_t", "boot_t",
                       "mandos_runtime_t"):
            perms = self.of("mandos_checker_t").get((target, "file"), set())
            self.assertFalse(perms & {"write", "append", "create", "unlink"}, f"{target} {perms}")

    def test_file_contexts(self):
        wanted = {
            SBINDIR + "/mandos": "mandos_exec_t",
            "/usr/libexec/mandos/mandos": "mandos_exec_t",
            LIBEXEC + "/mandos-monitor": "mandos_monitor_exec_t",
            LIBEXEC + "/mandos-networker": "mandos_networker_exec_t",
            LIBEXEC + "/mandos-checker-runner": "mandos_checker_exec_t",
            LIBEXEC + "/mandos-bus-agent": "mandos_bus_exec_t",
            "/etc/mandos/mandos.conf": "mandos_conf_t",
            "/etc/mandos/clients.conf": "mandos_secret_t",
            "/etc/mandos/clients.d/one.conf": "mandos_secret_t",
            "/etc/mandos/secrets/one": "mandos_secret_t",
            "/etc/mandos/plugin-runner.conf": "etc_t",
            "/usr/lib/systemd/system/mandos-separated.service": "mandos_unit_t",
            "/var/lib/mandos/one": "mandos_state_t",
            "/run/mandos.pid": "mandos_runtime_t",
        }
        for path, kind in wanted.items():
            said = run("matchpathcon", "-f", self.contexts, "-m", "file", "-n", path)
            self.assertIn(f":{kind}:", said, path)
        for folder, kind in ((LIBEXEC + "/empty", "mandos_empty_t"),
                             ("/etc/mandos/clients.d", "mandos_secret_t"),
                             ("/var/lib/mandos", "mandos_state_t")):
            self.assertIn(f":{kind}:", run("matchpathcon", "-f", self.contexts, "-m", "dir", "-n", folder))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
