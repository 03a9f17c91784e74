/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses and packet tuples, one shape for both families. */
#pragma once

#include <bpf.h>

enum family : __u8 {
	FAMILY_NONE = 0,
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/* IPv4 occupies the first four bytes, the rest is zero. */
struct inet {
	union {
		__u8 bytes[16];
		__be32 words[4];
	};
};

/* The same numbers as Cilium's metrics and flows. */
enum direction : __u8 {
	DIRECTION_NONE = 0,
	DIRECTION_INGRESS = 1,
	DIRECTION_EGRESS = 2,
	/* Only in conntrack keys: from a client to a service's frontend. */
	DIRECTION_SERVICE = 3,
};

/*
 * A flow as its initiator sent it. ICMP echo: both ports hold the id. Other protocols: ports are zero.
 * Key of conntrack and NAT.
 */
struct tuple {
	struct inet source;
	struct inet destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	enum family family;
	enum direction direction;
	__u8 reserved;
};
