/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a pod hears that asks a service nobody serves: from the service's own address, that the port is unreachable. */
#pragma once

#include <bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "endpoint.h"
#include "packet.h"
#include "rewrite.h"

#define REFUSE_TTL 64

struct refusal {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 unused;
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

/* Puts an answer in the packet's place and sends it back. Returns a tc action. */
static __inline int refuse_with(struct __sk_buff *skb, const struct endpoint *endpoint, const void *answer, __u32 size)
{
	if (bpf_skb_change_tail(skb, ETH_HLEN + size, 0) || bpf_skb_store_bytes(skb, ETH_HLEN, answer, size, 0) ||
	    bpf_skb_store_bytes(skb, 0, endpoint->pod_mac, sizeof(struct macs), 0))
		return TC_ACT_SHOT;
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(skb->ifindex, 0);
}

/* Returns a tc action. */
static __noinline int refuse_ipv4(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	struct refusal4 answer = {.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH}};

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &answer.quoted, sizeof(answer.quoted) + sizeof(answer.payload)))
		return TC_ACT_SHOT;
	answer.ip.version = 4;
	answer.ip.ihl = sizeof(answer.ip) / 4;
	answer.ip.tot_len = be16(sizeof(answer));
	answer.ip.ttl = REFUSE_TTL;
	answer.ip.protocol = IPPROTO_ICMP;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	answer.ip.check = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	answer.icmp.checksum = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer) - sizeof(answer.ip), 0));
	return refuse_with(skb, endpoint, &answer, sizeof(answer));
}

/* Returns a tc action. */
static __noinline int refuse_ipv6(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	struct refusal6 answer = {.icmp = {.type = ICMPV6_DEST_UNREACH, .code = ICMPV6_PORT_UNREACH}};
	__u32 size = sizeof(answer) - sizeof(answer.ip), checksum = be32(size) + be32(IPPROTO_ICMPV6);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &answer.quoted, sizeof(answer.quoted) + sizeof(answer.payload)))
		return TC_ACT_SHOT;
	answer.ip.version = 6;
	answer.ip.payload_len = be16(size);
	answer.ip.nexthdr = IPPROTO_ICMPV6;
	answer.ip.hop_limit = REFUSE_TTL;
	answer.ip.saddr = answer.quoted.daddr;
	answer.ip.daddr = answer.quoted.saddr;
	checksum = bpf_csum_diff(0, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(answer.ip.saddr), checksum);
	answer.icmp.checksum = csum_fold(bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, size, checksum));
	return refuse_with(skb, endpoint, &answer, sizeof(answer));
}

/*
 * Answers a pod's packet, which was counted and told of as dropped. Without options between its headers: with them it is dropped and
 * nothing more. Returns a tc action.
 */
static __inline int refuse(struct __sk_buff *skb, const struct packet *packet, const struct endpoint *endpoint)
{
	int v4 = packet->tuple.family == FAMILY_IPV4;
	__u32 header = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	/* Who made a chained pod's device knows how to get there. */
	if ((endpoint->flags & ENDPOINT_CHAINED) || packet->l4_offset != ETH_HLEN + header)
		return TC_ACT_SHOT;
	return v4 ? refuse_ipv4(skb, endpoint) : refuse_ipv6(skb, endpoint);
}
