// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The VXLAN device, which has collect_metadata set. */
#include <bpf.h>
#include "../lib/address.h"
#include "../lib/deliver.h"
#include "../lib/drop.h"
#include "../lib/identity.h"
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
	/* These three mean "me", "somebody" and "nobody" to whoever says it. */
	if (origin->identity == IDENTITY_UNKNOWN || origin->identity == IDENTITY_HOST || origin->identity == IDENTITY_WORLD ||
	    origin->identity >= IDENTITY_LOCAL_MIN)
		return -REASON_INVALID_IDENTITY;

	switch (address_kind(row)) {
	case ADDRESS_WORLD:
		return 0;
	case ADDRESS_POD:
		return row->identity == IDENTITY_UNKNOWN || row->identity == origin->identity ? 0 : -REASON_INVALID_IDENTITY;
	case ADDRESS_NODE:
	case ADDRESS_NODE_OVERLAY:
		return origin->identity == IDENTITY_REMOTE_NODE ? 0 : -REASON_INVALID_IDENTITY;
	default:
		/* This node's own addresses. */
		return -REASON_INVALID_SOURCE_IP;
	}
}

/* Returns a tc action or -reason. */
static __inline int overlay_receive(struct __sk_buff *skb, struct packet *packet)
{
	struct tunnel_origin origin = {};
	const struct endpoint *endpoint;
	const struct address *row;
	struct peer peer;
	int error;

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
		return -REASON_NO_ENDPOINT;
	if (row->kind == ADDRESS_HOST_OVERLAY) {
		/* The sender does not know this device's MAC. */
		bpf_skb_change_type(skb, PACKET_HOST);
		return TC_ACT_OK;
	}
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
	peer.identity = origin.identity;
	peer.scope = origin.identity == IDENTITY_REMOTE_NODE ? SCOPE_NODE : SCOPE_POD;
	return deliver(skb, packet, endpoint, row->ifindex, &peer);
}

SEC("classifier/from_overlay") int from_overlay(struct __sk_buff *skb)
{
	struct packet packet = {};
	int verdict = overlay_receive(skb, &packet);

	return finish(skb, &packet, verdict, DIRECTION_INGRESS);
}

/* Returns a tc action or -reason. */
static __inline int overlay_send(struct __sk_buff *skb, struct packet *packet)
{
	enum identity identity = IDENTITY_REMOTE_NODE;
	const struct endpoint *endpoint;
	const struct address *row;
	int error = packet_parse(skb, packet);

	/* Nobody asks for ports here. */
	if (error && error != -REASON_FRAG_NOT_FOUND)
		return error;
	/* The device throws away what has no key. */
	if (packet->flags & PACKET_NEIGHBOUR)
		return TC_ACT_OK;
	row = address_find(&packet->tuple.source, packet->tuple.family);
	if (row && row->kind == ADDRESS_ENDPOINT) {
		/* from_pod let it out, and left it to the stack. */
		endpoint = endpoint_find(row->ifindex);
		if (!endpoint)
			return -REASON_NO_ENDPOINT;
		packet->source_identity = identity = endpoint->identity;
	} else if (address_is_host(address_kind(row))) {
		packet->source_identity = IDENTITY_HOST;
	} else {
		/* Would get the identity of a node. */
		return -REASON_INVALID_SOURCE_IP;
	}
	row = address_find(&packet->tuple.destination, packet->tuple.family);
	if (!row)
		return -REASON_NO_TUNNEL_ENDPOINT;
	packet->destination_identity = row->identity;
	error = tunnel_to(skb, row, identity);
	return error ? error : TC_ACT_OK;
}

/* The host's packets to other nodes' pods, and what the stack forwards for pods. What from_pod redirects has a key already. */
SEC("classifier/to_overlay") int to_overlay(struct __sk_buff *skb)
{
	struct packet packet = {};
	int verdict;

	if (tunnel_is_set(skb))
		return TC_ACT_OK;
	verdict = overlay_send(skb, &packet);
	return finish(skb, &packet, verdict, DIRECTION_EGRESS);
}
