/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* VXLAN between nodes: the identity travels as VNI. */
#pragma once

#include <bpf.h>
#include "address.h"
#include "inet.h"
#include "metrics.h"

/* Where the tunnel key of a received packet says it comes from. */
struct tunnel_origin {
	__u32 identity;
	enum family family;
	struct inet node;
};

/* Directs a packet that is sent to the tunnel device to a node. Returns 0 or -reason. */
static __noinline int tunnel_to(struct __sk_buff *skb, const struct address *row, enum identity identity)
{
	struct bpf_tunnel_key key = {.tunnel_id = identity, .tunnel_ttl = 64};
	__u64 flags;

	switch (row->tunnel_family) {
	case FAMILY_IPV4:
		key.remote_ipv4 = host32(row->tunnel.words[0]);
		/* The inner packet has a checksum of its own. */
		flags = BPF_F_ZERO_CSUM_TX;
		break;
	case FAMILY_IPV6:
		__builtin_memcpy(key.remote_ipv6, &row->tunnel, sizeof(key.remote_ipv6));
		flags = BPF_F_TUNINFO_IPV6;
		break;
	default:
		return -REASON_NO_TUNNEL_ENDPOINT;
	}
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) ? -REASON_WRITE_FAILED : 0;
}

/* Returns 0 or -reason. */
static __noinline int tunnel_from(struct __sk_buff *skb, struct tunnel_origin *origin)
{
	struct bpf_tunnel_key key = {};

	origin->family = FAMILY_IPV4;
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		origin->family = FAMILY_IPV6;
		if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
			return -REASON_NO_TUNNEL_KEY;
	}
	origin->identity = key.tunnel_id;
	origin->node = (struct inet){};
	if (origin->family == FAMILY_IPV4)
		origin->node.words[0] = be32(key.remote_ipv4);
	else
		__builtin_memcpy(&origin->node, key.remote_ipv6, sizeof(origin->node));
	return 0;
}

/* A packet on its way out has a key already if a program put it there. */
static __inline int tunnel_is_set(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key;

	return !bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) ||
	       !bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6);
}
