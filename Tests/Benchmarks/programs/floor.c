// SPDX-License-Identifier: Apache-2.0
// The lowest possible cost of one pod's ADD and DEL: only the kernel's work, by raw netlink, in a process without
// libraries besides libc. Everything beyond this is the plugin's own cost: runtime start, JSON, the agent, the log.
//
//   floor add NETNS HOSTVETH IFNAME ADDRESS MTU   veth pair into NETNS, addresses, routes, neighbour, sysctls; IPv4 or IPv6
//   floor del HOSTVETH ADDRESS                    deletes the host route, and the veth by index (the kernel makes it wait)
//   floor del-route HOSTVETH ADDRESS              deletes only the host route: the caller deletes the veth
//
// Exit status 0, or 1 with one line on stderr.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POD_TABLE = 20512 };

// An address of either family.
struct address {
  unsigned char family, length;  // AF_INET or AF_INET6; bytes
  unsigned char bytes[16];
};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void fail(const char *format, ...) {
  va_list arguments;
  fputs("floor: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

// Several requests in one send() call. The kernel handles them in order and answers each with an NLMSG_ERROR.
struct batch {
  char bytes[2048];
  size_t length;
  struct nlmsghdr *current;
  unsigned requests;
};

static void *begin(struct batch *batch, int type, int flags, const void *header, size_t size) {
  struct nlmsghdr *message = (struct nlmsghdr *)(batch->bytes + batch->length);
  memset(message, 0, NLMSG_SPACE(size));
  message->nlmsg_type = type;
  message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
  message->nlmsg_seq = ++batch->requests;
  message->nlmsg_len = NLMSG_LENGTH(size);
  memcpy(NLMSG_DATA(message), header, size);
  batch->current = message;
  batch->length += NLMSG_ALIGN(message->nlmsg_len);
  return message;
}

static struct rtattr *attribute(struct batch *batch, int type, const void *value, size_t size) {
  struct rtattr *added = (struct rtattr *)((char *)batch->current + NLMSG_ALIGN(batch->current->nlmsg_len));
  added->rta_type = type;
  added->rta_len = RTA_LENGTH(size);
  if (size > 0) memcpy(RTA_DATA(added), value, size);
  batch->current->nlmsg_len = NLMSG_ALIGN(batch->current->nlmsg_len) + RTA_ALIGN(added->rta_len);
  batch->length = (char *)batch->current + NLMSG_ALIGN(batch->current->nlmsg_len) - batch->bytes;
  return added;
}

// Closes a nested attribute, which contains the attributes added since it was opened.
static void close_nest(struct batch *batch, struct rtattr *nest) {
  nest->rta_len = (char *)batch->current + batch->current->nlmsg_len - (char *)nest;
}

static void commit(int socket, struct batch *batch, const char *what) {
  char answer[8192];
  unsigned answered = 0;
  if (send(socket, batch->bytes, batch->length, 0) < 0) fail("%s: send: %s", what, strerror(errno));
  while (answered < batch->requests) {
    ssize_t length = recv(socket, answer, sizeof answer, 0);
    if (length < 0) fail("%s: receive: %s", what, strerror(errno));
    for (struct nlmsghdr *each = (struct nlmsghdr *)answer; NLMSG_OK(each, length); each = NLMSG_NEXT(each, length)) {
      if (each->nlmsg_type != NLMSG_ERROR) continue;
      int error = ((struct nlmsgerr *)NLMSG_DATA(each))->error;
      if (error) fail("%s: request %u: %s", what, each->nlmsg_seq, strerror(-error));
      answered++;
    }
  }
}

static int open_netlink(void) {
  int opened = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (opened < 0) fail("netlink: %s", strerror(errno));
  return opened;
}

static int index_of(int socket, const char *name) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(socket, SIOCGIFINDEX, &request) != 0) fail("index of %s: %s", name, strerror(errno));
  return request.ifr_ifindex;
}

static void write_sysctl(const char *interface, const char *name, const char *value) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", interface, name);
  int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0 || write(file, value, 1) != 1) fail("%s: %s", path, strerror(errno));
  close(file);
}

// Writes only a value that differs: while other links are changed, a write of `forwarding` spins.
static void keep_sysctl(const char *interface, const char *name, const char *value) {
  char path[128], stands[8];
  snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", interface, name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || read(file, stands, sizeof stands) < 1) fail("%s: %s", path, strerror(errno));
  close(file);
  if (stands[0] != value[0]) write_sysctl(interface, name, value);
}

static void random_mac(unsigned char mac[6]) {
  if (getrandom(mac, 6, 0) != 6) fail("random bytes: %s", strerror(errno));
  mac[0] = (mac[0] | 2) & 0xfe;
}

static struct address parse_address(const char *text) {
  int is_ipv6 = strchr(text, ':') != NULL;
  struct address parsed = {.family = is_ipv6 ? AF_INET6 : AF_INET, .length = is_ipv6 ? 16 : 4};
  if (inet_pton(parsed.family, text, parsed.bytes) != 1) fail("not an address: %s", text);
  return parsed;
}

// Usable at once: without duplicate detection, and without a route for it.
static void add_address(struct batch *batch, const struct address *own, int index, unsigned flags) {
  struct ifaddrmsg message = {.ifa_family = own->family, .ifa_prefixlen = own->length * 8, .ifa_index = index};
  begin(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message, sizeof message);
  attribute(batch, IFA_LOCAL, own->bytes, own->length);
  attribute(batch, IFA_ADDRESS, own->bytes, own->length);
  if (flags) attribute(batch, IFA_FLAGS, &flags, sizeof flags);
}

static void name_attribute(struct batch *batch, const char *name) {
  attribute(batch, IFLA_IFNAME, name, strlen(name) + 1);
}

