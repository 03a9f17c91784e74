/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a pod to the underlay, past the host's stack: its filters do not see the packet, its neighbours and routes are used. */
#pragma once

#include <bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include "address.h"
#include "inet.h"
#include "packet.h"
#include "rewrite.h"

/* The C library's numbers. */
#define AF_INET 2
#define AF_INET6 10
/* Since 6.4, which redirect_neigh makes superfluous before. */
#define FIB_SKIP_NEIGH (1U << 2)

/* Bytes that a device must carry at once, without Ethernet header: the whole packet, or its largest segment. */
static __inline __u32 forward_size(const struct __sk_buff *skb, const struct packet *packet)
{
	if (skb->gso_size)
		return packet->l4_offset - ETH_HLEN + packet->l4_size + skb->gso_size;
	return skb->len - ETH_HLEN;
}

/* Multicast, broadcast and addresses of a link: the stack knows what to do, which is seldom to forward. */
static __inline int forward_stays_on_link(const struct packet *packet)
{
	const struct inet *destination = &packet->tuple.destination;

	if (packet->tuple.family == FAMILY_IPV4)
		return destination->bytes[0] >= 224 || (destination->bytes[0] == 169 && destination->bytes[1] == 254);
	return destination->bytes[0] == 0xff || (destination->bytes[0] == 0xfe && (destination->bytes[1] & 0xc0) == 0x80);
}

/* Whether a row names the neighbour that a packet of its family goes to. */
static __inline int forward_is_direct(const struct address *row, const struct packet *packet)
{
	return row && row->path == PATH_DIRECT && (row->tunnel_family == packet->tuple.family || row->tunnel_family == FAMILY_IPV6);
}

/* To a node that is a neighbour. Returns a tc action or -reason. */
static __noinline int forward_direct(struct __sk_buff *skb, struct packet *packet, const struct address *row)
{
	struct bpf_redir_neigh hop = {.nh_family = row->tunnel_family == FAMILY_IPV4 ? AF_INET : AF_INET6};
	int error = packet_route(skb, packet, 0);

	if (error)
		return error;
	__builtin_memcpy(hop.ipv6_nh, &row->tunnel, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(row->ifindex, &hop, sizeof(hop), 0);
}

/*
 * To where the host's routes say. What they do not plainly forward, because it is too long or for the host or for nobody, is left to
 * the stack, which answers. Returns a tc action or -reason.
 */
static __noinline int forward_routed(struct __sk_buff *skb, struct packet *packet)
{
	struct bpf_fib_lookup fib = {
		.family = packet->tuple.family == FAMILY_IPV4 ? AF_INET : AF_INET6,
		.l4_protocol = packet->tuple.protocol,
		.tot_len = forward_size(skb, packet),
		.ifindex = skb->ifindex,
	};
	struct bpf_redir_neigh hop = {};
	long found;
	int error;

	/* Without these, rules of ports and hashes over them would see other packets than the stack does. */
	if (packet->flags & PACKET_PORTS) {
		fib.sport = packet->tuple.source_port;
		fib.dport = packet->tuple.destination_port;
	}
	if (packet->tuple.family == FAMILY_IPV4) {
		fib.ipv4_src = packet->tuple.source.words[0];
		fib.ipv4_dst = packet->tuple.destination.words[0];
	} else {
		__builtin_memcpy(fib.ipv6_src, &packet->tuple.source, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &packet->tuple.destination, sizeof(fib.ipv6_dst));
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_SKIP_NEIGH);
	if (found < 0)
		found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return TC_ACT_OK;

	error = packet_route(skb, packet, 0);
	if (error)
		return error;
	hop.nh_family = fib.family;
	__builtin_memcpy(hop.ipv6_nh, fib.ipv6_dst, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(fib.ifindex, &hop, sizeof(hop), 0);
}
