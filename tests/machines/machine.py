# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots an emulated machine for tests/machines/run, which prepares what it is made of, and prints what
the script `guest` reports from inside of it as TAP lines. Arguments: architecture, root directory, the
folder with the package, the test programs and other packages, and how many TAP lines there are already.
"""
import os, pathlib, re, subprocess, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))
import vm  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ARCHITECTURE, ROOT, GIVEN, DONE = sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), int(sys.argv[4])
SECONDS = int(os.environ.get("MANDOS_MACHINE_SECONDS", 5400))
#: Seconds, the function in `guest`, and the TAP line.
CASES = [
    (600, "installed", "dpkg installs the package"),
    (900, "started", "systemd starts the unit"),
    (120, "jailed", "each process has its user, its capabilities and its filter"),
    (300, "answers", "the bus answers, and changes a setting"),
    (1300, "checked", "fping finds one client and misses another"),
    (700, "served", "the real mandos-client is served and decrypts its secret"),
    (900, "disabled", "disabled it gets nothing, enabled again it does"),
    (120, "alive", "no process was killed or started again"),
    (600, "restarted", "a disabled client stays disabled over a restart"),
    (120, "stopped", "the unit stops"),
    (60, "printed", "print_jails names the calls"),
    (3000, "jails", "forbidden acts, from inside each jail"),
]
MARK = r"MANDOS-TEST: (.*)\n"
UNIT = """[Unit]
After=dbus.service avahi-daemon.service
Wants=dbus.service
[Service]
Type=oneshot
ExecStart=/machine/guest
"""
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in $(/bin/busybox cat /order); do /bin/busybox insmod /$module; done
turn=0
until [ -b /dev/vda ] || [ $turn = 300 ]; do turn=$((turn + 1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root && exec /bin/busybox switch_root /root /sbin/init
"""


def unpacked(name):
    """That package's files, in a folder of their own."""
    folder = GIVEN / name
    vm.run("dpkg-deb", "-x", next(GIVEN.glob(name + "*_*.deb")), folder)
    return folder


