/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changing a packet's addresses, ports and hop, with its checksums. */
#pragma once

#include <bpf.h>
#include <linux/errno.h>
#include "endpoint.h"
#include "packet.h"

/* Since 6.16 the kernel must be told of IPv6 to keep skb->csum right; older ones do not know the flag. Not in older headers. */
#define CSUM_IPV6 (1ULL << 7)

enum end : __u8 {
	END_SOURCE = 0,
	END_DESTINATION = 1,
};

/* One end of a packet, and what becomes of it. */
struct rewrite {
	struct inet old_address;
	struct inet address;
	__be16 old_port;
	__be16 port;
	enum end end;
	/* The port is an echo id. */
	__u8 echo;
	__u16 reserved;
};

/* What a sum of bpf_csum_diff is in a header. */
static __inline __u16 csum_fold(__u32 checksum)
{
	checksum = (checksum & 0xffff) + (checksum >> 16);
	checksum = (checksum & 0xffff) + (checksum >> 16);
	return ~checksum;
}

static __inline long csum_replace_addresses(struct __sk_buff *skb, const struct packet *packet, __u32 offset, __u64 diff,
					    __u64 flags)
{
	long error = -EINVAL;

	flags |= BPF_F_PSEUDO_HDR;
	if (packet->tuple.family == FAMILY_IPV6)
		error = bpf_l4_csum_replace(skb, offset, 0, diff, flags | CSUM_IPV6);
	if (error == -EINVAL)
		error = bpf_l4_csum_replace(skb, offset, 0, diff, flags);
	return error;
}

/*
 * Replaces address and port (or echo id) of one end. A later fragment has nothing but the address, the rest follows in the tuple.
 * Returns 0 or -reason.
 */
__global int packet_rewrite(struct __sk_buff *skb, struct packet *packet, enum end end, const struct inet *address, __be16 port)
{
	__u32 size, address_offset, port_offset, checksum = 0;
	struct inet new, *old;
	__u64 flags = 0, diff;
	__be16 old_port;
	int v4;

	if (!packet || !address)
		return -REASON_INVALID_PACKET;
	v4 = packet->tuple.family == FAMILY_IPV4;
	size = v4 ? 4 : 16;
	address_offset = ETH_HLEN + (v4 ? 12 : 8) + (end == END_DESTINATION ? size : 0);
	port_offset = packet->l4_offset + (end == END_DESTINATION ? 2 : 0);
	old = end == END_SOURCE ? &packet->tuple.source : &packet->tuple.destination;
	old_port = end == END_SOURCE ? packet->tuple.source_port : packet->tuple.destination_port;
	new = *address;
	/* IPv4 leaves the rest of the 16 bytes zero, so that the sum over all of them is the sum over its four. */
	diff = bpf_csum_diff(old->words, sizeof(*old), new.words, sizeof(new), 0);

	switch (packet->flags & PACKET_FRAGMENT_LATER ? 0 : packet->tuple.protocol) {
	case IPPROTO_TCP:
		checksum = packet->l4_offset + 16;
		break;
	case IPPROTO_UDP:
		checksum = packet->l4_offset + 6;
		flags = BPF_F_MARK_MANGLED_0;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		checksum = packet->l4_offset + 2;
		port_offset = packet->l4_offset + 4;
	}

	if (v4 && bpf_l3_csum_replace(skb, ETH_HLEN + 10, 0, diff, 0))
		return -REASON_WRITE_FAILED;
	/* ICMP over IPv4 has no pseudo header. */
	if (checksum && packet->tuple.protocol != IPPROTO_ICMP && csum_replace_addresses(skb, packet, checksum, diff, flags))
		return -REASON_WRITE_FAILED;
	/* skb->csum covers the address; where no checksum changed along with it, it has to be told. */
	if (bpf_skb_store_bytes(skb, address_offset, &new, size, v4 || checksum ? 0 : BPF_F_RECOMPUTE_CSUM))
		return -REASON_WRITE_FAILED;
	*old = new;

	if (!(packet->flags & (PACKET_PORTS | PACKET_ECHO)) || port == old_port)
		return 0;
	if (!(packet->flags & PACKET_FRAGMENT_LATER)) {
		if (checksum && bpf_l4_csum_replace(skb, checksum, old_port, port, flags | sizeof(port)))
			return -REASON_WRITE_FAILED;
		if (bpf_skb_store_bytes(skb, port_offset, &port, sizeof(port), checksum ? 0 : BPF_F_RECOMPUTE_CSUM))
			return -REASON_WRITE_FAILED;
	}
	if (end == END_SOURCE || (packet->flags & PACKET_ECHO))
		packet->tuple.source_port = port;
	if (end == END_DESTINATION || (packet->flags & PACKET_ECHO))
		packet->tuple.destination_port = port;
	return 0;
}

