/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connection tracking: an entry per flow and end (egress at its source, ingress at its destination). */
#pragma once

#include <bpf.h>
#include <linux/in.h>
#include "inet.h"
#include "metrics.h"
#include "packet.h"

enum ct_flags : __u16 {
	/* A packet came back. */
	CT_REPLIED = 1 << 0,
	/* TCP: the handshake is over. */
	CT_ESTABLISHED = 1 << 1,
	/* TCP: the initiator, the other end sent FIN; RST sets both. */
	CT_CLOSED_ORIGINAL = 1 << 2,
	CT_CLOSED_REPLY = 1 << 3,
	/* A pod reaches itself through a service: its source is replaced on the way. */
	CT_HAIRPIN = 1 << 4,
};

struct ct {
	/* CLOCK_MONOTONIC in ns. An entry past it does not exist. */
	__u64 expires;
	__u64 packets;
	__u64 bytes;
	/* The policy generation by which the flow was allowed. */
	__u32 generation;
	/* The identity of the other end at that time. */
	__u32 peer_identity;
	/* Non-zero: the flow goes through this service. */
	__u32 service;
	/* Only in service entries: the revision at which the backend was last known to exist. */
	__u32 service_revision;
	/*
	 * Egress entry, and ingress entry of a client outside: the frontend, to be put back as the source of replies. Service entry: the
	 * backend.
	 */
	struct inet service_address;
	__be16 service_port;
	enum ct_flags flags;
	/* Ingress entry: the node through whose tunnel a packet came whose source is nobody's. Replies go back there. */
	struct inet via;
	/* FAMILY_NONE: the host's routes know. */
	enum family via_family;
	__u8 reserved;
	/* Of a client outside. Ingress entry: the port that it has, to be put back. Service entry: by which its backend knows it. */
	__be16 client_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct ct);
} ax_ct_tcp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct tuple);
	__type(value, struct ct);
} ax_ct_any SEC(".maps");

/* A generation that no policy has: of a flow that nobody has judged yet. */
#define CT_UNJUDGED 0xffffffffU

#define SECONDS 1000000000ULL
#define CT_TCP_OPENING (60 * SECONDS)
#define CT_TCP_ESTABLISHED (8000 * SECONDS)
#define CT_TCP_CLOSING (10 * SECONDS)
#define CT_ANY_LIFETIME (60 * SECONDS)
/* Lifetimes are not written more often than this, so that CPUs do not fight for an entry's cache line. */
#define CT_REFRESH (1 * SECONDS)

enum ct_state : __u8 {
	CT_NEW = 0,
	CT_ORIGINAL = 1,
	CT_REPLY = 2,
};

static __inline void *ct_map(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? (void *)&ax_ct_tcp : (void *)&ax_ct_any;
}

static __noinline struct ct *ct_find(const struct tuple *key)
{
	struct ct *ct;

	/* Not through ct_map: the kernel inlines a lookup only where it is always the same map. */
	if (key->protocol == IPPROTO_TCP) {
		ct = bpf_map_lookup_elem(&ax_ct_tcp, key);
		barrier_var(ct);
	} else {
		ct = bpf_map_lookup_elem(&ax_ct_any, key);
	}
	if (!ct || ct->expires <= bpf_ktime_get_coarse_ns())
		return 0;
	return ct;
}

static __inline int ct_is_closed(const struct ct *ct)
{
	return (ct->flags & (CT_CLOSED_ORIGINAL | CT_CLOSED_REPLY)) == (CT_CLOSED_ORIGINAL | CT_CLOSED_REPLY);
}

static __inline __u64 ct_lifetime(__u8 protocol, enum ct_flags flags)
{
	if (protocol != IPPROTO_TCP)
		return CT_ANY_LIFETIME;
	if ((flags & CT_CLOSED_ORIGINAL) && (flags & CT_CLOSED_REPLY))
		return CT_TCP_CLOSING;
	return flags & CT_ESTABLISHED ? CT_TCP_ESTABLISHED : CT_TCP_OPENING;
}

/* Takes note of a packet of a known flow. */
static __noinline void ct_touch(struct ct *ct, __u8 protocol, __u8 tcp_flags, enum ct_state state)
{
	enum ct_flags flags = ct->flags;
	__u64 expires;

	if (state == CT_REPLY)
		flags |= CT_REPLIED;
	if (protocol == IPPROTO_TCP) {
		if (state == CT_ORIGINAL && (flags & CT_REPLIED) && !(tcp_flags & TCP_SYN))
			flags |= CT_ESTABLISHED;
		if (tcp_flags & TCP_FIN)
			flags |= state == CT_REPLY ? CT_CLOSED_REPLY : CT_CLOSED_ORIGINAL;
		if (tcp_flags & TCP_RST)
			flags |= CT_CLOSED_REPLY | CT_CLOSED_ORIGINAL;
	}
	expires = bpf_ktime_get_coarse_ns() + ct_lifetime(protocol, flags);
	if (flags != ct->flags) {
		ct->flags = flags;
		ct->expires = expires;
	} else if (expires > ct->expires + CT_REFRESH) {
		ct->expires = expires;
	}
}

static __noinline void ct_forget(const struct tuple *key)
{
	bpf_map_delete_elem(ct_map(key->protocol), key);
}

/* Fills in lifetime and stores. Returns 0 or -reason. */
static __noinline int ct_create(const struct tuple *key, struct ct *ct, __u8 tcp_flags)
{
	if (tcp_flags & TCP_RST)
		ct->flags |= CT_CLOSED_ORIGINAL | CT_CLOSED_REPLY;
	ct->expires = bpf_ktime_get_coarse_ns() + ct_lifetime(key->protocol, ct->flags);
	return bpf_map_update_elem(ct_map(key->protocol), key, ct, BPF_ANY) ? -REASON_CT_NO_SPACE : 0;
}