def write(file, text, mode=0o644):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def initial_ram_disk(kernel, busybox):
    """What mounts the disk: the kernel's modules for that, in order, and busybox."""
    version = next((kernel / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    if not (kernel / "lib").exists():
        (kernel / "lib").symlink_to("usr/lib")  # where kmod looks
    vm.run("depmod", "-b", kernel, version)
    top = GIVEN / "initrd.d"
    for folder in ("bin", "dev", "root"):
        (top / folder).mkdir(parents=True)
    program = next(file for file in (busybox / "usr/bin/busybox", busybox / "bin/busybox") if file.exists())
    (top / "bin/busybox").write_bytes(program.read_bytes())
    (top / "bin/busybox").chmod(0o755)
    order = []
    for name in ("virtio_blk", "ext4"):
        for line in vm.run("modprobe", "-d", kernel, "-S", version, "--show-depends", name).splitlines():
            if line.startswith("insmod "):
                module = pathlib.Path(line.split()[1])
                plain = module.name.removesuffix(".xz")
                if plain not in order:
                    order.append(plain)
                    (top / plain).write_bytes(subprocess.run(
                        ["xz", "-dc", module], check=True, capture_output=True).stdout
                        if module.suffix == ".xz" else module.read_bytes())
    (top / "order").write_text("\n".join(order) + "\n")
    write(top / "init", INIT, 0o755)
    image = GIVEN / "initrd"
    vm.run("sh", "-c", 'cd "$1" && find . | cpio -o -H newc > "$2"', "sh", top, image)
    return image


def client():
    """A section of clients.conf for the real mandos-client, with keys made here: the format is the same
    everywhere, and the machine would take minutes."""
    keys = GIVEN / "keys"
    keys.mkdir(mode=0o700)
    keygen = ("mandos-keygen", "--dir", keys, "--name", "machine")
    vm.run(*keygen, "--force")
    (GIVEN / "passphrase").write_bytes(vm.PASSPHRASE)
    section = vm.run(*keygen, "--no-ssh", "--passfile", GIVEN / "passphrase")
    return keys, re.sub(r"(?m)^#?host *=.*\n", "", section)


def root():
    """The machine's own files."""
    vm.run("cp", "-a", f"{unpacked('mandos-client')}/usr", ROOT)
    place = ROOT / "machine"
    place.mkdir()
    for name in ("test_jails", "print_jails"):
        vm.run("install", "-m", "755", GIVEN / name, place)
    vm.run("install", "-m", "755", HERE / "guest", place)
    vm.run("cp", next(GIVEN.glob("mandos-separated_*.deb")), place)
    keys, section = client()
    for file in keys.iterdir():
        vm.run("install", "-m", "600", file, place)
    write(place / "clients.conf", section.rstrip() + "\nhost = ::1\ntimeout = PT1H\ninterval = PT1M\n\n"
          + re.sub(r"(?m)^\[machine\]", "\n[gone]", re.sub(r"(?m)^key_id *=.*", "key_id = " + "0" * 64, section)).rstrip()
          + "\nhost = 203.0.113.1\ntimeout = PT1H\ninterval = PT1M\n", 0o600)
    write(place / "mandos.conf", "[DEFAULT]\nport = 4711\n")
    write(place / "cases", "".join(f"{seconds} {name} {title}\n" for seconds, name, title in CASES))
    write(ROOT / "etc/systemd/system/machine-test.service", UNIT)
    wanted = ROOT / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "machine-test.service").symlink_to("/etc/systemd/system/machine-test.service")
    write(ROOT / "etc/hostname", "machine\n")
    write(ROOT / "etc/machine-id", "0" * 31 + "1\n")
    write(ROOT / "etc/fstab", "/dev/vda / ext4 rw 0 0\n")


def disk():
    image = GIVEN / "disk"
    vm.run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", "-d", ROOT, image, "1500M")
    return image


def main():
    titles = ["the machine boots"] + [title for _, _, title in CASES]
    outcome, notes, current = {}, {}, None
    number, shown = DONE, 0
    machine = None

    def show(upto):
        """Prints the lines of the cases before `upto`; what was not reported failed."""
        nonlocal number, shown
        for title in titles[shown:upto]:
            number += 1
            print(f"{'ok' if outcome.get(title) else 'not ok'} {number} - {ARCHITECTURE}: {title}", flush=True)
            for line in notes.get(title, []):
                print("# " + line, flush=True)
        shown = max(shown, upto)

    try:
        kernel = unpacked("linux-image")
        initrd = initial_ram_disk(kernel, unpacked("busybox"))
        root()
        machine = vm.Machine(next((kernel / "boot").glob("vmlinuz-*")), initrd, disk(),
                             "rw quiet loglevel=4 systemd.show_status=no systemd.log_target=journal "
                             "systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer", GIVEN,
                             architecture=ARCHITECTURE)
        position = 0  # what of the console was read
        while "end" not in outcome:
            if not machine.wait_for(MARK, SECONDS - machine.seconds(), lambda: machine.console()[position:]):
                break
            found = re.search(MARK, machine.console()[position:])
            position += found.end()
            said = found[1]
            if said == "booted":
                outcome[titles[0]] = True
                notes[titles[0]] = [f"{machine.seconds():.0f} s"]
            elif said == "end":
                outcome["end"] = True
            elif said.startswith("# "):
                notes.setdefault(current, []).append(said[2:])
            elif match := re.fullmatch(r"(not )?ok (.*)", said):
                show(titles.index(current) + 1 if current else 1)
                current = match[2]
                outcome[current] = not match[1]
                notes[current] = [f"{machine.seconds():.0f} s after the start"]
        vm.note(f"the machine ran for {machine.seconds():.0f} s")
    except (RuntimeError, OSError, subprocess.SubprocessError, StopIteration) as problem:
        notes.setdefault(titles[0], []).extend(f"{type(problem).__name__}: {problem}".splitlines())
    finally:
        if machine:
            if "end" not in outcome:
                print("\n".join("# " + line for line in machine.console().splitlines()[-40:]), flush=True)
            machine.end()
    show(len(titles))
    print(f"1..{number}", flush=True)
    return 0 if all(outcome.get(title) for title in titles) else 1


if __name__ == "__main__":
    sys.exit(main())