static void create_pair(int socket, int netns, const char *host, const char *pod, const unsigned char *mac,
                        unsigned mtu) {
  struct batch batch = {0};
  struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
  unsigned char pod_mac[6];
  random_mac(pod_mac);
  begin(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
  name_attribute(&batch, host);
  attribute(&batch, IFLA_ADDRESS, mac, 6);
  attribute(&batch, IFLA_MTU, &mtu, sizeof mtu);
  struct rtattr *info = attribute(&batch, IFLA_LINKINFO, NULL, 0);
  attribute(&batch, IFLA_INFO_KIND, "veth", 4);
  struct rtattr *data = attribute(&batch, IFLA_INFO_DATA, NULL, 0);
  struct rtattr *peer = attribute(&batch, VETH_INFO_PEER, &link, sizeof link);
  name_attribute(&batch, pod);
  attribute(&batch, IFLA_ADDRESS, pod_mac, 6);
  attribute(&batch, IFLA_MTU, &mtu, sizeof mtu);
  attribute(&batch, IFLA_NET_NS_FD, &netns, sizeof netns);
  close_nest(&batch, peer);
  close_nest(&batch, data);
  close_nest(&batch, info);
  commit(socket, &batch, "create the veth pair");
}

static void link_up(struct batch *batch, int index) {
  struct ifinfomsg link = {.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin(batch, RTM_NEWLINK, 0, &link, sizeof link);
}

static void route(struct batch *batch, int type, unsigned table, const struct address *to, const struct address *via,
                  int index) {
  struct rtmsg message = {.rtm_family = (to ? to : via)->family, .rtm_dst_len = to ? to->length * 8 : 0, .rtm_type = RTN_UNICAST,
                          .rtm_protocol = RTPROT_BOOT, .rtm_scope = via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
                          .rtm_table = table < 256 ? table : RT_TABLE_UNSPEC};
  begin(batch, type, type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_EXCL : 0, &message, sizeof message);
  attribute(batch, RTA_TABLE, &table, sizeof table);
  if (to) attribute(batch, RTA_DST, to->bytes, to->length);
  if (via) attribute(batch, RTA_GATEWAY, via->bytes, via->length);
  attribute(batch, RTA_OIF, &index, sizeof index);
}

static void wire_pod(int socket, const char *interface, struct address own, const unsigned char *host_mac) {
  struct batch batch = {0};
  struct address gateway = parse_address(own.family == AF_INET6 ? "fe80::1" : "169.254.1.1");
  int index = index_of(socket, interface);
  struct ndmsg neighbour = {.ndm_family = own.family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
  add_address(&batch, &own, index, own.family == AF_INET6 ? IFA_F_NODAD : 0);
  link_up(&batch, index);
  route(&batch, RTM_NEWROUTE, RT_TABLE_MAIN, &gateway, NULL, index);
  route(&batch, RTM_NEWROUTE, RT_TABLE_MAIN, NULL, &gateway, index);
  begin(&batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &neighbour, sizeof neighbour);
  attribute(&batch, NDA_DST, gateway.bytes, gateway.length);
  attribute(&batch, NDA_LLADDR, host_mac, 6);
  commit(socket, &batch, "wire the pod");
}

static void add(const char *netns_path, const char *host, const char *pod, const char *address, const char *mtu) {
  int netns = open(netns_path, O_RDONLY | O_CLOEXEC);
  if (netns < 0) fail("%s: %s", netns_path, strerror(errno));
  struct address own = parse_address(address);
  unsigned char host_mac[6];
  random_mac(host_mac);
  int here = open_netlink();
  create_pair(here, netns, host, pod, host_mac, strtoul(mtu, NULL, 10));
  write_sysctl(host, "accept_ra", "0");
  keep_sysctl(host, "accept_redirects", "1");
  keep_sysctl(host, "forwarding", "0");
  struct batch batch = {0};
  int index = index_of(here, host);
  link_up(&batch, index);
  if (own.family == AF_INET6) {
    struct address host_own = parse_address("fe80::");
    memcpy(host_own.bytes + 10, host_mac, 6);
    add_address(&batch, &host_own, index, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
  }
  route(&batch, RTM_NEWROUTE, POD_TABLE, &own, NULL, index);
  commit(here, &batch, "wire the host's end");
  if (setns(netns, CLONE_NEWNET) != 0) fail("enter %s: %s", netns_path, strerror(errno));
  if (own.family == AF_INET6) {
    keep_sysctl("lo", "disable_ipv6", "0");
    keep_sysctl(pod, "disable_ipv6", "0");
  }
  wire_pod(open_netlink(), pod, own, host_mac);
}

static void del(const char *host, const char *address, int deletes_link) {
  struct batch batch = {0};
  struct address own = parse_address(address);
  int here = open_netlink();
  int index = index_of(here, host);
  route(&batch, RTM_DELROUTE, POD_TABLE, &own, NULL, index);
  if (deletes_link) {
    struct ifinfomsg link = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    begin(&batch, RTM_DELLINK, 0, &link, sizeof link);
  }
  commit(here, &batch, "delete");
}

int main(int count, char **words) {
  if (count == 7 && strcmp(words[1], "add") == 0) {
    add(words[2], words[3], words[4], words[5], words[6]);
  } else if (count == 4 && strcmp(words[1], "del") == 0) {
    del(words[2], words[3], 1);
  } else if (count == 4 && strcmp(words[1], "del-route") == 0) {
    del(words[2], words[3], 0);
  } else {
    fail("usage: add NETNS HOSTVETH IFNAME ADDRESS MTU | del HOSTVETH ADDRESS | del-route HOSTVETH ADDRESS");
  }
  return 0;
}
