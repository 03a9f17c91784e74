/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs tell of single packets. */
#pragma once

#include <bpf.h>
#include "inet.h"
#include "metrics.h"

enum event_kind : __u8 {
	EVENT_DROP = 1,
};

struct event {
	enum event_kind kind;
	enum reason reason;
	enum direction direction;
	enum family family;
	/* The device whose program dropped the packet. */
	__u32 ifindex;
	/* 0: unknown at the place of the drop. */
	__u32 source_identity;
	__u32 destination_identity;
	/* The policy that decided; 0 unless reason is REASON_POLICY_*. */
	__u32 cookie;
	/* Bytes on the wire, with Ethernet header. */
	__u32 length;
	struct inet source;
	struct inet destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	__u16 reserved0;
	/* Local endpoint whose policy was asked; 0: none. */
	__u32 endpoint;
	__u32 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ax_events SEC(".maps");
