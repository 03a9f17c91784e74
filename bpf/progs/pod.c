// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The host side of a pod's veth. */
#include <bpf.h>
#include "../lib/address.h"
#include "../lib/admit.h"
#include "../lib/balance.h"
#include "../lib/bandwidth.h"
#include "../lib/config.h"
#include "../lib/deliver.h"
#include "../lib/drop.h"
#include "../lib/forward.h"
#include "../lib/host.h"
#include "../lib/neighbour.h"
#include "../lib/refuse.h"
#include "../lib/tunnel.h"

/* Whether a packet comes from whom it says. Returns 0 or -reason. */
static __inline int pod_verify(struct __sk_buff *skb, const struct packet *packet, const struct endpoint *endpoint)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + ETH_HLEN > end)
		return -REASON_INVALID_PACKET;
	/* A chained pod's device may be a bridge's port. */
	if (!(endpoint->flags & ENDPOINT_CHAINED) && !mac_equal(data + 6, endpoint->pod_mac))
		return -REASON_INVALID_SOURCE_MAC;
	if (!(packet->flags & PACKET_NEIGHBOUR) && !endpoint_owns(endpoint, &packet->tuple.source, packet->tuple.family))
		return -REASON_INVALID_SOURCE_IP;
	return 0;
}

/*
 * An answer to nobody of the cluster, or to a node that asks for him: back through the tunnel by which it was asked, if it was. This node's routes may know another way,
 * but not one on which pods' addresses are believed. Returns a tc action, -reason, or 0 if the routes have to know.
 */
__global int pod_answers(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint, const struct config *config)
{
	struct address node = {};
	const struct ct *ct;

	if (!packet || !endpoint || !config)
		return -REASON_INVALID_PACKET;
	ct = admit_answered(skb, packet, DIRECTION_INGRESS);
	if (!ct || ct->via_family == FAMILY_NONE)
		return 0;
	node.tunnel = ct->via;
	node.tunnel_family = ct->via_family;
	/* It may have left the cluster. */
	if (address_kind(address_exact(&node.tunnel, node.tunnel_family)) != ADDRESS_NODE)
		return 0;
	return tunnel_send(skb, packet, config, &node, endpoint->identity);
}

/* Where a packet goes that was let out and is for no pod of this node. Returns a tc action or -reason. */
static __inline int pod_leaves(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint,
			       const struct config *config, const struct address *row, enum ct_state state)
{
	int native = config->flags & CONFIG_NATIVE_ROUTING, answered;
	enum address_kind kind = address_kind(row);
	int pods = kind == ADDRESS_POD || kind == ADDRESS_NODE_OVERLAY;

	if (pods && !native && (endpoint->flags & ENDPOINT_CHAINED))
		skb->mark = identity_mark(endpoint->identity);
	/* For this host. Or the stack routes, and tells the pod of packets that live too short or are too long. */
	if (address_is_host(kind) || (endpoint->flags & ENDPOINT_CHAINED) || packet->ttl <= 1 || forward_stays_on_link(packet))
		return TC_ACT_OK;
	if (row && kind != ADDRESS_WORLD && config->pod_mtu && forward_size(skb, packet) > config->pod_mtu)
		return TC_ACT_OK;
	if (row && pods && !native)
		return tunnel_send(skb, packet, config, row, endpoint->identity);
	if ((!row || kind == ADDRESS_NODE) && !native && state == CT_REPLY) {
		answered = pod_answers(skb, packet, endpoint, config);
		if (answered)
			return answered;
	}
	/* Inside of the cluster nothing is masqueraded: spares to_uplink from finding out again. It undoes services. */
	if (native && row && (state != CT_REPLY || !packet->service))
		skb->mark = identity_mark(endpoint->identity);
	if (forward_is_direct(row, packet))
		return forward_direct(skb, packet, row);
	return forward_routed(skb, packet);
}

