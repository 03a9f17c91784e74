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

/* Whether the host has a TCP connection, not only a listener, of which a packet like this comes in. */
static __noinline int host_is_connected(struct __sk_buff *skb, const struct tuple *incoming)
{
	struct bpf_sock *sock = socket_tcp(skb, incoming);
	int connected;

	if (!sock)
		return 0;
	connected = sock->state != BPF_TCP_LISTEN;
	bpf_sk_release(sock);
	return connected;
}

/* The flow that a packet would answer, as its entry's key. */
static __inline struct tuple host_answered(const struct packet *packet, enum direction direction)
{
	struct tuple key = packet->tuple;

	tuple_reverse(&key);
	key.direction = direction_opposite(direction);
	return key;
}

/*
 * A packet of a TCP connection that nobody saw begin, because it is older than the policy: enters it as an answer, which is still to be
 * judged. Returns 1 if it did.
 */
static __noinline int host_supposes(struct __sk_buff *skb, const struct packet *packet, const struct peer *peer,
				    enum direction direction)
{
	struct ct new = {.peer_identity = peer->identity};
	struct tuple key = packet->tuple;
	enum ct_state state;

	if (packet->tuple.protocol != IPPROTO_TCP || (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return 0;
	key.direction = direction;
	if (admit_find(&key, &state))
		return 0;
	key = host_answered(packet, direction);
	if (!host_is_connected(skb, direction == DIRECTION_INGRESS ? &packet->tuple : &key))
		return 0;
	return !ct_create(&key, &new, packet->tcp_flags);
}

static __noinline void host_supposed_wrong(struct packet *packet, enum direction direction)
{
	struct tuple key = host_answered(packet, direction);

	ct_forget(&key);
	packet->flags &= ~PACKET_REPLY;
}

/*
 * Whether the host may send (egress) or get (ingress) a packet; it has a policy. What is refused in its own direction may still be an
 * answer. Returns 0 or -reason.
 */
__global int host_admit(struct __sk_buff *skb, struct packet *packet, const struct peer *peer, enum direction direction)
{
	int verdict, cookie;

	if (!packet || !peer)
		return -REASON_INVALID_PACKET;
	/* What is wrong with its flows, and with those of others that it forwards, the host has to hear and may say. */
	if (packet->flags & PACKET_ICMP_ERROR)
		return 0;
	packet->endpoint = 0;
	verdict = admit_packet(skb, packet, POLICY_INDEX_HOST, peer, direction);
	if (verdict >= 0)
		return 0;
	if (verdict != -REASON_POLICY_DENY && verdict != -REASON_POLICY_DEFAULT_DENY)
		return verdict;
	cookie = packet->cookie;
	if (!host_supposes(skb, packet, peer, direction))
		return verdict;
	if (admit_packet(skb, packet, POLICY_INDEX_HOST, peer, direction) >= 0)
		return 0;
	host_supposed_wrong(packet, direction);
	packet->cookie = cookie;
	return verdict;
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
