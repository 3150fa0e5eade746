# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines for the tests that need a kernel of their own: Debian 12 in qemu's software
emulation, from a tree that mmdebstrap makes of the package sources that this machine's apt has.

The tree is made once and kept (images()); each test lays its own files over it (Layer), makes a
disk of the sum, and starts that (Machine). Environment:
  MANDOS_IMAGES  where trees are kept          MANDOS_BUILD  a finished build, by default build/check
"""
import fcntl, os, pathlib, re, shutil, signal, subprocess, sys, time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.setdefault("MANDOS_BUILD", str(SOURCE / "build/check")))
PREFIX = pathlib.Path(os.environ.setdefault("MANDOS_PREFIX", "/usr/local"))
PACKAGES = """linux-image-cloud-amd64 systemd-sysv udev kmod dbus avahi-daemon fping procps iproute2
  mandos mandos-client cryptsetup-initramfs selinux-policy-default policycoreutils selinux-utils
  python3-dbus python3-gi libprotobuf-lite32 libcap-ng0 libseccomp2 libgmp10 libgnutls30
  libnettle8 libglib2.0-0""".split()
PASSPHRASE = b"correct horse battery staple"
POLICY = "etc/selinux/default"


def note(*words):
    print("#", *words, flush=True)


def run(*command, seconds=900, **more):
    """What the command printed; its failure ends the test with all that it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=seconds, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def images():
    home = os.environ.get("XDG_CACHE_HOME") or "/var/tmp"
    folder = pathlib.Path(os.environ.get("MANDOS_IMAGES") or home + "/mandos-images")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sources():
    """The files that name this machine's Debian sources."""
    found = [file for file in (pathlib.Path("/etc/apt/sources.list"),
                               *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*.list")),
                               *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*.sources")))
             if file.exists() and re.search(r"(?m)^\s*(deb|Suites:)\s.*\bbookworm", file.read_text())]
    if not found:
        sys.exit("Bail out! apt knows no source of Debian 12")
    return found


def tree():
    """The Debian tree, labelled for SELinux and with a Mandos client's keys; made when it is not
    there yet."""
    with open(images() / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = images() / "tree12"
        if not (ready / "etc/keys/mandos/section").exists():
            began = time.monotonic()
            note(f"making {ready}")
            making = images() / "tree12.new"
            shutil.rmtree(making, ignore_errors=True)
            shutil.rmtree(ready, ignore_errors=True)
            run("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
                "--include=" + ",".join(PACKAGES), "bookworm", making, *sources(), seconds=3600)
            finish(making)
            making.rename(ready)
            note(f"made in {time.monotonic() - began:.0f} s")
        return ready


def finish(root):
    keys = root / "etc/keys/mandos"
    keygen = ("chroot", root, "mandos-keygen", "--dir", "/etc/keys/mandos", "--name", "machine")
    run(*keygen, "--force")
    passphrase = keys / "passphrase"
    passphrase.write_bytes(PASSPHRASE)
    section = run(*keygen, "--no-ssh", "--passfile", "/etc/keys/mandos/passphrase")
    passphrase.unlink()
    label(root, "/")
    (keys / "section").write_text(section)


def label(root, *places):
    """What the policy in `root` says of these places becomes their labels."""
    run("setfiles", "-F", "-r", root, root / POLICY / "contexts/files/file_contexts",
        *(str(root) + place for place in places))


class Layer:
    """`tree()` with a test's own files over it, in a mount namespace that only the test has."""

    def __init__(self, name):
        self.folder = images() / f"layer-{name}"
        self.root = self.folder / "root"
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={tree()},upperdir={self.folder}/upper,"
            f"workdir={self.folder}/work", "overlay", self.root)

    def write(self, name, text, mode=0o644):
        file = self.root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def kernel(self):
        return next((self.root / "boot").glob("vmlinuz-*"))

    def initrd(self):
        return next((self.root / "boot").glob("initrd.img-*"))

    def disk(self, mebibytes):
        """A file system image of the sum, on a raw disk of that size."""
        image = self.folder / "disk"
        image.unlink(missing_ok=True)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", "-d", self.root, image, f"{mebibytes}M")
        # It gives everything its label but what it makes by itself.
        for name, kind in (("/", "root_t"), ("/lost+found", "lost_found_t")):
            context = self.folder / "context"
            context.write_bytes(f"system_u:object_r:{kind}:s0\0".encode())
            run("debugfs", "-w", "-R", f"ea_set -f {context} {name} security.selinux", image)
        return image

    def end(self):
        run("umount", self.root)
        shutil.rmtree(self.folder, ignore_errors=True)


#: The emulator of each architecture, and what its kernels call the first serial line. The ARM machines
#: are those of small boards.
EMULATORS = {
    "amd64": (("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm", "-smp", "2"),
              "ttyS0"),
    "arm64": (("qemu-system-aarch64", "-accel", "tcg", "-machine", "virt", "-cpu", "cortex-a72", "-smp", "1"),
              "ttyAMA0"),
    # Without LPAE a kernel does not reach what lies higher.
    "armhf": (("qemu-system-arm", "-accel", "tcg", "-machine", "virt,highmem=off", "-cpu", "cortex-a15",
               "-smp", "1"), "ttyAMA0"),
}


class Machine:
    """A running virtual machine; what it says on its two serial lines (ARM: one) is kept. Disks are
    not changed by it."""

    def __init__(self, kernel, initrd, disk, arguments, folder, network=("-nic", "none"), memory=1024,
                 architecture="amd64"):
        self.files = [folder / "console", folder / "results"]
        for file in self.files:
            file.write_bytes(b"")
        self.began = time.monotonic()
        emulator, line = EMULATORS[architecture]
        self.process = subprocess.Popen(
            ["nice", "-n", "15", *emulator,
             "-m", str(memory), "-display", "none", "-no-reboot", "-monitor", "none",
             "-kernel", kernel, "-initrd", initrd, "-append", f"console={line} " + arguments,
             "-drive", f"file={disk},format=raw,if=virtio,snapshot=on",
             "-device", "virtio-rng-pci", "-serial", f"file:{self.files[0]}",
             "-serial", f"file:{self.files[1]}", *network],
            stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)

    def console(self):
        return self.files[0].read_text(errors="replace").replace("\r", "")

    def results(self):
        return self.files[1].read_text(errors="replace").replace("\r", "")

    def running(self):
        return self.process.poll() is None

    def seconds(self):
        return time.monotonic() - self.began

    def wait_for(self, pattern, seconds, text=None):
        """Whether its console (or `text()`) matches within so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(pattern, (text or self.console)()):
                return True
            if not self.running():
                return bool(re.search(pattern, (text or self.console)()))
            time.sleep(0.2)
        return False

    def end(self):
        if self.running():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)
