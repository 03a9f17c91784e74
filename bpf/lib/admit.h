/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connection tracking and policy of one endpoint, for one packet. */
#pragma once

#include <bpf.h>
#include "address.h"
#include "config.h"
#include "conntrack.h"
#include "drop.h"
#include "endpoint.h"
#include "packet.h"
#include "policy.h"
#include "rewrite.h"

/* What policy has in the place of a port for an ICMP packet: the type of the message that opened its flow. */
static __inline __be16 admit_icmp(const struct packet *packet, const struct ct *reply_to)
{
	__u8 type = packet->icmp_type;

	/* Only echoes are answered, or so long that they come in fragments. */
	if (reply_to || (packet->flags & PACKET_FRAGMENT_LATER))
		type = packet->tuple.family == FAMILY_IPV4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST;
	return be16(type);
}

/*
 * Judges the flow that a packet belongs to, in the flow's original direction: a reply asks on behalf of the packet that opened
 * the flow. reply_to: the flow's entry if the packet is a reply, else NULL. Returns 0 or -reason.
 */
static __noinline int admit_judge(struct packet *packet, const struct policy *policy, const struct peer *peer,
				  enum direction direction, const struct ct *reply_to)
{
	struct question question = {
		.direction = reply_to ? direction_opposite(direction) : direction,
		.family = packet->tuple.family,
		.protocol = packet->tuple.protocol,
		.peer = *peer,
		.address = direction == DIRECTION_INGRESS ? packet->tuple.source : packet->tuple.destination,
	};
	struct judgement judgement = {};
	int verdict;

	if (packet->flags & PACKET_PORTS)
		question.port = reply_to ? packet->tuple.source_port : packet->tuple.destination_port;
	else if (packet->tuple.protocol == IPPROTO_ICMP || packet->tuple.protocol == IPPROTO_ICMPV6)
		question.port = admit_icmp(packet, reply_to);
	/* The peer's own node told us who it is when it opened the flow; its address alone may not tell. */
	if (reply_to && question.peer.identity == IDENTITY_UNKNOWN)
		question.peer.identity = reply_to->peer_identity;
	/* Somebody borrowed a node's address. */
	if (reply_to && question.peer.scope == SCOPE_NODE && reply_to->peer_identity == IDENTITY_WORLD)
		question.peer = address_peer(0);
	if (reply_to)
		packet->flags |= PACKET_REPLY;
	else
		packet->flags &= ~PACKET_REPLY;
	verdict = policy_judge(policy, &question, &judgement);
	packet->cookie = judgement.cookie;
	packet->audited = judgement.audited;
	return verdict;
}

/* What people are told of a packet that was judged and passes. opens: it begins a flow. */
static __noinline void admit_tell(struct __sk_buff *skb, const struct packet *packet, enum direction direction, int opens)
{
	const struct config *config;

	if (packet->audited) {
		metrics_count(REASON_AUDITED, direction, skb->len);
		event_send(skb, packet, EVENT_AUDIT, packet->audited, direction);
	} else if (opens && packet->cookie) {
		config = config_get();
		if (config && config->flags & CONFIG_VERDICTS)
			event_send(skb, packet, EVENT_ALLOW, REASON_FORWARDED, direction);
	}
}

/* From the entry in which a packet is of the original direction to that in which it is a reply, or back. */
static __inline enum ct_state admit_turn(struct tuple *key, enum ct_state state)
{
	tuple_reverse(key);
	key->direction = direction_opposite(key->direction);
	return state == CT_REPLY ? CT_ORIGINAL : CT_REPLY;
}

/* The entry of the flow that a key names, either way around. *key becomes the entry's, *state says which way. */
static __inline struct ct *admit_find(struct tuple *key, enum ct_state *state)
{
	struct ct *ct;

	*state = CT_ORIGINAL;
	/* Most servers have lower ports than their clients: begin with what is likely. */
	if (host16(key->source_port) < host16(key->destination_port))
		*state = admit_turn(key, *state);
	ct = ct_find(key);
	if (!ct) {
		*state = admit_turn(key, *state);
		ct = ct_find(key);
	}
	return ct;
}

/*
 * The entry of the flow that a packet answers or complains about. direction: that of the flow, ingress if it was opened to whom the packet
 * is from, at this node.
 */
static __inline struct ct *admit_answered(struct __sk_buff *skb, const struct packet *packet, enum direction direction)
{
	struct tuple key = packet->tuple;

	if ((packet->flags & PACKET_ICMP_ERROR) && packet_related(skb, packet, &key) < 0)
		return 0;
	tuple_reverse(&key);
	key.direction = direction;
	return ct_find(&key);
}

/*
 * An ICMP error: about a flow that the endpoint takes part in it passes, whatever policies say. The client of a service knows of no
 * backend, so what the error quotes becomes a packet to the frontend.
 */
