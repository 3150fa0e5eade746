# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2034
# The Debian packages that quickstart, check and the test runners need, in one place. To be sourced.

# packages_of RELEASE ARCHITECTURE: sets the lists for that release of Debian.
packages_of() {
  local gpgme allocators policy=selinux-policy-default emulator=qemu-user-binfmt
  case $1 in
    bookworm)
      gpgme=libgpgme11 emulator=qemu-user-static
      allocators=(libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4)
      ;;
    trixie) gpgme=libgpgme11t64 allocators=(libjemalloc2 libtcmalloc-minimal4t64) ;;
    # The package of the policy does not install by itself there.
    *) policy='' gpgme=libgpgme45 allocators=(libjemalloc2 libmimalloc3 libtcmalloc-minimal4t64) ;;
  esac
  BUILD_PACKAGES=(g++ meson ninja-build pkg-config protobuf-compiler libprotobuf-dev libcap-ng-dev
    libseccomp-dev nettle-dev libgmp-dev libgnutls28-dev libglib2.0-dev libsystemd-dev
    nlohmann-json3-dev libncurses-dev mount)
  # What mandos-client and mandos-keygen need to run where they are only unpacked.
  CLIENT_PACKAGES=(gnupg gnutls-bin libavahi-core7 "$gpgme" libnl-route-3-200)
  TEST_PACKAGES=(mandos mandos-client libgtest-dev libgmock-dev dbus avahi-daemon fping clang
    clang-format clang-tidy cppcheck llvm libclang-rt-dev python3-dbus python3-gi git iproute2 procps
    gdb man-db mandoc systemd selinux-policy-dev ${policy:+"$policy"} policycoreutils selinux-utils
    python3-setools python3-prometheus-client python3-pyte cmark-gfm curl openssh-client openssh-server
    "${allocators[@]}")
  # What only ./check --long needs: virtual machines and chroots.
  LONG_PACKAGES=(avahi-utils cryptsetup-bin debian-archive-keyring e2fsprogs mmdebstrap qemu-system-x86)
  # What tests/machines/run needs: emulated machines of other architectures.
  MACHINE_PACKAGES=(cpio debian-archive-keyring e2fsprogs gnupg gnutls-bin kmod mandos-client mmdebstrap mount
    qemu-system-arm "$emulator" xz-utils)
}
packages_of "$(. /etc/os-release; echo "${VERSION_CODENAME:-sid}")" "$(dpkg --print-architecture)"

# Installs what is missing and says so; asks nothing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  if [ ${#missing[@]} = 0 ]; then
    echo "all installed"
    return
  fi
  echo "installing: ${missing[*]}"
  apt-get -q update > /dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
}
