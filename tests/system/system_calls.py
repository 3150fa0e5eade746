# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls by name: their numbers differ between architectures."""
import ctypes, struct


def number(name):
    """That of `name` for this process, whose word size its kernel need not share."""
    found = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())
    # On i386 libseccomp knows it as a part of socketcall(2), which ours does not use.
    if name == "socket" and found < 0:
        found = 359
    if found < 0:
        raise KeyError(f"{name}: this architecture has no such system call")
    return found


def refuse(name, error, first=None):
    """For preexec_fn: from here on this call, or only the one with this first argument, fails with
    `error`, as on a kernel that does not have it."""
    load, unless, give = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
    checks = [(load, 0, 0, 16), (unless, 0, 1, first)] if first is not None else []
    filter_ = [(load, 0, 0, 0), (unless, 0, 1 + len(checks), number(name)), *checks,
               (give, 0, 0, 0x00050000 | error),  # SECCOMP_RET_ERRNO
               (give, 0, 0, 0x7fff0000)]          # SECCOMP_RET_ALLOW
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in filter_))
    header = struct.pack("HP", len(filter_), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
