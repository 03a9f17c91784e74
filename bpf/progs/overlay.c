// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The VXLAN device, which has collect_metadata set. */
#include <bpf.h>
#include "../lib/address.h"
#include "../lib/admit.h"
#include "../lib/config.h"
#include "../lib/conntrack.h"
#include "../lib/deliver.h"
#include "../lib/drop.h"
#include "../lib/endpoint.h"
#include "../lib/host.h"
#include "../lib/identity.h"
#include "../lib/nat.h"
#include "../lib/outside.h"
#include "../lib/tunnel.h"

/* Whether this is the node that owns the address of a row. */
static __inline int overlay_is_owner(const struct tunnel_origin *origin, const struct address *row)
{
	return row && row->tunnel_family == origin->family && inet_equal(&row->tunnel, &origin->node);
}

/* Whether a node may say that a packet with this source, which has this row, is from this identity. Returns 0 or -reason. */
static __inline int overlay_trusts(const struct tunnel_origin *origin, const struct address *row)
{
	/* Who owns the source is a node; that spares looking for most packets. */
	if (!overlay_is_owner(origin, row) && address_kind(address_find(&origin->node, origin->family)) != ADDRESS_NODE)
		return -REASON_UNKNOWN_SENDER;
	/* These mean "nobody" and "me" to whoever says it. */
	if (origin->identity == IDENTITY_UNKNOWN || origin->identity == IDENTITY_HOST || origin->identity >= IDENTITY_LOCAL_MIN)
		return -REASON_INVALID_IDENTITY;

	switch (address_kind(row)) {
	case ADDRESS_WORLD:
		return 0;
	case ADDRESS_POD:
		/* A pod's address is never the world's, whoever brings it. */
		if (origin->identity == IDENTITY_WORLD)
			return -REASON_INVALID_IDENTITY;
		return row->identity == IDENTITY_UNKNOWN || row->identity == origin->identity ? 0 : -REASON_INVALID_IDENTITY;
	case ADDRESS_NODE:
	case ADDRESS_NODE_OVERLAY:
		/* The world's: what the node forwards with its own address for others. */
		return origin->identity == IDENTITY_REMOTE_NODE || origin->identity == IDENTITY_WORLD ? 0 : -REASON_INVALID_IDENTITY;
	default:
		/* This node's own addresses. */
		return -REASON_INVALID_SOURCE_IP;
	}
}

/* The scope of whom a node says that it sends for. */
static __inline enum scope overlay_scope(__u32 identity)
{
	switch (identity) {
	case IDENTITY_WORLD:
		return SCOPE_WORLD;
	case IDENTITY_REMOTE_NODE:
		return SCOPE_NODE;
	default:
		return SCOPE_POD;
	}
}

/* A pod's answer to nobody of the cluster, for whom this node has asked. The stack knows the way. Returns a tc action or -reason. */
static __inline int overlay_return(struct __sk_buff *skb, const struct packet *packet)
{
	struct ct *ct;

	if (overlay_scope(packet->source_identity) != SCOPE_POD)
		return -REASON_NO_ENDPOINT;
	ct = admit_answered(skb, packet, DIRECTION_EGRESS);
	if (!ct)
		return -REASON_NO_ENDPOINT;
	if (!(packet->flags & PACKET_ICMP_ERROR))
		ct_touch(ct, packet->tuple.protocol, packet->tcp_flags, CT_REPLY);
	bpf_skb_change_type(skb, PACKET_HOST);
	return TC_ACT_OK;
}

/* A pod's answer to somebody outside for whom this node has asked, with an address and a port of its own. Returns a tc action or -reason. */
static __noinline int overlay_restore(struct __sk_buff *skb, struct packet *packet)
{
	int error;

	if (packet->flags & PACKET_ICMP_ERROR)
		error = nat_translate_error(skb, packet, DIRECTION_INGRESS);
	else
		error = nat_supports(packet) ? nat_restore(skb, packet) : 0;
	if (error <= 0)
		return error ? error : -REASON_NO_ENDPOINT;
	return outside_return(skb, packet);
}

/* Notes which node's tunnel a flow from nobody of the cluster came by: the answer has to go back there. */
static __noinline void overlay_remember(const struct tuple *key, const struct tunnel_origin *origin)
{
	struct ct *ct = ct_find(key);

	if (!ct || (ct->via_family == origin->family && inet_equal(&ct->via, &origin->node)))
		return;
	ct->via = origin->node;
	ct->via_family = origin->family;
}

