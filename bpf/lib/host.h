/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Policy of the node itself: what its own processes, and pods of the host network, send and get by devices that programs hang on. What
 * the host sends to its own pods passes, always.
 */
#pragma once

#include <bpf.h>
#include <linux/in.h>
#include "address.h"
#include "admit.h"
#include "conntrack.h"
#include "packet.h"
#include "policy.h"
#include "socket.h"

/* Whether policies select the node. Never written, or written anew as zeros: none does, and nothing is judged. */
static __inline int host_has_policy(void)
{
	enum policy_index index = POLICY_INDEX_HOST;
	const struct policy *policy = bpf_map_lookup_elem(&ax_policies, &index);

	return policy && policy->generation;
}

/*
 * What could not be parsed passes only if it is no way past the policy: a later fragment is nothing without its first one, and what
 * routers say of the link is between the ends of the link. Returns 0 or -reason.
 */
static __inline int host_unparsed(int error)
{
	switch (-error) {
	case REASON_FRAG_NOT_FOUND:
	case REASON_FORBIDDEN_ICMPV6:
	case REASON_UNSUPPORTED_L3:
		return 0;
	default:
		return error;
	}
}

/*
 * Who opened the TCP connection of the host's of which a packet like this comes in: the host (egress), or the other end (ingress), because
 * somebody listens at the host's port. DIRECTION_NONE: there is no such connection.
 */
static __noinline enum direction host_connection(struct __sk_buff *skb, const struct tuple *incoming)
{
	struct tuple listener = *incoming;
	struct bpf_sock *sock = socket_tcp(skb, incoming);
	int connected;

	if (!sock)
		return DIRECTION_NONE;
	connected = sock->state != BPF_TCP_LISTEN;
	bpf_sk_release(sock);
	if (!connected)
		return DIRECTION_NONE;
	/* Nobody's connection has it. */
	listener.source_port = 0;
	sock = socket_tcp(skb, &listener);
	if (!sock)
		return DIRECTION_EGRESS;
	bpf_sk_release(sock);
	return DIRECTION_INGRESS;
}

/*
 * A connection that nobody saw begin is older than the policy, and a packet of it may be an answer: then the flow that it answers is entered,
 * of no generation, so that it is judged.
 */
static __noinline void host_suppose(struct __sk_buff *skb, const struct packet *packet, const struct peer *peer, enum direction direction)
{
	struct ct new = {.peer_identity = peer->identity};
	struct tuple key = packet->tuple;
	enum ct_state state;

	key.direction = direction;
	if (admit_find(&key, &state))
		return;
	key = packet->tuple;
	tuple_reverse(&key);
	key.direction = direction_opposite(direction);
	if (host_connection(skb, direction == DIRECTION_INGRESS ? &packet->tuple : &key) == key.direction)
		ct_create(&key, &new, packet->tcp_flags);
}

/* Whether the host may send (egress) or get (ingress) a packet; it has a policy. Returns 0 or -reason. */
__global int host_admit(struct __sk_buff *skb, struct packet *packet, const struct peer *peer, enum direction direction)
{
	int verdict;

	if (!packet || !peer)
		return -REASON_INVALID_PACKET;
	/* What is wrong with its flows, and with those of others that it forwards, the host has to hear and may say. */
	if (packet->flags & PACKET_ICMP_ERROR)
		return 0;
	if (packet->tuple.protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		host_suppose(skb, packet, peer, direction);
	packet->endpoint = 0;
	verdict = admit_packet(skb, packet, POLICY_INDEX_HOST, peer, direction);
	return verdict < 0 ? verdict : 0;
}

/* The host is to get a packet of this peer. Returns 0 or -reason. */
static __inline int host_receives(struct __sk_buff *skb, struct packet *packet, const struct peer *peer)
{
	if (!host_has_policy())
		return 0;
	packet->source_identity = peer->identity;
	packet->destination_identity = IDENTITY_HOST;
	return host_admit(skb, packet, peer, DIRECTION_INGRESS);
}

/* The host sends a packet by a device of its own. error: what the parser said. Returns 0 or -reason. */
static __inline int host_sends(struct __sk_buff *skb, struct packet *packet, int error)
{
	struct peer peer;

	if (!host_has_policy())
		return 0;
	if (error)
		return host_unparsed(error);
	if (packet->flags & PACKET_FRAGMENT_FIRST)
		packet_remember(packet);
	peer = address_peer(address_find(&packet->tuple.destination, packet->tuple.family));
	packet->source_identity = IDENTITY_HOST;
	packet->destination_identity = peer.identity;
	return host_admit(skb, packet, &peer, DIRECTION_EGRESS);
}
