// SPDX-License-Identifier: GPL-3.0-or-later
// glibc for i386 makes every socket call by socketcall(2), whose arguments are in memory that no
// seccomp filter can look into. These take its place, for our programs and the libraries that they
// load, so that the filters compare arguments there as everywhere.
#include <sys/syscall.h>
#include <unistd.h>

#if defined(SYS_socketcall) && defined(SYS_sendto)
#define MANDOS_DIRECT(type, name, parameters, ...) \
  type name parameters { return static_cast<type>(syscall(__VA_ARGS__)); }
extern "C" {
// sys/socket.h is left out, so that the pointers can be of any type.
using length = unsigned;
MANDOS_DIRECT(int, socket, (int a, int b, int c), SYS_socket, a, b, c)
MANDOS_DIRECT(int, socketpair, (int a, int b, int c, int* d), SYS_socketpair, a, b, c, d)
MANDOS_DIRECT(int, bind, (int a, const void* b, length c), SYS_bind, a, b, c)
MANDOS_DIRECT(int, connect, (int a, const void* b, length c), SYS_connect, a, b, c)
MANDOS_DIRECT(int, listen, (int a, int b), SYS_listen, a, b)
MANDOS_DIRECT(int, accept, (int a, void* b, length* c), SYS_accept4, a, b, c, 0)
MANDOS_DIRECT(int, accept4, (int a, void* b, length* c, int d), SYS_accept4, a, b, c, d)
MANDOS_DIRECT(int, getsockname, (int a, void* b, length* c), SYS_getsockname, a, b, c)
MANDOS_DIRECT(int, getpeername, (int a, void* b, length* c), SYS_getpeername, a, b, c)
MANDOS_DIRECT(int, getsockopt, (int a, int b, int c, void* d, length* e), SYS_getsockopt, a, b, c,
              d, e)
MANDOS_DIRECT(int, setsockopt, (int a, int b, int c, const void* d, length e), SYS_setsockopt, a, b,
              c, d, e)
MANDOS_DIRECT(int, shutdown, (int a, int b), SYS_shutdown, a, b)
MANDOS_DIRECT(ssize_t, send, (int a, const void* b, size_t c, int d), SYS_sendto, a, b, c, d,
              nullptr, 0)
MANDOS_DIRECT(ssize_t, sendto, (int a, const void* b, size_t c, int d, const void* e, length f),
              SYS_sendto, a, b, c, d, e, f)
MANDOS_DIRECT(ssize_t, sendmsg, (int a, const void* b, int c), SYS_sendmsg, a, b, c)
MANDOS_DIRECT(ssize_t, recv, (int a, void* b, size_t c, int d), SYS_recvfrom, a, b, c, d, nullptr,
              nullptr)
MANDOS_DIRECT(ssize_t, recvfrom, (int a, void* b, size_t c, int d, void* e, length* f),
              SYS_recvfrom, a, b, c, d, e, f)
MANDOS_DIRECT(ssize_t, recvmsg, (int a, void* b, int c), SYS_recvmsg, a, b, c)
// What -D_FORTIFY_SOURCE makes of two of them; the size of the buffer is the fourth argument.
MANDOS_DIRECT(ssize_t, __recv_chk, (int a, void* b, size_t c, size_t d, int e), SYS_recvfrom, a, b,
              c < d ? c : d, e, nullptr, nullptr)
MANDOS_DIRECT(ssize_t, __recvfrom_chk,
              (int a, void* b, size_t c, size_t d, int e, void* f, length* g), SYS_recvfrom, a, b,
              c < d ? c : d, e, f, g)
}
#endif
