/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sockets of the host, by the packets that they get. To be released; NULL: there is none. */
#pragma once

#include <bpf.h>
#include <linux/in.h>
#include "inet.h"

/* What the kernel wants to know of a packet. Returns how much of it. */
static __inline __u32 socket_tuple(const struct tuple *incoming, struct bpf_sock_tuple *tuple)
{
	if (incoming->family == FAMILY_IPV4) {
		tuple->ipv4.saddr = incoming->source.words[0];
		tuple->ipv4.daddr = incoming->destination.words[0];
		tuple->ipv4.sport = incoming->source_port;
		tuple->ipv4.dport = incoming->destination_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &incoming->source, sizeof(tuple->ipv6.saddr));
	__builtin_memcpy(tuple->ipv6.daddr, &incoming->destination, sizeof(tuple->ipv6.daddr));
	tuple->ipv6.sport = incoming->source_port;
	tuple->ipv6.dport = incoming->destination_port;
	return sizeof(tuple->ipv6);
}

/* Of TCP: a connection, or who listens. */
static __inline struct bpf_sock *socket_tcp(struct __sk_buff *skb, const struct tuple *incoming)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = socket_tuple(incoming, &tuple);

	return bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
}

/* Of UDP. */
static __inline struct bpf_sock *socket_udp(struct __sk_buff *skb, const struct tuple *incoming)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = socket_tuple(incoming, &tuple);

	return bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
}
