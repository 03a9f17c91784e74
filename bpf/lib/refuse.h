/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What clients hear of packets that services do not take: from the service's own address, by ICMP. */
#pragma once

#include <bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "config.h"
#include "endpoint.h"
#include "identity.h"
#include "packet.h"
#include "rewrite.h"

#define REFUSE_TTL 64

/* RFC 792 and RFC 1191, RFC 4443. */
struct refusal {
	__u8 type;
	__u8 code;
	__u16 checksum;
	/* What fits, if a packet was too long; else 0. */
	__be32 mtu;
};

/* What was sent, as far as an error has to quote it: the ports are in the first 8 bytes behind its header. */
struct refusal4 {
	struct iphdr ip;
	struct refusal icmp;
	struct iphdr quoted;
	__u8 payload[8];
};

struct refusal6 {
	struct ipv6hdr ip;
	struct refusal icmp;
	struct ipv6hdr quoted;
	__u8 payload[8];
};

/* Returns 0 or -reason. */
static __inline int refuse_with(struct __sk_buff *skb, const void *answer, __u32 size)
{
	if (bpf_skb_change_tail(skb, ETH_HLEN + size, 0) || bpf_skb_store_bytes(skb, ETH_HLEN, answer, size, 0))
		return -REASON_WRITE_FAILED;
	return 0;
}

/* mtu: what fits, if the packet is too long, else 0. Returns 0 or -reason. */
static __noinline int refuse_ipv4(struct __sk_buff *skb, __u32 mtu)
{
	struct refusal4 answer = {
		.icmp = {.type = ICMP_DEST_UNREACH, .code = mtu ? ICMP_FRAG_NEEDED : ICMP_PORT_UNREACH, .mtu = be32(mtu & 0xffff)},
	};

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &answer.quoted, sizeof(answer.quoted) + sizeof(answer.payload)))
		return -REASON_INVALID_PACKET;
	answer.ip.version = 4;
	answer.ip.ihl = sizeof(answer.ip) / 4;
	answer.ip.tot_len = be16(sizeof(answer));
	answer.ip.ttl = REFUSE_TTL;
	answer.ip.protocol = IPPROTO_ICMP;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	answer.ip.check = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	answer.icmp.checksum = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer) - sizeof(answer.ip), 0));
	return refuse_with(skb, &answer, sizeof(answer));
}

/* As refuse_ipv4. */
static __noinline int refuse_ipv6(struct __sk_buff *skb, __u32 mtu)
{
	struct refusal6 answer = {
		.icmp = {
			.type = mtu ? ICMPV6_PKT_TOOBIG : ICMPV6_DEST_UNREACH,
			.code = mtu ? 0 : ICMPV6_PORT_UNREACH,
			.mtu = be32(mtu),
		},
	};
	__u32 size = sizeof(answer) - sizeof(answer.ip), checksum = be32(size) + be32(IPPROTO_ICMPV6);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &answer.quoted, sizeof(answer.quoted) + sizeof(answer.payload)))
		return -REASON_INVALID_PACKET;
	answer.ip.version = 6;
	answer.ip.payload_len = be16(size);
	answer.ip.nexthdr = IPPROTO_ICMPV6;
	answer.ip.hop_limit = REFUSE_TTL;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	checksum = bpf_csum_diff(0, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(answer.ip.saddr), checksum);
	answer.icmp.checksum = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, size, checksum));
	return refuse_with(skb, &answer, sizeof(answer));
}

/*
 * Puts an answer in the place of a packet without options between its headers; of others nothing is said. mtu: what fits, if it is too
 * long, else 0. Returns 0 or -reason.
 */
__global int refuse_answer(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	int v4;

	if (!packet)
		return -REASON_INVALID_PACKET;
	v4 = packet->tuple.family == FAMILY_IPV4;
	if (packet->l4_offset != ETH_HLEN + (v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))
		return -REASON_INVALID_PACKET;
	return v4 ? refuse_ipv4(skb, mtu) : refuse_ipv6(skb, mtu);
}

/* Answers a pod's packet, which was counted and told of as dropped: nobody serves what it asked for. Returns a tc action. */
static __inline int refuse(struct __sk_buff *skb, const struct packet *packet, const struct endpoint *endpoint)
{
	/* Who made a chained pod's device knows how to get there. */
	if ((endpoint->flags & ENDPOINT_CHAINED) || refuse_answer(skb, packet, 0) ||
	    bpf_skb_store_bytes(skb, 0, endpoint->pod_mac, sizeof(struct macs), 0))
		return TC_ACT_SHOT;
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(skb->ifindex, 0);
}

/* The same for a packet from outside, whose answer goes back to where it came from. mtu: as above. Returns a tc action. */
static __inline int refuse_outside(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	__u8 macs[2 * ETH_ALEN];

	if (refuse_answer(skb, packet, mtu) || bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) ||
	    bpf_skb_store_bytes(skb, 0, macs + ETH_ALEN, ETH_ALEN, 0) || bpf_skb_store_bytes(skb, ETH_ALEN, macs, ETH_ALEN, 0))
		return TC_ACT_SHOT;
	skb->mark = MARK_TRANSLATED;
	return bpf_redirect(skb->ifindex, 0);
}