__global int admit_error(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint, const struct peer *peer,
			 enum direction direction)
{
	struct rewrite rewrite = {.end = END_DESTINATION};
	const struct policy *policy;
	struct tuple key = {};
	enum ct_state state;
	int error, offset;
	struct ct *ct;

	if (!packet || !endpoint || !peer)
		return -REASON_INVALID_PACKET;
	packet->endpoint = endpoint->id;
	offset = packet_related(skb, packet, &key);
	if (offset < 0)
		return offset;
	key.direction = direction;
	ct = admit_find(&key, &state);
	/* Only who took part in a flow may complain about it, or hear of it. */
	if (!ct || !endpoint_owns(endpoint, key.direction == DIRECTION_EGRESS ? &key.source : &key.destination, key.family)) {
		policy = policy_find(endpoint->policy);
		if (!policy)
			return -REASON_NO_CONFIG;
		error = admit_judge(packet, policy, peer, direction, 0);
		if (!error)
			admit_tell(skb, packet, direction, 0);
		return error;
	}
	if (state != CT_REPLY || direction != DIRECTION_INGRESS || !ct->service)
		return state;
	rewrite.old_address = key.destination;
	rewrite.old_port = key.destination_port;
	rewrite.address = ct->service_address;
	rewrite.port = ct->service_port;
	error = related_rewrite(skb, packet, offset, &rewrite);
	return error ? error : state;
}

/* Enters a flow. Returns CT_NEW or -reason. */
static __noinline int admit_open(const struct packet *packet, const struct peer *peer, const struct tuple *key, __u32 generation,
				 enum direction direction)
{
	struct ct new = {
		.generation = generation,
		.peer_identity = peer->identity,
		.service_address = packet->frontend,
		.service_port = packet->frontend_port,
		.client_port = packet->client_port,
	};
	int error;

	/* Only the source's entry undoes the service, unless the source is outside. */
	if (direction == DIRECTION_EGRESS || packet->client_port)
		new.service = packet->service;
	error = ct_create(key, &new, packet->tcp_flags);
	return error ? error : CT_NEW;
}

/*
 * Any other packet, judged by the policy with this index into ax_policies. A reply through a service gets its frontend back as source.
 */
__global int admit_packet(struct __sk_buff *skb, struct packet *packet, enum policy_index index, const struct peer *peer,
			  enum direction direction)
{
	const struct policy *policy;
	enum ct_state state;
	__u32 generation;
	struct tuple key;
	struct ct *ct;
	int verdict;

	if (!packet || !peer)
		return -REASON_INVALID_PACKET;
	policy = policy_find(index);
	if (!policy)
		return -REASON_NO_CONFIG;
	/* Before the rows are read: if they change meanwhile, the entry is stale at once. */
	generation = *(volatile const __u32 *)&policy->generation;

	key = packet->tuple;
	key.direction = direction;
	ct = admit_find(&key, &state);
	/* A port used again after its connection was closed. */
	if (ct && state == CT_ORIGINAL && (packet->tcp_flags & TCP_SYN) && ct_is_closed(ct))
		ct = 0;

	if (!ct || ct->generation != generation || (state == CT_ORIGINAL && ct->peer_identity != peer->identity)) {
		verdict = admit_judge(packet, policy, peer, direction, state == CT_REPLY ? ct : 0);
		if (verdict < 0)
			return verdict;
		admit_tell(skb, packet, direction, !ct);
		/* Only now: an entry that is written for every packet would travel between CPUs. */
		if (ct) {
			ct->generation = generation;
			if (state == CT_ORIGINAL)
				ct->peer_identity = peer->identity;
		}
	}
	if (!ct) {
		if (state == CT_REPLY)
			admit_turn(&key, state);
		return admit_open(packet, peer, &key, generation, direction);
	}

	if (state == CT_ORIGINAL && direction == DIRECTION_EGRESS && packet->service && packet->service != ct->service) {
		ct->service_address = packet->frontend;
		ct->service_port = packet->frontend_port;
		ct->service = packet->service;
	}
	ct_touch(ct, packet->tuple.protocol, packet->tcp_flags, state);
	/* What a client outside is answered gets the service's address when it leaves. */
	if (state == CT_REPLY && direction == DIRECTION_EGRESS)
		packet->service = ct->service;
	if (state == CT_REPLY && direction == DIRECTION_INGRESS && ct->service) {
		struct inet frontend = ct->service_address;

		verdict = packet_rewrite(skb, packet, END_SOURCE, &frontend, ct->service_port);
		if (verdict < 0)
			return verdict;
	}
	return state;
}

/* Whether an endpoint may send (egress) or get (ingress) a packet. Returns enum ct_state, or -reason. */
static __inline int admit(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint, const struct peer *peer,
			  enum direction direction)
{
	if (packet->flags & PACKET_ICMP_ERROR)
		return admit_error(skb, packet, endpoint, peer, direction);
	packet->endpoint = endpoint->id;
	return admit_packet(skb, packet, endpoint->policy, peer, direction);
}
