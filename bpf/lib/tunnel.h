/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* VXLAN between nodes: the identity travels as VNI. */
#pragma once

#include <bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include "address.h"
#include "config.h"
#include "forward.h"
#include "inet.h"
#include "metrics.h"
#include "packet.h"
#include "rewrite.h"

#define TUNNEL_TTL 64

/* Where the tunnel key of a received packet says it comes from. */
struct tunnel_origin {
	__u32 identity;
	enum family family;
	struct inet node;
};

/*
 * Directs a packet that is sent to the tunnel device to a node. It leaves with the address by which other nodes know this one, whatever
 * routes and devices would have the kernel choose. Returns 0 or -reason.
 */
static __noinline int tunnel_to(struct __sk_buff *skb, const struct config *config, const struct address *row,
				enum identity identity)
{
	struct bpf_tunnel_key key = {.tunnel_id = identity, .tunnel_ttl = TUNNEL_TTL};
	__u64 flags;

	switch (row->tunnel_family) {
	case FAMILY_IPV4:
		key.remote_ipv4 = host32(row->tunnel.words[0]);
		key.local_ipv4 = host32(config->node_ipv4.words[0]);
		/* The inner packet has a checksum of its own. */
		flags = BPF_F_ZERO_CSUM_TX;
		break;
	case FAMILY_IPV6:
		__builtin_memcpy(key.remote_ipv6, &row->tunnel, sizeof(key.remote_ipv6));
		__builtin_memcpy(key.local_ipv6, &config->node_ipv6, sizeof(key.local_ipv6));
		flags = BPF_F_TUNINFO_IPV6;
		break;
	default:
		return -REASON_NO_TUNNEL_ENDPOINT;
	}
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) ? -REASON_WRITE_FAILED : 0;
}

/* What stands between the Ethernet header of the underlay and a pod's IP header. */
struct tunnel_header {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags;
	__be32 vni;
	struct ethhdr ethernet;
};

/* Without the padding behind it. */
#define TUNNEL_HEADER_SIZE 50
_Static_assert(__builtin_offsetof(struct tunnel_header, ethernet) + ETH_HLEN == TUNNEL_HEADER_SIZE, "headers follow one another");

#define VXLAN_HAS_VNI be32(0x08000000)
/* Source ports are as many as flows that may take different ways. */
#define TUNNEL_PORT_MIN 32768
#define TUNNEL_PORT_MASK 0x7fff
#define ECN_MASK 3
#define ECN_ECT_0 2
#define ECN_CE 3

/* Bits for congestion of a packet's IP header, as they stand outside (RFC 6040): the tunnel itself was not congested yet. */
static __inline __u8 tunnel_ecn(const __u8 *network, enum family family)
{
	__u8 ecn = (family == FAMILY_IPV4 ? network[1] : network[1] >> 4) & ECN_MASK;

	return ecn == ECN_CE ? ECN_ECT_0 : ecn;
}

/* What an IPv4 header without options and checksum adds up to, in 16 bits. */
static __inline __u16 tunnel_sum(const struct iphdr *ip)
{
	const __u8 *bytes = (const void *)ip;
	__u64 sum = 0;

	for (unsigned int i = 0; i < sizeof(*ip); i += sizeof(__u32)) {
		__u32 word;

		__builtin_memcpy(&word, bytes + i, sizeof(word));
		sum += word;
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Whether the node behind a row is a neighbour over IPv4, and it is known who asks. */
static __inline int tunnel_is_direct(const struct config *config, const struct address *row)
{
	return row->path == PATH_DIRECT && row->tunnel_family == FAMILY_IPV4 && config->node_ipv4.words[0];
}

/*
 * To a node that is a neighbour: writes what the tunnel device would write, and spares its way through the host's routes and filters.
 * Over IPv6 the device has to sum up the packet. Returns a tc action or -reason; 0 if the kernel does not do this to such a packet,
 * which is as it was then.
 */
static __noinline int tunnel_direct(struct __sk_buff *skb, const struct config *config, const struct address *row, enum identity identity,
				    enum family family)
{
	const __u64 room = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
			   BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN);
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_redir_neigh hop = {.nh_family = AF_INET, .ipv4_nh = row->tunnel.words[0]};
	__u32 length = TUNNEL_HEADER_SIZE + skb->len - ETH_HLEN;
	struct tunnel_header header = {
		.ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = be16(length),
			/* Routers may cut it, as they may what the device sends. */
			.id = bpf_get_prandom_u32(),
			.ttl = TUNNEL_TTL,
			.protocol = IPPROTO_UDP,
			.saddr = config->node_ipv4.words[0],
			.daddr = row->tunnel.words[0],
		},
		.udp = {
			.source = be16(TUNNEL_PORT_MIN + (bpf_get_hash_recalc(skb) & TUNNEL_PORT_MASK)),
			.dest = config->tunnel_port,
			.len = be16(length - sizeof(struct iphdr)),
		},
		.flags = VXLAN_HAS_VNI,
		.vni = be32(identity << 8),
	};

	if (data + ETH_HLEN + 2 > end)
		return -REASON_WRITE_FAILED;
	header.ethernet = *(const struct ethhdr *)data;
	header.ip.tos = tunnel_ecn(data + ETH_HLEN, family);
	header.ip.check = ~tunnel_sum(&header.ip);
	if (length > 0xffff || bpf_skb_adjust_room(skb, TUNNEL_HEADER_SIZE, BPF_ADJ_ROOM_MAC, room))
		return 0;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &header, TUNNEL_HEADER_SIZE, 0))
		return -REASON_WRITE_FAILED;
	return bpf_redirect_neigh(row->ifindex, &hop, sizeof(hop), 0);
}

/* A pod's packet to a node, one hop further. Returns a tc action or -reason. */
__global int tunnel_send(struct __sk_buff *skb, struct packet *packet, const struct config *config, const struct address *row,
			 enum identity identity)
{
	int done;

	if (!packet || !config || !row)
		return -REASON_INVALID_PACKET;
	if (!config->tunnel_ifindex)
		return -REASON_NO_CONFIG;
	done = packet_route(skb, packet, 0);
	if (!done && tunnel_is_direct(config, row))
		done = tunnel_direct(skb, config, row, identity, packet->tuple.family);
	if (done)
		return done;
	done = tunnel_to(skb, config, row, identity);
	return done ? done : bpf_redirect(config->tunnel_ifindex, 0);
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
