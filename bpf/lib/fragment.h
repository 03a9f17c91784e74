/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Only the first fragment of a datagram has ports; here they wait for the others. */
#pragma once

#include <bpf.h>
#include "inet.h"

/* A datagram, as its fragments name it. */
struct fragment_key {
	struct inet source;
	struct inet destination;
	/* IPv4: the 16 bits come first. */
	__be32 id;
	__u8 protocol;
	enum family family;
	__u16 reserved;
};

/* What its first fragment said. */
struct fragment {
	__be16 source_port;
	__be16 destination_port;
	/* Of enum packet_flags, those that follow from the transport header. */
	__u8 flags;
	__u8 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} ax_fragments SEC(".maps");

static __inline struct fragment_key fragment_key(const struct tuple *tuple, __be32 id)
{
	return (struct fragment_key){
		.source = tuple->source,
		.destination = tuple->destination,
		.id = id,
		.protocol = tuple->protocol,
		.family = tuple->family,
	};
}
