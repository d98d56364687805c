// SPDX-License-Identifier: Apache-2.0
// Sends ICMP echoes to an IPv4 or IPv6 address, one per millisecond, until SIGTERM; then 3000 more. Prints the numbers sent and answered.
//
//   echoes ADDRESS
//
// With such a short interval ping polls all the time, and a few pings use a whole processor.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 60000, AFTERWARDS = 3000, INTERVAL_NS = 1000000, PATIENCE_SECONDS = 5 };

static volatile sig_atomic_t is_ended;
static unsigned char is_answered[MOST];
static int received;
static int is_ipv6;

static void end(int number) { is_ended = number; }

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static unsigned short checksum(const void *bytes, size_t size) {
    unsigned sum = 0;
    for (const unsigned short *word = bytes; size > 1; size -= 2) sum += *word++;
    sum = (sum >> 16) + (sum & 0xffff);
    return ~(sum + (sum >> 16));
}

// Takes every answer that comes before `until`.
static void receive(int fd, unsigned short id, long long until) {
    for (;;) {
        long long left = until - now();
        struct timespec wait = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        struct pollfd readable = {fd, POLLIN, 0};
        int ready = ppoll(&readable, 1, &wait, NULL);
        if (ready == 0 || (ready < 0 && errno != EINTR)) return;
        unsigned char packet[256];
        ssize_t size;
        while ((size = recv(fd, packet, sizeof packet, MSG_DONTWAIT)) > 0) {
            // IPv6 gives the message without the header. An echo of ICMPv6 has the same shape.
            size_t header = is_ipv6 ? 0 : (packet[0] & 15) * 4;
            unsigned char answer = is_ipv6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY;
            struct icmphdr echo;
            if (size < (ssize_t)(header + sizeof echo)) continue;
            memcpy(&echo, packet + header, sizeof echo);
            unsigned short number = ntohs(echo.un.echo.sequence);
            if (echo.type != answer || echo.un.echo.id != id || number >= MOST || is_answered[number]) continue;
            is_answered[number] = 1;
            received++;
        }
    }
}

int main(int count, char **words) {
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    is_ipv6 = count == 2 && inet_pton(AF_INET6, words[1], &ipv6.sin6_addr) == 1;
    if (count != 2 || !(is_ipv6 || inet_pton(AF_INET, words[1], &ipv4.sin_addr) == 1))
        return fprintf(stderr, "echoes ADDRESS\n"), 64;
    int fd = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    const struct sockaddr *address = is_ipv6 ? (struct sockaddr *)&ipv6 : (struct sockaddr *)&ipv4;
    if (fd < 0 || connect(fd, address, is_ipv6 ? sizeof ipv6 : sizeof ipv4) < 0) return perror("echoes"), 1;
    struct icmp_filter filter = {~(1U << ICMP_ECHOREPLY)};
    struct icmp6_filter filter6;
    ICMP6_FILTER_SETBLOCKALL(&filter6);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter6);
    if (is_ipv6) setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter6, sizeof filter6);
    else setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof filter);
    signal(SIGTERM, end);
    unsigned short id = getpid();
    int sent = 0, left = AFTERWARDS;
    for (long long next = now(); sent < MOST && left > 0; sent++) {
        if (is_ended) left--;
        struct { struct icmphdr header; char text[56]; } echo = {.header = {.type = is_ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO, .un.echo = {id, htons(sent)}}};
        if (!is_ipv6) echo.header.checksum = checksum(&echo, sizeof echo);  // the kernel fills in that of ICMPv6
        // An echo that cannot be sent counts as unanswered.
        send(fd, &echo, sizeof echo, 0);
        // A delay on a busy machine causes no burst afterwards.
        next = next + INTERVAL_NS > now() ? next + INTERVAL_NS : now();
        receive(fd, id, next);
    }
    for (long long until = now() + PATIENCE_SECONDS * 1000000000LL; received < sent && now() < until;) receive(fd, id, now() + 10000000);
    printf("%d sent, %d answered\n", sent, received);
    return 0;
}
