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
	/* Only in policy keys: the rows of a direction as they were if policies that only audit were enforced. */
	DIRECTION_AUDITED_INGRESS = 4,
	DIRECTION_AUDITED_EGRESS = 5,
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

static __inline int inet_equal(const struct inet *a, const struct inet *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

static __inline int inet_is_zero(const struct inet *a)
{
	return !(a->words[0] | a->words[1] | a->words[2] | a->words[3]);
}

/* ::ffff:0:0/96, an IPv4 address in disguise. */
static __inline int inet_is_v4_mapped(const struct inet *a)
{
	return !a->words[0] && !a->words[1] && a->words[2] == be32(0x0000ffff);
}

static __inline enum direction direction_opposite(enum direction direction)
{
	return direction == DIRECTION_INGRESS ? DIRECTION_EGRESS : DIRECTION_INGRESS;
}

/* The same flow as the other end sees it. */
static __inline void tuple_reverse(struct tuple *tuple)
{
	struct inet address = tuple->source;
	__be16 port = tuple->source_port;

	tuple->source = tuple->destination;
	tuple->destination = address;
	tuple->source_port = tuple->destination_port;
	tuple->destination_port = port;
}
