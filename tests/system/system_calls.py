# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of system calls, which differ between architectures."""
import ctypes


def number(name):
    """That of `name` for this process; not that of its kernel, which may have another word size."""
    found = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())
    if found < 0:
        raise KeyError(f"{name}: this architecture has no such system call")
    return found
