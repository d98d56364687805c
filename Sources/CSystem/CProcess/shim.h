// SPDX-License-Identifier: Apache-2.0
//
// Calls about processes and threads that glibc declares under _GNU_SOURCE alone, which Swift's importer does not set, or
// not at all before 2.36; and headers that Swift's Glibc module lacks.
#pragma once
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int cprocess_pipe(int ends[2], int flags) { return (int)syscall(SYS_pipe2, ends, flags); }

// Since glibc 2.34.
static inline int cprocess_close_from(posix_spawn_file_actions_t *actions, int first) {
  extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int);
  return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

// A descriptor that poll(2) finds readable once the process has ended; since Linux 5.3. Closed on exec.
static inline int cprocess_open_process(pid_t process) { return (int)syscall(434, process, 0); }

// renameat2 with RENAME_NOREPLACE: fails with EEXIST where something stands under the new name.
static inline int cprocess_rename_new(int folder, const char *from, const char *to) {
  return (int)syscall(SYS_renameat2, folder, from, folder, to, 1u);
}

// Names the calling thread; at most 15 bytes.
static inline void cprocess_name_thread(const char *name) {
  extern int pthread_setname_np(pthread_t, const char *);
  pthread_setname_np(pthread_self(), name);
}
