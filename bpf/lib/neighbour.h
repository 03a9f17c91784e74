/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ARP and neighbour discovery of pods: the host side answers for everybody, so that nothing has to be flooded. */
#pragma once

#include <bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include "endpoint.h"
#include "packet.h"
#include "rewrite.h"

struct mac {
	__u8 bytes[6];
};

/* ARP for IPv4 over Ethernet, behind the Ethernet header. */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	struct mac sender_mac;
	__u8 sender[4];
	struct mac target_mac;
	__u8 target[4];
};

#define ARP_ETHERNET be16(1)
#define ARP_REQUEST be16(1)
#define ARP_REPLY be16(2)

/* Neighbour solicitation or advertisement with one option, behind the IPv6 header. */
struct discovery {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	struct inet target;
	__u8 option;
	/* In units of 8 bytes. */
	__u8 option_size;
	struct mac mac;
};

enum {
	NEIGHBOUR_SOLICITATION = 135,
	NEIGHBOUR_ADVERTISEMENT = 136,
	OPTION_SOURCE_MAC = 1,
	OPTION_TARGET_MAC = 2,
};
/* From a router, solicited, overrides what was known. */
#define ADVERTISEMENT_FLAGS be32(0xe0000000)

/* Sends a frame back where it came from, with new MACs. Returns a tc action or -reason. */
static __inline int neighbour_return(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	if (bpf_skb_store_bytes(skb, 0, endpoint->pod_mac, sizeof(struct macs), 0))
		return -REASON_WRITE_FAILED;
	return bpf_redirect(skb->ifindex, 0);
}

static __inline int mac_equal(const struct mac *a, const __u8 *b)
{
	return !__builtin_memcmp(a, b, sizeof(*a));
}

/* Returns a tc action or -reason. */
static __noinline int neighbour_arp(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	__u32 own = endpoint->ipv4.words[0], sender, target;
	struct arp arp;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return -REASON_INVALID_PACKET;
	if (arp.hardware != ARP_ETHERNET || arp.protocol != be16(ETH_P_IP) || arp.hardware_size != 6 || arp.protocol_size != 4)
		return -REASON_INVALID_PACKET;
	__builtin_memcpy(&sender, arp.sender, sizeof(sender));
	__builtin_memcpy(&target, arp.target, sizeof(target));
	if (!mac_equal(&arp.sender_mac, endpoint->pod_mac))
		return -REASON_INVALID_SOURCE_MAC;
	/* Without a sender somebody asks whether its own address is free. */
	if (!own || (sender != own && (sender || target != own)))
		return -REASON_INVALID_SOURCE_IP;
	/* Announcements, and answers to what the host asked. */
	if (arp.operation != ARP_REQUEST || target == own)
		return TC_ACT_OK;

	arp.operation = ARP_REPLY;
	arp.target_mac = arp.sender_mac;
	__builtin_memcpy(arp.target, &sender, sizeof(sender));
	__builtin_memcpy(&arp.sender_mac, endpoint->host_mac, sizeof(arp.sender_mac));
	__builtin_memcpy(arp.sender, &target, sizeof(target));
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &arp, sizeof(arp), 0))
		return -REASON_WRITE_FAILED;
	return neighbour_return(skb, endpoint);
}

/* What ICMPv6's checksum covers. */
struct discovery_sum {
	struct inet source;
	struct inet destination;
	__be32 length;
	__be32 next;
	struct discovery message;
};

/* Returns a tc action or -reason. */
static __noinline int neighbour_discovery(struct __sk_buff *skb, const struct packet *packet, const struct endpoint *endpoint)
{
	struct discovery_sum sum = {.length = be32(sizeof(struct discovery)), .next = be32(IPPROTO_ICMPV6)};
	const struct inet *source = &packet->tuple.source;
	struct discovery *message = &sum.message;

	/* Link-local addresses are of the pod's own making. */
	if (!inet_is_zero(source) && !inet_equal(source, &endpoint->ipv6) &&
	    !(source->bytes[0] == 0xfe && (source->bytes[1] & 0xc0) == 0x80))
		return -REASON_INVALID_SOURCE_IP;
	/* What the stack would learn is true, what it would be asked it answers for the host alone. */
	if (skb->len != ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(*message) ||
	    packet->l4_offset != ETH_HLEN + sizeof(struct ipv6hdr) || inet_is_zero(source))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), message, sizeof(*message)))
		return -REASON_INVALID_PACKET;
	if (message->type != NEIGHBOUR_SOLICITATION || message->option != OPTION_SOURCE_MAC ||
	    inet_equal(&message->target, &endpoint->ipv6))
		return TC_ACT_OK;
	if (!mac_equal(&message->mac, endpoint->pod_mac))
		return -REASON_INVALID_SOURCE_MAC;

	sum.source = message->target;
	sum.destination = *source;
	message->type = NEIGHBOUR_ADVERTISEMENT;
	message->checksum = 0;
	message->flags = ADVERTISEMENT_FLAGS;
	message->option = OPTION_TARGET_MAC;
	__builtin_memcpy(&message->mac, endpoint->host_mac, sizeof(message->mac));
	message->checksum = csum_fold(bpf_csum_diff(0, 0, sum.source.words, sizeof(sum), 0));
	if (bpf_skb_store_bytes(skb, ETH_HLEN + 8, &sum, 2 * sizeof(struct inet), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), message, sizeof(*message), 0))
		return -REASON_WRITE_FAILED;
	return neighbour_return(skb, endpoint);
}
