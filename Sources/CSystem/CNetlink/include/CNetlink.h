// libnl-3 and libnl-route-3 as Swift sees them. Only what Swift cannot import by itself stands here.
#pragma once
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netconf.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/fib_rules.h>
#include <linux/veth.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

// glibc declares these under _GNU_SOURCE alone, which Swift's importer does not set.

#define CNETLINK_CLONE_NEWNET 0x40000000

static inline int cnetlink_setns_net(int fd) { return (int)syscall(SYS_setns, fd, CNETLINK_CLONE_NEWNET); }

static inline int cnetlink_unshare_net(void) { return (int)syscall(SYS_unshare, CNETLINK_CLONE_NEWNET); }

// NS_GET_NSTYPE of linux/nsfs.h is a macro with a cast: the CLONE_* value of a namespace's type, or -1 and errno.
static inline int cnetlink_namespace_type(int fd) { return ioctl(fd, _IO(0xb7, 0x3)); }
