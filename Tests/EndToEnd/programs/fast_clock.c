// SPDX-License-Identifier: Apache-2.0
// A preloaded library that makes a program's time run faster: an hour of idling takes half a minute.
//
//   LD_PRELOAD=fast_clock.so FAST_CLOCK_RATE_FILE=FILE PROGRAM
//
// FILE holds three 64-bit numbers and is memory-mapped. The first is the rate: seconds of the program per real second;
// the writer of FILE can change it while the program runs. The second is how far the program's clocks are ahead: the next
// program on the node continues from there, like clocks that count from the machine's start. The third is private to this
// library. The library scales the clocks that only go forward (CLOCK_MONOTONIC, _RAW, _COARSE and CLOCK_BOOTTIME),
// timerfds on them, and the waits of epoll, poll and nanosleep. It does not scale the calendar (CLOCK_REALTIME):
// signatures and tags need the true time. Without a file nothing changes.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 4096, SECOND = 1000000000 };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
// How far the program's clocks are ahead of the real ones, and the real instant (CLOCK_MONOTONIC) of that calculation.
static struct shared {
    volatile uint64_t rate;
    int64_t ahead, reckoned_at;
} own = {.rate = 1}, *shared = &own;
static int64_t rate = 1;

// A timer on a scaled clock, as the program set it, with its next expiry in the program's time.
static struct timer {
    int used, clock, armed;
    int64_t next, interval;
} timers[MAX_FD];

static int64_t nanoseconds(const struct timespec *time) { return (int64_t)time->tv_sec * SECOND + time->tv_nsec; }

static struct timespec timespec(int64_t value) {
    return (struct timespec){.tv_sec = value / SECOND, .tv_nsec = value % SECOND};
}

static int64_t real(clockid_t clock) {
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return nanoseconds(&now);
}

static int is_scaled(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE
        || clock == CLOCK_BOOTTIME;
}

// The program's instant on a clock. The caller holds `guard`.
static int64_t fake(clockid_t clock) {
    int64_t now = real(CLOCK_MONOTONIC);
    shared->ahead += (now - shared->reckoned_at) * (rate - 1);
    shared->reckoned_at = now;
    return real(clock) + shared->ahead;
}

static void arm(int fd) {
    struct timer *timer = &timers[fd];
    struct itimerspec set = {0};
    if (timer->armed) {
        int64_t left = (timer->next - fake(timer->clock)) / rate;
        set.it_value = timespec(left > 0 ? left : 1);
        if (timer->interval) {
            int64_t interval = timer->interval / rate;
            set.it_interval = timespec(interval > 0 ? interval : 1);
        }
    }
    syscall(SYS_timerfd_settime, fd, 0, &set, NULL);
}

static void follow_rate(void) {
    uint64_t wanted = shared->rate;
    if (wanted == (uint64_t)rate || wanted == 0) return;
    fake(CLOCK_MONOTONIC);
    rate = (int64_t)wanted;
    for (int fd = 0; fd < MAX_FD; fd++)
        if (timers[fd].used && timers[fd].armed) arm(fd);
}

static void *watch(void *nothing) {
    for (;;) {
        struct timespec pause = {.tv_nsec = 5000000};
        syscall(SYS_nanosleep, &pause, NULL);
        pthread_mutex_lock(&guard);
        follow_rate();
        pthread_mutex_unlock(&guard);
    }
    return nothing;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAST_CLOCK_RATE_FILE");
    own.reckoned_at = real(CLOCK_MONOTONIC);
    if (!path) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    shared = map;
    shared->reckoned_at = own.reckoned_at;
    follow_rate();
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) == 0) pthread_detach(thread);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!is_scaled(clock)) return (int)syscall(SYS_clock_gettime, clock, time);
    pthread_mutex_lock(&guard);
    follow_rate();
    *time = timespec(fake(clock));
    pthread_mutex_unlock(&guard);
    return 0;
}

int timerfd_create(int clock, int flags) {
    int fd = (int)syscall(SYS_timerfd_create, clock, flags);
    if (fd >= 0 && fd < MAX_FD) {
        pthread_mutex_lock(&guard);
        timers[fd] = (struct timer){.used = is_scaled(clock), .clock = clock};
        pthread_mutex_unlock(&guard);
    }
    return fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
    if (fd < 0 || fd >= MAX_FD || !timers[fd].used) return (int)syscall(SYS_timerfd_settime, fd, flags, new, old);
    pthread_mutex_lock(&guard);
    struct timer *timer = &timers[fd];
    int64_t value = nanoseconds(&new->it_value);
    timer->armed = value != 0;
    timer->next = flags & TFD_TIMER_ABSTIME ? value : fake(timer->clock) + value;
    timer->interval = nanoseconds(&new->it_interval);
    arm(fd);
    pthread_mutex_unlock(&guard);
    if (old) memset(old, 0, sizeof *old);
    return 0;
}

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD) timers[fd].used = 0;
    return (int)syscall(SYS_close, fd);
}

static int scaled_milliseconds(int wait) { return wait <= 0 ? wait : (int)((wait + rate - 1) / rate); }

int epoll_pwait(int fd, struct epoll_event *events, int count, int wait, const sigset_t *mask) {
    return (int)syscall(SYS_epoll_pwait, fd, events, count, scaled_milliseconds(wait), mask, 8);
}

int epoll_wait(int fd, struct epoll_event *events, int count, int wait) {
    return epoll_pwait(fd, events, count, wait, NULL);
}

int poll(struct pollfd *fds, nfds_t count, int wait) {
    struct timespec limit = timespec((int64_t)scaled_milliseconds(wait) * 1000000);
    return (int)syscall(SYS_ppoll, fds, count, wait < 0 ? NULL : &limit, NULL, 8);
}

int __poll_chk(struct pollfd *fds, nfds_t count, int wait, size_t size) {
    (void)size;
    return poll(fds, count, wait);
}

int nanosleep(const struct timespec *wait, struct timespec *left) {
    struct timespec scaled = timespec(nanoseconds(wait) / rate);
    return (int)syscall(SYS_nanosleep, &scaled, left);
}
