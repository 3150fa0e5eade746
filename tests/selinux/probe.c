// SPDX-License-Identifier: GPL-3.0-or-later
// Put in the networker's place: tries what the networker may never do, without any jail of its own.
// Its exit status is the sum of what it could do; 128 says that it came to its end, 99 that it could
// execute the shell. (It has no file and no output to tell by.) In C and static, so that it needs no
// file to start. To fork is what the reference policy gives every domain; the filter of the networker
// itself forbids it.
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int may_read(const char* name) {
  char byte;
  const int fd = open(name, O_RDONLY);
  return fd >= 0 && read(fd, &byte, 1) >= 0;
}

static int may_connect(void) {
  struct sockaddr_in peer;
  memset(&peer, 0, sizeof peer);
  peer.sin_family = AF_INET;
  peer.sin_port = htons(4711);
  peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  return fd >= 0 && connect(fd, (struct sockaddr*)&peer, sizeof peer) == 0;
}

int main(void) {
  int could = 128;
  if (may_read("/etc/mandos/clients.d/readable")) could |= 1;  // readable to all, but for its label
  if (may_read("/etc/hostname")) could |= 2;
  if (may_connect()) could |= 4;
  if (socket(AF_UNIX, SOCK_DGRAM, 0) >= 0) could |= 8;
  if (open("/var/tmp/probe", O_WRONLY | O_CREAT, 0600) >= 0) could |= 16;
  if (may_read("/proc/1/status")) could |= 32;
  char* const command[] = {"sh", "-c", "exit 99", NULL};
  char* const nothing[] = {NULL};
  if (could == 128) execve("/bin/sh", command, nothing);
  return could;
}