/*
 * Replaces address and port of one end of the packet that an ICMP error complains about, whose transport header is at l4.
 * That packet's own transport checksum is left as it is: most of what it covers is not there, and nobody verifies it.
 * Returns 0 or -reason.
 */
static __noinline int packet_rewrite_inner(struct __sk_buff *skb, const struct packet *packet, __u32 l4,
					   const struct rewrite *rewrite)
{
	int v4 = packet->tuple.family == FAMILY_IPV4, second = rewrite->end == END_DESTINATION;
	__u32 size = v4 ? 4 : 16, inner = packet->l4_offset + 8, checksum = packet->l4_offset + 2;
	__u32 address_offset = inner + (v4 ? 12 : 8) + (second ? size : 0);
	__u32 port_offset = l4 + (rewrite->echo ? 4 : second ? 2 : 0);
	struct inet old = rewrite->old_address, new = rewrite->address;
	__be16 port = rewrite->port;
	__u64 diff = bpf_csum_diff(old.words, sizeof(old), new.words, sizeof(new), 0);

	/* An IPv4 header sums up to the same before and after, so that what covers it stays right. */
	if (v4 ? bpf_l3_csum_replace(skb, inner + 10, 0, diff, 0) : bpf_l4_csum_replace(skb, checksum, 0, diff, 0))
		return -REASON_WRITE_FAILED;
	if (bpf_skb_store_bytes(skb, address_offset, &new, size, 0))
		return -REASON_WRITE_FAILED;
	if (bpf_l4_csum_replace(skb, checksum, rewrite->old_port, port, sizeof(port)) ||
	    bpf_skb_store_bytes(skb, port_offset, &port, sizeof(port), 0))
		return -REASON_WRITE_FAILED;
	return 0;
}

/*
 * Replaces one end of the packet that an ICMP error complains about, and the same address where the error itself has it: it goes
 * to the source, and comes from the destination unless a router on the way complains in its own name. Returns 0 or -reason.
 */
static __noinline int related_rewrite(struct __sk_buff *skb, struct packet *packet, __u32 l4, const struct rewrite *rewrite)
{
	enum end end = rewrite->end == END_SOURCE ? END_DESTINATION : END_SOURCE;
	int error = packet_rewrite_inner(skb, packet, l4, rewrite);

	if (error)
		return error;
	if (!inet_equal(end == END_SOURCE ? &packet->tuple.source : &packet->tuple.destination, &rewrite->old_address))
		return 0;
	return packet_rewrite(skb, packet, end, &rewrite->address, 0);
}

static __inline int protocol_echoes(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/*
 * What a router does: one hop less, and new MACs unless that is NULL (12 bytes, destination first). Writes to the packet directly,
 * because every packet comes by here. Returns 0 or -reason.
 */
static __noinline int packet_route(struct __sk_buff *skb, struct packet *packet, const struct macs *macs)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 ttl = packet->ttl - 1;
	struct iphdr *ip;
	__u32 checksum;

	if (packet->ttl <= 1)
		return -REASON_TTL_EXCEEDED;
	packet->ttl = ttl;
	if (data + ETH_HLEN + sizeof(*ip) > end) {
		if (bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*ip)))
			return -REASON_WRITE_FAILED;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + ETH_HLEN + sizeof(*ip) > end)
			return -REASON_WRITE_FAILED;
	}
	if (macs)
		*(struct macs *)data = *macs;
	if (packet->tuple.family == FAMILY_IPV4) {
		ip = data + ETH_HLEN;
		ip->ttl = ttl;
		/* The checksum grows by what the TTL, the high byte of its word, lost. */
		checksum = ip->check + be16(0x0100);
		ip->check = checksum + (checksum >= 0xffff);
	} else if (bpf_skb_store_bytes(skb, ETH_HLEN + 7, &ttl, 1, BPF_F_RECOMPUTE_CSUM)) {
		return -REASON_WRITE_FAILED;
	}
	return 0;
}
