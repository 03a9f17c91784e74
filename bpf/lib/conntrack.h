/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connection tracking: an entry per flow and end (egress at its source, ingress at its destination). */
#pragma once

#include <bpf.h>
#include "inet.h"

enum ct_flags : __u16 {
	/* Packets of both directions were seen, of TCP beyond its handshake. */
	CT_ESTABLISHED = 1 << 0,
	/* FIN or RST was seen. */
	CT_CLOSING = 1 << 1,
	/* A pod reaches itself through a service: its source was replaced on the way. */
	CT_HAIRPIN = 1 << 2,
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
	/* Egress entry: the frontend, to be put back as the source of replies. Service entry: the backend. */
	struct inet service_address;
	__be16 service_port;
	enum ct_flags flags;
	__u32 reserved[5];
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