/* Returns a tc action or -reason. *direction is whose side decided. */
static __inline int pod_send(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint,
			     const struct config *config, enum direction *direction)
{
	const struct endpoint *destination = 0;
	const struct address *row;
	enum address_kind kind;
	struct inet hairpin;
	struct peer peer;
	__u32 ifindex;
	int verdict, state;

	/* Else a pod could speak for any identity. */
	if (packet->tuple.protocol == IPPROTO_UDP && packet->tuple.destination_port == config->tunnel_port &&
	    !(config->flags & CONFIG_NATIVE_ROUTING))
		return -REASON_TUNNEL_FROM_POD;

	hairpin = hairpin_address(packet->tuple.family);
	if (inet_equal(&packet->tuple.destination, &hairpin)) {
		verdict = packet->flags & PACKET_ICMP_ERROR ? hairpin_error(skb, packet) : hairpin_reply(skb, packet);
		return verdict < 0 ? verdict : deliver_unjudged(skb, packet, endpoint, skb->ifindex);
	}

	row = address_find(&packet->tuple.destination, packet->tuple.family);
	/* No service has a pod's address, be it listed or of a node's prefix. */
	if (!row || (row->kind != ADDRESS_POD && row->kind != ADDRESS_ENDPOINT)) {
		verdict = packet->flags & PACKET_ICMP_ERROR ? balance_error(skb, packet) : balance(skb, packet, row);
		if (verdict < 0)
			return verdict;
		if (packet->service && inet_equal(&packet->tuple.destination, &packet->tuple.source)) {
			verdict = hairpin_request(skb, packet);
			return verdict < 0 ? verdict : deliver_unjudged(skb, packet, endpoint, skb->ifindex);
		}
		if (packet->service)
			row = address_find(&packet->tuple.destination, packet->tuple.family);
	}
	kind = address_kind(row);
	peer = address_peer(row);
	if (row && kind == ADDRESS_ENDPOINT) {
		ifindex = row->ifindex;
		destination = endpoint_find(ifindex);
		if (!destination)
			return -REASON_NO_ENDPOINT;
		peer.identity = destination->identity;
		peer.scope = SCOPE_POD;
	}
	packet->destination_identity = peer.identity;

	state = admit(skb, packet, endpoint, &peer, DIRECTION_EGRESS);
	if (state < 0)
		return state;
	/* Nobody outside has it: a cluster's own address is not to leave. */
	if (state == CT_NEW && !row && !packet->service && service_owns(&packet->tuple.destination, packet->tuple.family)) {
		struct tuple key = packet->tuple;

		key.direction = DIRECTION_EGRESS;
		ct_forget(&key);
		return -REASON_NO_SERVICE;
	}
	if (endpoint->flags & ENDPOINT_EGRESS_LIMITED) {
		verdict = bandwidth_take(skb, packet, skb->ifindex, DIRECTION_EGRESS);
		if (verdict)
			return verdict;
	}

	/* A chained pod's packet comes by to_pod of the other one. */
	if (destination && (endpoint->flags & ENDPOINT_CHAINED)) {
		skb->mark = identity_mark(endpoint->identity);
		return TC_ACT_OK;
	}
	if (destination) {
		*direction = DIRECTION_INGRESS;
		peer.identity = endpoint->identity;
		return deliver(skb, packet, destination, ifindex, &peer);
	}
	/* The host is answered, whatever policies say. */
	if (address_is_host(kind) && state != CT_REPLY) {
		peer.identity = endpoint->identity;
		peer.scope = SCOPE_POD;
		verdict = host_receives(skb, packet, &peer);
		if (verdict) {
			*direction = DIRECTION_INGRESS;
			return verdict;
		}
	}
	return pod_leaves(skb, packet, endpoint, config, row, state);
}

/* Returns a tc action or -reason. */
static __inline int pod_neighbour(struct __sk_buff *skb, const struct packet *packet, const struct endpoint *endpoint)
{
	if (endpoint->flags & ENDPOINT_CHAINED)
		return TC_ACT_OK;
	return skb->protocol == be16(ETH_P_ARP) ? neighbour_arp(skb, endpoint) : neighbour_discovery(skb, packet, endpoint);
}

