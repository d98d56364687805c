// SPDX-License-Identifier: Apache-2.0
// Sends 64-byte UDP frames from one network namespace to another and prints the forwarding rate of what is in between.
//
//   traffic FROM_NETNS FROM_ADDRESS TO_NETNS TO_ADDRESS PORT MILLISECONDS
//
// One thread holds a socket in each namespace, sends a batch, and receives it at the other end. veth delivers within
// the send call, so the time of a batch is the cost of sender, forwarder and receiving stack on one CPU, without the
// scheduler or a second CPU. If a packet has not arrived when the send call returns, the thread waits for it within
// the measured time. The rate is that of the median batch, so that moments in which others had the CPU do not count;
// the mean is printed beside it. The round trip is one packet there and one back, the median of 500.
//
// Prints one line of JSON: packets, lost, packets_per_second, mean_packets_per_second, round_trip_ns. Exit status 1 if
// nothing arrives.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  PAYLOAD = 18,  // 14 Ethernet + 20 IPv4 + 8 UDP + 18 + 4 checksum of the frame = 64
  BATCH = 64,
  MAX_BATCHES = 1 << 18,
  ROUND_TRIPS = 500,
  WARM_UP_BATCHES = 30,
};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void fail(const char *format, ...) {
  va_list arguments;
  fputs("traffic: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static struct sockaddr_in endpoint(const char *address, int port) {
  struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, address, &made.sin_addr) != 1) fail("not an address: %s", address);
  return made;
}

// A connected socket in the namespace that `netns` names. The thread stays there.
static int open_socket(const char *netns, struct sockaddr_in own, struct sockaddr_in other) {
  int room = 8 << 20;
  int file = open(netns, O_RDONLY | O_CLOEXEC);
  if (file < 0 || setns(file, CLONE_NEWNET) != 0) fail("enter %s: %s", netns, strerror(errno));
  close(file);
  int opened = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (opened < 0) fail("socket: %s", strerror(errno));
  if (setsockopt(opened, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0) fail("buffer: %s", strerror(errno));
  if (bind(opened, (struct sockaddr *)&own, sizeof own) != 0) fail("bind in %s: %s", netns, strerror(errno));
  if (connect(opened, (struct sockaddr *)&other, sizeof other) != 0) fail("connect in %s: %s", netns, strerror(errno));
  return opened;
}

struct messages {
  struct mmsghdr headers[BATCH];
  struct iovec parts[BATCH];
  char bytes[BATCH][PAYLOAD];
};

static void prepare(struct messages *messages) {
  memset(messages, 0, sizeof *messages);
  for (int at = 0; at < BATCH; at++) {
    messages->parts[at] = (struct iovec){messages->bytes[at], PAYLOAD};
    messages->headers[at].msg_hdr.msg_iov = &messages->parts[at];
    messages->headers[at].msg_hdr.msg_iovlen = 1;
  }
}

// Receives what has arrived and waits up to a second for the rest. Returns the number of packets.
static int receive(int socket, struct messages *messages, int expected) {
  int received = 0;
  while (received < expected) {
    int got = recvmmsg(socket, messages->headers, expected - received, MSG_DONTWAIT, NULL);
    if (got > 0) {
      received += got;
      continue;
    }
    if (got < 0 && errno != EAGAIN && errno != EINTR) fail("receive: %s", strerror(errno));
    struct pollfd readable = {.fd = socket, .events = POLLIN};
    if (poll(&readable, 1, 1000) == 0) return received;
  }
  return received;
}

static int pass_batch(int from, int to, struct messages *out, struct messages *in, int count) {
  int sent = 0;
  while (sent < count) {
    int now_sent = sendmmsg(from, out->headers + sent, count - sent, 0);
    if (now_sent < 0 && errno != EINTR && errno != EAGAIN) fail("send: %s", strerror(errno));
    if (now_sent > 0) sent += now_sent;
  }
  return receive(to, in, count);
}

static int compare(const void *left, const void *right) {
  double difference = *(const double *)left - *(const double *)right;
  return (difference > 0) - (difference < 0);
}

static double median(double *values, int count) {
  qsort(values, count, sizeof *values, compare);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

int main(int count, char **words) {
  static struct messages out, in;
  static double times[MAX_BATCHES], trips[ROUND_TRIPS];
  if (count != 7) fail("usage: FROM_NETNS FROM_ADDRESS TO_NETNS TO_ADDRESS PORT MILLISECONDS");
  int port = atoi(words[5]);
  struct sockaddr_in source = endpoint(words[2], port), sink = endpoint(words[4], port);
  int from = open_socket(words[1], source, sink);
  int to = open_socket(words[3], sink, source);
  prepare(&out);
  prepare(&in);

  for (int at = 0; at < WARM_UP_BATCHES; at++)
    if (pass_batch(from, to, &out, &in, BATCH) < BATCH) fail("packets do not arrive at %s", words[4]);

  long long packets = 0, lost = 0, began = now(), ended = began, until = began + atoi(words[6]) * 1000000LL;
  int batches = 0;
  while (batches < MAX_BATCHES && ended < until) {
    long long last = ended;
    int arrived = pass_batch(from, to, &out, &in, BATCH);
    ended = now();
    packets += arrived;
    lost += BATCH - arrived;
    times[batches++] = ended - last;
  }
  if (batches == 0) fail("no time to measure in");
  for (int at = 0; at < ROUND_TRIPS; at++) {
    long long sent = now();
    if (pass_batch(from, to, &out, &in, 1) + pass_batch(to, from, &out, &in, 1) < 2) fail("a round trip was lost");
    trips[at] = now() - sent;
  }
  printf("{\"packets\": %lld, \"lost\": %lld, \"packets_per_second\": %.0f, \"mean_packets_per_second\": %.0f, "
         "\"round_trip_ns\": %.0f}\n",
         packets, lost, BATCH * 1e9 / median(times, batches), packets * 1e9 / (ended - began),
         median(trips, ROUND_TRIPS));
  return 0;
}
