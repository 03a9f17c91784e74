/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs tell of single packets. */
#pragma once

#include <bpf.h>
#include "inet.h"
#include "metrics.h"

enum event_kind : __u8 {
	EVENT_DROP = 1,
	/* A flow begins because a rule allows it. */
	EVENT_ALLOW = 2,
	/* A packet passes, and policies that only audit would have dropped it for this reason. */
	EVENT_AUDIT = 3,
};

enum event_flags : __u8 {
	/* The packet answers the flow that was judged. */
	EVENT_REPLY = 1 << 0,
};

struct event {
	enum event_kind kind;
	enum reason reason;
	/* The endpoint's own: ingress for a packet towards it. */
	enum direction direction;
	enum family family;
	/* The device whose program saw the packet. */
	__u32 ifindex;
	/* 0: unknown there. */
	__u32 source_identity;
	__u32 destination_identity;
	/* The rule that decided, or the policy that isolates the endpoint; 0: no policy did. */
	__u32 cookie;
	/* Bytes on the wire, with Ethernet header. */
	__u32 length;
	struct inet source;
	struct inet destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	enum event_flags flags;
	__u8 reserved0;
	/* Local endpoint whose policy was asked; 0: none. */
	__u32 endpoint;
	__u32 reserved[3];
};

#define EVENTS_SIZE (256 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_SIZE);
} ax_events SEC(".maps");