SEC("classifier/from_pod") int from_pod(struct __sk_buff *skb)
{
	const struct endpoint *endpoint = endpoint_find(skb->ifindex);
	enum direction direction = DIRECTION_EGRESS;
	const struct config *config = config_get();
	struct packet packet = {};
	int verdict;

	if (!endpoint || !config)
		return drop(skb, &packet, REASON_NO_ENDPOINT, DIRECTION_EGRESS);
	packet.source_identity = endpoint->identity;
	packet.endpoint = endpoint->id;
	verdict = packet_parse(skb, &packet);
	if (!verdict)
		verdict = pod_verify(skb, &packet, endpoint);
	if (!verdict && (packet.flags & PACKET_NEIGHBOUR)) {
		verdict = pod_neighbour(skb, &packet, endpoint);
	} else if (!verdict) {
		if (packet.flags & PACKET_FRAGMENT_FIRST)
			packet_remember(&packet);
		verdict = pod_send(skb, &packet, endpoint, config, &direction);
	}
	if (verdict == -REASON_NO_SERVICE_BACKEND) {
		drop(skb, &packet, REASON_NO_SERVICE_BACKEND, direction);
		return refuse(skb, &packet, endpoint);
	}
	return finish(skb, &packet, verdict, direction);
}

/* Whom the stack brings a packet from. Returns 0 or -reason. */
static __inline int pod_sender(const struct __sk_buff *skb, const struct packet *packet, struct peer *peer)
{
	const struct address *row = address_find(&packet->tuple.source, packet->tuple.family);
	const struct config *config = config_get();
	__u32 from = skb->ingress_ifindex;
	const struct endpoint *source;

	*peer = address_peer(row);
	if (!row)
		return 0;
	switch (row->kind) {
	case ADDRESS_ENDPOINT:
		source = endpoint_find(row->ifindex);
		if (source && !endpoint_sent(skb, source, row->ifindex))
			return -REASON_INVALID_SOURCE_IP;
		peer->identity = source ? source->identity : IDENTITY_UNKNOWN;
		peer->scope = SCOPE_POD;
		break;
	case ADDRESS_HOST:
	case ADDRESS_HOST_OVERLAY:
		/* Forwarded with the host's address: whoever it was, it was not the host. */
		if (from)
			*peer = address_peer(0);
		break;
	case ADDRESS_POD:
	case ADDRESS_NODE_OVERLAY:
		if (from && config && from != config->tunnel_ifindex && config_tunnels_all(config, packet->tuple.family))
			return -REASON_INVALID_SOURCE_IP;
		if (row->kind == ADDRESS_POD && peer->identity == IDENTITY_UNKNOWN && identity_is_marked(skb->mark))
			peer->identity = identity_of_mark(skb->mark);
		break;
	default:
		break;
	}
	return 0;
}

/* What the host's stack delivers: its own packets, and what no program could redirect. */
SEC("classifier/to_pod") int to_pod(struct __sk_buff *skb)
{
	const struct endpoint *endpoint = endpoint_find(skb->ifindex);
	struct packet packet = {};
	struct peer peer;
	int verdict;

	if (!endpoint)
		return drop(skb, &packet, REASON_NO_ENDPOINT, DIRECTION_INGRESS);
	packet.destination_identity = endpoint->identity;
	verdict = packet_parse(skb, &packet);
	if (verdict || (packet.flags & PACKET_NEIGHBOUR))
		return finish(skb, &packet, verdict, DIRECTION_INGRESS);

	if (packet.flags & PACKET_FRAGMENT_FIRST)
		packet_remember(&packet);
	verdict = pod_sender(skb, &packet, &peer);
	packet.source_identity = peer.identity;
	if (!verdict)
		verdict = admit(skb, &packet, endpoint, &peer, DIRECTION_INGRESS);
	if (verdict >= 0 && (endpoint->flags & ENDPOINT_INGRESS_LIMITED))
		verdict = bandwidth_take(skb, &packet, skb->ifindex, DIRECTION_INGRESS);
	return finish(skb, &packet, verdict < 0 ? verdict : TC_ACT_OK, DIRECTION_INGRESS);
}
