# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Clean Debian systems for the test runners, made by mmdebstrap from the sources that this machine's
# apt has. To be sourced, in a mount and PID namespace of the caller's own. Needs root and $work, a
# scratch folder in $images; the caller removes it after leave_roots.
images=${MANDOS_IMAGES:-${XDG_CACHE_HOME:-/var/tmp}/mandos-images}
mkdir -p -m 700 "$images"

# apt_sources RELEASE ARCHITECTURE[,ARCHITECTURE]: this machine's apt sources, for those, as files of
# $work. sid has no updates and no security; mirrors of a foreign architecture often have the release
# alone. apt ignores a file with a comma in its name.
apt_sources() {
  local file own copy
  own=$(. /etc/os-release; echo "${VERSION_CODENAME:-sid}")
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] && grep -q "^[^#]*\b$own\b" "$file" || continue
    copy=$work/$1-${2/,/-}-$(basename "$file")
    if [ "$1" != sid ] && [ "$2" = "$(dpkg --print-architecture)" ]; then
      sed "s/\b$own\b/$1/g" "$file"
    elif [ "${file##*.}" = sources ]; then
      awk -v RS= -v ORS='\n\n' "!/$own-security/" "$file" | sed "s/ $own-[a-z]*//g; s/\b$own\b/$1/g"
    else
      sed "/$own-/d; s/\b$own\b/$1/g" "$file"
    fi > "$copy"
    echo "$copy"
  done
}

# tree NAME RELEASE ARCHITECTURE PACKAGES: a clean system in $images/NAME, which is kept. What was
# interrupted has no mark and is made again.
tree() {
  local name=$1 release=$2 architecture=$3 packages=$4 sources options
  [ ! -e "$images/$name/etc/mandos-test" ] || return 0
  mapfile -t sources < <(apt_sources "$release" "$architecture")
  rm -rf --one-file-system "${images:?}/$name" "$images/$name.new"
  # What this machine's apt needs to reach its sources: a proxy, archives that are out of date.
  mapfile -t options < <(apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date) ')
  # A foreign architecture is one that the processor runs itself.
  mmdebstrap --mode=root --variant=apt --format=directory --architectures="$architecture" --skip=check/qemu \
    "${options[@]/#/--aptopt=}" ${packages:+--include="$packages"} "$release" "$images/$name.new" "${sources[@]}" ||
    { rm -rf --one-file-system "$images/$name.new"; return 1; }
  cp /etc/resolv.conf /etc/hosts "$images/$name.new/etc/"
  touch "$images/$name.new/etc/mandos-test"
  mv "$images/$name.new" "$images/$name"
}

# over NAME: the root of that system in $work/NAME/root, with a layer over it that is thrown away.
over() {
  local top=$work/$1 node
  mkdir -p "$top/upper" "$top/work" "$top/root"
  # An overlay over an overlay does not work everywhere.
  mount -t overlay -o "lowerdir=$images/$1,upperdir=$top/upper,workdir=$top/work" overlay "$top/root" ||
    { cp -a --reflink=auto "$images/$1/." "$top/root" && mount --bind "$top/root" "$top/root"; }
  mount -t proc proc "$top/root/proc"
  mount -t sysfs sysfs "$top/root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$top/root/dev"
  for node in null zero full random urandom tty; do
    touch "$top/root/dev/$node"
    mount --bind "/dev/$node" "$top/root/dev/$node"
  done
  mkdir "$top/root/dev/pts"
  mkdir -m 1777 "$top/root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$top/root/dev/pts"
  ln -s pts/ptmx "$top/root/dev/ptmx"
  ln -s /proc/self/fd "$top/root/dev/fd"
}

# inside NAME [VARIABLE=VALUE...]: a script on standard input, run there. Its root is the root of a
# mount namespace, not a chroot(2), in which the kernel refuses user namespaces. A system with nothing
# but apt has no umount.
inside() {
  local root=$work/$1/root
  shift
  timeout "${MANDOS_INSIDE_TIMEOUT:-5400}" unshare --mount --propagation private --pid --fork --kill-child=KILL \
    python3 -c 'import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1])
os.makedirs("mnt/old")
subprocess.run(["mount", "-t", "proc", "proc", "proc"], check=True)
subprocess.run(["pivot_root", ".", "mnt/old"], check=True)
os.chdir("/")
if libc.umount2(b"/mnt/old", 2):  # MNT_DETACH
    sys.exit("/mnt/old is still mounted")
os.rmdir("/mnt/old")
os.execv("/usr/bin/env", ["env", "-i", *sys.argv[2:], "bash", "-euxo", "pipefail", "-s"])' "$root" \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

leave_roots() { umount -R "$work"/*/root 2> /dev/null; }

# remove_old: what interrupted runs have left in $images, and systems of other days, but for what a
# run still uses (it holds a lock). Six characters from mktemp tell a run's folder from the systems
# run-RELEASE of tests/package/run, which are kept without a lock.
remove_old() {
  local place lock
  for place in "$images"/run-*.?????? "$images"/{full,minimal,readme,cross,machine}-*-????-??-??; do
    [ -d "$place" ] || continue
    case $place in
      *-"$(date -u +%F)") continue ;;
      "$images"/run-*) lock=$place ;;
      *) lock=$place.lock; [ -e "$lock" ] || : > "$lock" ;;
    esac
    (flock --nonblock 7 && rm -rf --one-file-system "$place" "$place.lock") 7< "$lock" 2> /dev/null
  done
}