/* Returns a tc action or -reason. */
static __inline int overlay_receive(struct __sk_buff *skb, struct packet *packet)
{
	struct tunnel_origin origin = {};
	const struct endpoint *endpoint;
	const struct address *row;
	struct tuple key;
	struct peer peer;
	int error, verdict;

	error = tunnel_from(skb, &origin);
	if (error)
		return error;
	packet->source_identity = origin.identity;
	error = packet_parse(skb, packet);
	if (error)
		return error;
	if (packet->flags & PACKET_NEIGHBOUR)
		return -REASON_UNSUPPORTED_L3;
	error = overlay_trusts(&origin, address_find(&packet->tuple.source, packet->tuple.family));
	if (error)
		return error;

	if (packet->flags & PACKET_FRAGMENT_FIRST)
		packet_remember(packet);
	row = address_find(&packet->tuple.destination, packet->tuple.family);
	if (!row)
		return overlay_return(skb, packet);
	peer.identity = origin.identity;
	peer.scope = overlay_scope(origin.identity);
	if (row->kind == ADDRESS_HOST_OVERLAY) {
		error = host_receives(skb, packet, &peer);
		if (error)
			return error;
		/* The sender does not know this device's MAC. */
		bpf_skb_change_type(skb, PACKET_HOST);
		return TC_ACT_OK;
	}
	if (row->kind == ADDRESS_HOST)
		return overlay_restore(skb, packet);
	if (row->kind != ADDRESS_ENDPOINT)
		return -REASON_NO_ENDPOINT;
	endpoint = endpoint_find(row->ifindex);
	if (!endpoint)
		return -REASON_NO_ENDPOINT;
	if (endpoint->flags & ENDPOINT_CHAINED) {
		/* to_pod judges, and may know the address as nobody's in particular. */
		skb->mark = identity_mark(origin.identity);
		bpf_skb_change_type(skb, PACKET_HOST);
	}
	if (peer.scope != SCOPE_WORLD)
		return deliver(skb, packet, endpoint, row->ifindex, &peer);
	key = packet->tuple;
	key.direction = DIRECTION_INGRESS;
	verdict = deliver(skb, packet, endpoint, row->ifindex, &peer);
	if (verdict >= 0)
		overlay_remember(&key, &origin);
	return verdict;
}

SEC("classifier/from_overlay") int from_overlay(struct __sk_buff *skb)
{
	struct packet packet = {};
	int verdict = overlay_receive(skb, &packet);

	return finish(skb, &packet, verdict, DIRECTION_INGRESS);
}

/* Enters the flow of somebody who is nobody's: its answers come back through the tunnel, and nothing else for him. Returns 0 or -reason. */
static __inline int overlay_ask(const struct packet *packet)
{
	struct tuple key = packet->tuple;
	struct ct *ct, new = {};

	key.direction = DIRECTION_EGRESS;
	ct = ct_find(&key);
	if (!ct || ((packet->tcp_flags & TCP_SYN) && ct_is_closed(ct)))
		return ct_create(&key, &new, packet->tcp_flags);
	ct_touch(ct, packet->tuple.protocol, packet->tcp_flags, CT_ORIGINAL);
	return 0;
}

/*
 * For whom this node sends a packet that its stack has: what other nodes are told, or -reason. Whom it does not know, and who borrows an
 * address of the host, is the world to them, as it is to this node's own pods; an address that is somebody else's is a lie.
 */
static __inline int overlay_sender(const struct __sk_buff *skb, struct packet *packet)
{
	const struct address *row = address_find(&packet->tuple.source, packet->tuple.family);
	const struct endpoint *endpoint;

	switch (address_kind(row)) {
	case ADDRESS_ENDPOINT:
		/* from_pod let it out, and left it to the stack. */
		endpoint = endpoint_find(row->ifindex);
		if (!endpoint)
			return -REASON_NO_ENDPOINT;
		if (!endpoint_sent(skb, endpoint, row->ifindex))
			return -REASON_INVALID_SOURCE_IP;
		packet->source_identity = endpoint->identity;
		return endpoint->identity;
	case ADDRESS_HOST:
	case ADDRESS_HOST_OVERLAY:
		if (skb->ingress_ifindex)
			break;
		packet->source_identity = IDENTITY_HOST;
		return IDENTITY_REMOTE_NODE;
	case ADDRESS_WORLD:
		break;
	default:
		return -REASON_INVALID_SOURCE_IP;
	}
	packet->source_identity = IDENTITY_WORLD;
	return IDENTITY_WORLD;
}

/* Returns a tc action or -reason. */
static __inline int overlay_send(struct __sk_buff *skb, struct packet *packet)
{
	const struct config *config = config_get();
	const struct address *row;
	int identity, error = packet_parse(skb, packet), unknown = error == -REASON_FRAG_NOT_FOUND;

	/* Ports say who is answered; without, a packet is sent all the same. */
	if (error && !unknown)
		return error;
	/* The device throws away what has no key. */
	if (packet->flags & PACKET_NEIGHBOUR)
		return TC_ACT_OK;
	identity = overlay_sender(skb, packet);
	if (identity < 0)
		return identity;
	row = address_find(&packet->tuple.destination, packet->tuple.family);
	if (!row)
		return -REASON_NO_TUNNEL_ENDPOINT;
	if (!config)
		return -REASON_NO_CONFIG;
	if (packet->source_identity == IDENTITY_HOST) {
		error = host_sends(skb, packet, error);
		if (error)
			return error;
	}
	packet->destination_identity = row->identity;
	if (packet->flags & PACKET_FRAGMENT_FIRST)
		packet_remember(packet);
	if (identity == IDENTITY_WORLD && !unknown && !(packet->flags & PACKET_ICMP_ERROR)) {
		error = overlay_ask(packet);
		if (error)
			return error;
	}
	error = tunnel_to(skb, config, row, identity);
	return error ? error : TC_ACT_OK;
}

/* The host's packets to other nodes' pods, and what the stack forwards. What from_pod redirects has a key already. */
SEC("classifier/to_overlay") int to_overlay(struct __sk_buff *skb)
{
	struct packet packet = {};
	int verdict;

	if (tunnel_is_set(skb))
		return TC_ACT_OK;
	verdict = overlay_send(skb, &packet);
	return finish(skb, &packet, verdict, DIRECTION_EGRESS);
}
