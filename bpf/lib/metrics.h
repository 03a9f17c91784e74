/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters of what was forwarded and dropped, and the numbers of the reasons. */
#pragma once

#include <bpf.h>
#include "inet.h"

/* Where Cilium's flow API has a reason of the same meaning, its number is used. Numbers are never reused. */
enum reason : __u8 {
	REASON_FORWARDED = 0,
	/* No packet was lost, but the ring had no room to tell of one. */
	REASON_EVENT_LOST = 1,
	/* No packet was lost, but policies that only audit would have dropped one. */
	REASON_AUDITED = 2,
	REASON_INVALID_SOURCE_MAC = 130,
	REASON_INVALID_SOURCE_IP = 132,
	REASON_POLICY_DEFAULT_DENY = 133,
	REASON_INVALID_PACKET = 134,
	REASON_CT_INVALID_HEADER = 135,
	REASON_UNSUPPORTED_L3 = 139,
	REASON_WRITE_FAILED = 141,
	REASON_UNSUPPORTED_L4 = 142,
	REASON_NO_TUNNEL_KEY = 147,
	REASON_NO_ENDPOINT = 152,
	REASON_CT_NO_SPACE = 155,
	REASON_INVALID_EXTENSION_HEADER = 156,
	REASON_FRAG_UNSUPPORTED = 157,
	REASON_NO_SERVICE_BACKEND = 158,
	REASON_NO_TUNNEL_ENDPOINT = 160,
	REASON_NO_CONFIG = 165,
	REASON_NAT_NO_MAPPING = 167,
	REASON_NAT_UNSUPPORTED_PROTOCOL = 168,
	REASON_NO_ROUTE = 169,
	REASON_TUNNEL_FROM_POD = 170,
	REASON_INVALID_IDENTITY = 171,
	REASON_UNKNOWN_SENDER = 172,
	/* A later fragment of a datagram whose first one was not seen. */
	REASON_FRAG_NOT_FOUND = 175,
	REASON_FORBIDDEN_ICMPV6 = 176,
	REASON_POLICY_DENY = 181,
	REASON_TTL_EXCEEDED = 196,
	/* From here on: reasons that only this project has. */
	REASON_V4_MAPPED_IPV6 = 224,
	REASON_NAT_NO_PORT = 225,
	REASON_BANDWIDTH_LIMIT = 226,
	/* A service's address, and a port that it does not have. */
	REASON_NO_SERVICE = 227,
	/* Who asks from outside may only get backends of this node, and all are of others. */
	REASON_NO_LOCAL_BACKEND = 228,
	/* For the way to a backend; whom it came from is told what fits. */
	REASON_TOO_LONG = 229,
};

/* Reasons have 8 bits, and directions end with egress. */
#define METRICS_SIZE 768

struct metrics {
	__u64 packets;
	__u64 bytes;
};

/* An array, because every packet is counted, and the kernel inlines what finds an array's entry. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, METRICS_SIZE);
	__type(key, __u32);
	__type(value, struct metrics);
} ax_metrics SEC(".maps");

static __inline __u32 metrics_index(enum reason reason, enum direction direction)
{
	return (__u32)direction << 8 | reason;
}
