/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program needs from the kernel: uapi types, section and map macros, helpers by number.
 *
 * Only uapi headers are included, no vmlinux.h: its types are relocated at load time, which would make every node parse the
 * kernel's BTF.
 */
#pragma once

#include <linux/types.h>
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, type) typeof(type) *name
#define __inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
/* A function that the verifier judges once, for whatever arguments, instead of at each call. Its pointers may be NULL to it. */
#define __global __attribute__((noinline))

/* Keeps the compiler from merging what comes before with another branch. */
#define barrier_var(x) asm volatile("" : "+r"(x))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian targets are supported"
#endif
#define be16(x) ((__be16)__builtin_bswap16(x))
#define be32(x) ((__be32)__builtin_bswap32(x))
#define host16(x) __builtin_bswap16(x)
#define host32(x) __builtin_bswap32(x)

#define HELPER(ret, name, ...) static ret (*const name)(__VA_ARGS__)
HELPER(void *, bpf_map_lookup_elem, void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
HELPER(long, bpf_map_update_elem, void *map, const void *key, const void *value, __u64 flags) = (void *)BPF_FUNC_map_update_elem;
HELPER(long, bpf_map_delete_elem, void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
HELPER(__u64, bpf_ktime_get_coarse_ns, void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
HELPER(__u64, bpf_ktime_get_ns, void) = (void *)BPF_FUNC_ktime_get_ns;
HELPER(__u32, bpf_get_prandom_u32, void) = (void *)BPF_FUNC_get_prandom_u32;
HELPER(long, bpf_skb_store_bytes, struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
HELPER(long, bpf_skb_load_bytes, const void *skb, __u32 offset, void *to, __u32 len) = (void *)BPF_FUNC_skb_load_bytes;
HELPER(long, bpf_l3_csum_replace, struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 size) =
	(void *)BPF_FUNC_l3_csum_replace;
HELPER(long, bpf_l4_csum_replace, struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
HELPER(__s64, bpf_csum_diff, __be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed) = (void *)BPF_FUNC_csum_diff;
HELPER(long, bpf_redirect, __u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
HELPER(long, bpf_redirect_peer, __u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;
HELPER(long, bpf_redirect_neigh, __u32 ifindex, struct bpf_redir_neigh *hop, int size, __u64 flags) = (void *)BPF_FUNC_redirect_neigh;
HELPER(long, bpf_fib_lookup, void *ctx, struct bpf_fib_lookup *lookup, int size, __u32 flags) = (void *)BPF_FUNC_fib_lookup;
HELPER(struct bpf_sock *, bpf_skc_lookup_tcp, void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags) =
	(void *)BPF_FUNC_skc_lookup_tcp;
HELPER(struct bpf_sock *, bpf_sk_lookup_udp, void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns, __u64 flags) =
	(void *)BPF_FUNC_sk_lookup_udp;
HELPER(long, bpf_sk_release, void *sock) = (void *)BPF_FUNC_sk_release;
HELPER(long, bpf_skb_get_tunnel_key, struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags) =
	(void *)BPF_FUNC_skb_get_tunnel_key;
HELPER(long, bpf_skb_set_tunnel_key, struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags) =
	(void *)BPF_FUNC_skb_set_tunnel_key;
HELPER(long, bpf_skb_adjust_room, struct __sk_buff *skb, __s32 len_diff, __u32 mode, __u64 flags) = (void *)BPF_FUNC_skb_adjust_room;
HELPER(__u32, bpf_get_hash_recalc, struct __sk_buff *skb) = (void *)BPF_FUNC_get_hash_recalc;
HELPER(long, bpf_skb_pull_data, struct __sk_buff *skb, __u32 len) = (void *)BPF_FUNC_skb_pull_data;
HELPER(long, bpf_skb_change_tail, struct __sk_buff *skb, __u32 length, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
HELPER(long, bpf_skb_change_type, struct __sk_buff *skb, __u32 type) = (void *)BPF_FUNC_skb_change_type;
HELPER(__u64, bpf_get_socket_cookie, void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
HELPER(__u64, bpf_get_netns_cookie, void *ctx) = (void *)BPF_FUNC_get_netns_cookie;
HELPER(int, bpf_set_retval, int retval) = (void *)BPF_FUNC_set_retval;
HELPER(long, bpf_loop, __u32 iterations, void *callback, void *ctx, __u64 flags) = (void *)BPF_FUNC_loop;
HELPER(void *, bpf_ringbuf_reserve, void *ring, __u64 size, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
HELPER(__u64, bpf_ringbuf_query, void *ring, __u64 flags) = (void *)BPF_FUNC_ringbuf_query;
HELPER(void, bpf_ringbuf_submit, void *data, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
#undef HELPER
