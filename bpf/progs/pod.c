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
#include "../lib/tunnel.h"

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
	int verdict;

	if (!endpoint_owns(endpoint, &packet->tuple.source, packet->tuple.family))
		return -REASON_INVALID_SOURCE_IP;
	/* Else a pod could speak for any identity. */
	if (packet->tuple.protocol == IPPROTO_UDP && packet->tuple.destination_port == config->tunnel_port &&
	    !(config->flags & CONFIG_NATIVE_ROUTING))
		return -REASON_TUNNEL_FROM_POD;

	hairpin = hairpin_address(packet->tuple.family);
	if (inet_equal(&packet->tuple.destination, &hairpin)) {
		verdict = hairpin_reply(skb, packet);
		return verdict < 0 ? verdict : deliver_unjudged(skb, packet, endpoint, skb->ifindex);
	}

	row = address_exact(&packet->tuple.destination, packet->tuple.family);
	/* No service has a pod's address. */
	if (!row || (row->kind != ADDRESS_POD && row->kind != ADDRESS_ENDPOINT)) {
		verdict = balance(skb, packet);
		if (verdict < 0)
			return verdict;
		if (packet->service && inet_equal(&packet->tuple.destination, &packet->tuple.source)) {
			verdict = hairpin_request(skb, packet);
			return verdict < 0 ? verdict : deliver_unjudged(skb, packet, endpoint, skb->ifindex);
		}
		if (packet->service)
			row = address_exact(&packet->tuple.destination, packet->tuple.family);
		if (!row)
			row = address_prefix(&packet->tuple.destination, packet->tuple.family);
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

	verdict = admit(skb, packet, endpoint, &peer, DIRECTION_EGRESS);
	if (verdict < 0)
		return verdict;

	if (destination) {
		*direction = DIRECTION_INGRESS;
		peer.identity = endpoint->identity;
		return deliver(skb, packet, destination, ifindex, &peer);
	}
	if (row && (kind == ADDRESS_POD || kind == ADDRESS_NODE_OVERLAY) && !(config->flags & CONFIG_NATIVE_ROUTING)) {
		if (!config->tunnel_ifindex)
			return -REASON_NO_CONFIG;
		verdict = packet_route(skb, packet, 0);
		if (!verdict)
			verdict = tunnel_to(skb, row, endpoint->identity);
		return verdict < 0 ? verdict : bpf_redirect(config->tunnel_ifindex, 0);
	}
	/* This host, other nodes, the world: routed by the stack. */
	return TC_ACT_OK;
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
	if (!verdict && !(packet.flags & PACKET_NEIGHBOUR))
		verdict = pod_send(skb, &packet, endpoint, config, &direction);
	return finish(skb, &packet, verdict, direction);
}

/* What the host's stack delivers: its own packets, and what no program could redirect. */
SEC("classifier/to_pod") int to_pod(struct __sk_buff *skb)
{
	const struct endpoint *source, *endpoint = endpoint_find(skb->ifindex);
	struct packet packet = {};
	const struct address *row;
	struct peer peer;
	int verdict;

	if (!endpoint)
		return drop(skb, &packet, REASON_NO_ENDPOINT, DIRECTION_INGRESS);
	packet.destination_identity = endpoint->identity;
	verdict = packet_parse(skb, &packet);
	if (verdict || (packet.flags & PACKET_NEIGHBOUR))
		return finish(skb, &packet, verdict, DIRECTION_INGRESS);

	row = address_find(&packet.tuple.source, packet.tuple.family);
	peer = address_peer(row);
	if (row && row->kind == ADDRESS_ENDPOINT) {
		source = endpoint_find(row->ifindex);
		peer.identity = source ? source->identity : IDENTITY_UNKNOWN;
		peer.scope = SCOPE_POD;
	} else if (address_is_host(address_kind(row)) && skb->ingress_ifindex) {
		/* Forwarded with the host's address: whoever it was, it was not the host. */
		peer = address_peer(0);
	}
	packet.source_identity = peer.identity;
	verdict = admit(skb, &packet, endpoint, &peer, DIRECTION_INGRESS);
	return finish(skb, &packet, verdict < 0 ? verdict : TC_ACT_OK, DIRECTION_INGRESS);
}
