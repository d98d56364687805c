// SPDX-License-Identifier: Apache-2.0
//
// libmnl and libnftnl, opened with dlopen on first use: neither is ever a NEEDED entry, so that the plugin's process
// does not pay for them and runs on a node that lacks them. Every function below has the name that the library gives
// it, behind `cnft_`, and may be called only after `cnft_load` returned 0 in this process.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/gen.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#ifdef __cplusplus
extern "C" {
#endif

// X(library, result, name, parameters, arguments)
#define CNFT_FUNCTIONS(X)                                                                                             \
  X(mnl, struct mnl_socket *, mnl_socket_open2, (int bus, int flags), (bus, flags))                                   \
  X(mnl, int, mnl_socket_bind, (struct mnl_socket * s, unsigned int groups, pid_t port), (s, groups, port))           \
  X(mnl, int, mnl_socket_close, (struct mnl_socket * s), (s))                                                         \
  X(mnl, int, mnl_socket_get_fd, (const struct mnl_socket *s), (s))                                                   \
  X(mnl, ssize_t, mnl_socket_sendto, (const struct mnl_socket *s, const void *data, size_t size), (s, data, size))    \
  X(mnl, ssize_t, mnl_socket_recvfrom, (const struct mnl_socket *s, void *data, size_t size), (s, data, size))        \
  X(mnl, int, mnl_socket_setsockopt, (const struct mnl_socket *s, int type, void *data, socklen_t size),              \
    (s, type, data, size))                                                                                            \
  X(mnl, void, mnl_attr_put_u32, (struct nlmsghdr * h, uint16_t type, uint32_t data), (h, type, data))                \
  X(mnl, void, mnl_attr_put_strz, (struct nlmsghdr * h, uint16_t type, const char *data), (h, type, data))            \
  X(nftnl, struct nlmsghdr *, nftnl_nlmsg_build_hdr,                                                                  \
    (char *buffer, uint16_t type, uint16_t family, uint16_t flags, uint32_t seq), (buffer, type, family, flags, seq)) \
  X(nftnl, struct nlmsghdr *, nftnl_batch_begin, (char *buffer, uint32_t seq), (buffer, seq))                         \
  X(nftnl, struct nlmsghdr *, nftnl_batch_end, (char *buffer, uint32_t seq), (buffer, seq))                           \
  X(nftnl, struct nftnl_gen *, nftnl_gen_alloc, (void), ())                                                           \
  X(nftnl, void, nftnl_gen_free, (const struct nftnl_gen *g), (g))                                                    \
  X(nftnl, uint32_t, nftnl_gen_get_u32, (const struct nftnl_gen *g, uint16_t attr), (g, attr))                        \
  X(nftnl, int, nftnl_gen_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_gen *g), (h, g))                       \
  X(nftnl, struct nftnl_table *, nftnl_table_alloc, (void), ())                                                       \
  X(nftnl, void, nftnl_table_free, (const struct nftnl_table *t), (t))                                                \
  X(nftnl, void, nftnl_table_set_u32, (struct nftnl_table * t, uint16_t attr, uint32_t data), (t, attr, data))        \
  X(nftnl, int, nftnl_table_set_str, (struct nftnl_table * t, uint16_t attr, const char *data), (t, attr, data))      \
  X(nftnl, uint32_t, nftnl_table_get_u32, (const struct nftnl_table *t, uint16_t attr), (t, attr))                    \
  X(nftnl, void, nftnl_table_nlmsg_build_payload, (struct nlmsghdr * h, const struct nftnl_table *t), (h, t))         \
  X(nftnl, int, nftnl_table_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_table *t), (h, t))                   \
  X(nftnl, struct nftnl_chain *, nftnl_chain_alloc, (void), ())                                                       \
  X(nftnl, void, nftnl_chain_free, (const struct nftnl_chain *c), (c))                                                \
  X(nftnl, bool, nftnl_chain_is_set, (const struct nftnl_chain *c, uint16_t attr), (c, attr))                         \
  X(nftnl, void, nftnl_chain_set_u32, (struct nftnl_chain * c, uint16_t attr, uint32_t data), (c, attr, data))        \
  X(nftnl, void, nftnl_chain_set_s32, (struct nftnl_chain * c, uint16_t attr, int32_t data), (c, attr, data))         \
  X(nftnl, int, nftnl_chain_set_str, (struct nftnl_chain * c, uint16_t attr, const char *data), (c, attr, data))      \
  X(nftnl, const char *, nftnl_chain_get_str, (const struct nftnl_chain *c, uint16_t attr), (c, attr))                \
  X(nftnl, uint32_t, nftnl_chain_get_u32, (const struct nftnl_chain *c, uint16_t attr), (c, attr))                    \
  X(nftnl, int32_t, nftnl_chain_get_s32, (const struct nftnl_chain *c, uint16_t attr), (c, attr))                     \
  X(nftnl, void, nftnl_chain_nlmsg_build_payload, (struct nlmsghdr * h, const struct nftnl_chain *c), (h, c))         \
  X(nftnl, int, nftnl_chain_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_chain *c), (h, c))                   \
  X(nftnl, struct nftnl_rule *, nftnl_rule_alloc, (void), ())                                                         \
  X(nftnl, void, nftnl_rule_free, (const struct nftnl_rule *r), (r))                                                  \
  X(nftnl, void, nftnl_rule_set_u32, (struct nftnl_rule * r, uint16_t attr, uint32_t data), (r, attr, data))          \
  X(nftnl, void, nftnl_rule_set_u64, (struct nftnl_rule * r, uint16_t attr, uint64_t data), (r, attr, data))          \
  X(nftnl, int, nftnl_rule_set_str, (struct nftnl_rule * r, uint16_t attr, const char *data), (r, attr, data))        \
  X(nftnl, const char *, nftnl_rule_get_str, (const struct nftnl_rule *r, uint16_t attr), (r, attr))                  \
  X(nftnl, uint64_t, nftnl_rule_get_u64, (const struct nftnl_rule *r, uint16_t attr), (r, attr))                      \
  X(nftnl, void, nftnl_rule_add_expr, (struct nftnl_rule * r, struct nftnl_expr * e), (r, e))                         \
  X(nftnl, void, nftnl_rule_nlmsg_build_payload, (struct nlmsghdr * h, struct nftnl_rule * r), (h, r))                \
  X(nftnl, int, nftnl_rule_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_rule *r), (h, r))                     \
  X(nftnl, struct nftnl_expr_iter *, nftnl_expr_iter_create, (const struct nftnl_rule *r), (r))                       \
  X(nftnl, struct nftnl_expr *, nftnl_expr_iter_next, (struct nftnl_expr_iter * i), (i))                              \
  X(nftnl, void, nftnl_expr_iter_destroy, (struct nftnl_expr_iter * i), (i))                                          \
  X(nftnl, struct nftnl_expr *, nftnl_expr_alloc, (const char *name), (name))                                         \
  X(nftnl, void, nftnl_expr_free, (const struct nftnl_expr *e), (e))                                                  \
  X(nftnl, bool, nftnl_expr_is_set, (const struct nftnl_expr *e, uint16_t attr), (e, attr))                           \
  X(nftnl, int, nftnl_expr_set, (struct nftnl_expr * e, uint16_t attr, const void *data, uint32_t size),              \
    (e, attr, data, size))                                                                                            \
  X(nftnl, void, nftnl_expr_set_u32, (struct nftnl_expr * e, uint16_t attr, uint32_t data), (e, attr, data))          \
  X(nftnl, int, nftnl_expr_set_str, (struct nftnl_expr * e, uint16_t attr, const char *data), (e, attr, data))        \
  X(nftnl, const void *, nftnl_expr_get, (const struct nftnl_expr *e, uint16_t attr, uint32_t *size), (e, attr, size)) \
  X(nftnl, uint32_t, nftnl_expr_get_u32, (const struct nftnl_expr *e, uint16_t attr), (e, attr))                      \
  X(nftnl, const char *, nftnl_expr_get_str, (const struct nftnl_expr *e, uint16_t attr), (e, attr))                  \
  X(nftnl, struct nftnl_set *, nftnl_set_alloc, (void), ())                                                           \
  X(nftnl, void, nftnl_set_free, (const struct nftnl_set *s), (s))                                                    \
  X(nftnl, int, nftnl_set_set_data, (struct nftnl_set * s, uint16_t attr, const void *data, uint32_t size),           \
    (s, attr, data, size))                                                                                            \
  X(nftnl, void, nftnl_set_set_u32, (struct nftnl_set * s, uint16_t attr, uint32_t data), (s, attr, data))            \
  X(nftnl, int, nftnl_set_set_str, (struct nftnl_set * s, uint16_t attr, const char *data), (s, attr, data))          \
  X(nftnl, const char *, nftnl_set_get_str, (const struct nftnl_set *s, uint16_t attr), (s, attr))                    \
  X(nftnl, uint32_t, nftnl_set_get_u32, (const struct nftnl_set *s, uint16_t attr), (s, attr))                        \
  X(nftnl, void, nftnl_set_nlmsg_build_payload, (struct nlmsghdr * h, struct nftnl_set * s), (h, s))                  \
  X(nftnl, int, nftnl_set_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_set *s), (h, s))                       \
  X(nftnl, int, nftnl_set_elems_nlmsg_parse, (const struct nlmsghdr *h, struct nftnl_set *s), (h, s))                 \
  X(nftnl, void, nftnl_set_elems_nlmsg_build_payload, (struct nlmsghdr * h, struct nftnl_set * s), (h, s))            \
  X(nftnl, struct nftnl_set_elem *, nftnl_set_elem_alloc, (void), ())                                                 \
  X(nftnl, void, nftnl_set_elem_add, (struct nftnl_set * s, struct nftnl_set_elem * e), (s, e))                       \
  X(nftnl, int, nftnl_set_elem_set, (struct nftnl_set_elem * e, uint16_t attr, const void *data, uint32_t size),      \
    (e, attr, data, size))                                                                                            \
  X(nftnl, void, nftnl_set_elem_set_u32, (struct nftnl_set_elem * e, uint16_t attr, uint32_t data), (e, attr, data))  \
  X(nftnl, int, nftnl_set_elem_set_str, (struct nftnl_set_elem * e, uint16_t attr, const char *data), (e, attr, data)) \
  X(nftnl, const void *, nftnl_set_elem_get, (struct nftnl_set_elem * e, uint16_t attr, uint32_t *size),              \
    (e, attr, size))                                                                                                  \
  X(nftnl, const char *, nftnl_set_elem_get_str, (struct nftnl_set_elem * e, uint16_t attr), (e, attr))               \
  X(nftnl, uint32_t, nftnl_set_elem_get_u32, (struct nftnl_set_elem * e, uint16_t attr), (e, attr))                   \
  X(nftnl, bool, nftnl_set_elem_is_set, (const struct nftnl_set_elem *e, uint16_t attr), (e, attr))                   \
  X(nftnl, struct nftnl_set_elems_iter *, nftnl_set_elems_iter_create, (const struct nftnl_set *s), (s))              \
  X(nftnl, struct nftnl_set_elem *, nftnl_set_elems_iter_next, (struct nftnl_set_elems_iter * i), (i))                \
  X(nftnl, void, nftnl_set_elems_iter_destroy, (struct nftnl_set_elems_iter * i), (i))

#define CNFT_DECLARE(library, result, name, parameters, arguments) result cnft_##name parameters;
CNFT_FUNCTIONS(CNFT_DECLARE)
#undef CNFT_DECLARE

/// Opens libmnl.so.0 and libnftnl.so.11 and resolves every function above, once a process; any thread may call it.
/// Returns 0, or -1 with the name of the library or symbol that is missing in `message` (NUL-terminated, cut to fit).
int cnft_load(char *message, size_t size);

/// The same with other library names, and nothing kept: shows what `cnft_load` would say on a node that lacks them.
int cnft_probe(const char *mnl, const char *nftnl, char *message, size_t size);

#ifdef __cplusplus
}
#endif
