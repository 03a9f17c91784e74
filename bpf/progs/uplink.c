// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Devices of the underlay. What is not about pods is the host's business and passes untouched. */
#include <bpf.h>
#include <linux/pkt_cls.h>
#include "../lib/address.h"
#include "../lib/config.h"
#include "../lib/deliver.h"
#include "../lib/drop.h"
#include "../lib/host.h"
#include "../lib/nat.h"
#include "../lib/outside.h"
#include "../lib/refuse.h"
#include "../lib/uplink.h"

static __inline int uplink_is_tunnel(const struct config *config, const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_UDP && packet->tuple.destination_port == config->tunnel_port;
}

/* The same by a glance, for what tunnels send: no options, no fragments, headers in place. All that is tunnelled comes by here. */
static __inline int uplink_is_plain_tunnel(struct __sk_buff *skb, const struct config *config)
{
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct ipv6hdr *v6 = data + ETH_HLEN;
	const struct iphdr *v4 = data + ETH_HLEN;
	const __be16 *ports;

	if (skb->protocol == be16(ETH_P_IP)) {
		ports = (void *)(v4 + 1);
		return (void *)(ports + 2) <= end && v4->version == 4 && v4->ihl == 5 && v4->protocol == IPPROTO_UDP &&
		       !(v4->frag_off & be16(IPV4_FRAGMENT_OFFSET)) && ports[1] == config->tunnel_port;
	}
	ports = (void *)(v6 + 1);
	return skb->protocol == be16(ETH_P_IPV6) && (void *)(ports + 2) <= end && v6->nexthdr == IPPROTO_UDP &&
	       ports[1] == config->tunnel_port;
}

/* Returns a tc action or -reason. */
__global int uplink_deliver(struct __sk_buff *skb, struct packet *packet, __u32 ifindex, const struct peer *peer)
{
	const struct endpoint *endpoint = endpoint_find(ifindex);

	if (!packet || !peer)
		return -REASON_INVALID_PACKET;
	return endpoint ? deliver(skb, packet, endpoint, ifindex, peer) : -REASON_NO_ENDPOINT;
}

/* Whether a packet is too long for the tunnel to a backend, and must not be cut. */
static __inline int uplink_is_too_long(const struct __sk_buff *skb, const struct packet *packet, const struct config *config,
				       const struct address *row)
{
	return address_kind(row) == ADDRESS_POD && !(config->flags & CONFIG_NATIVE_ROUTING) && config->pod_mtu &&
	       forward_size(skb, packet) > config->pod_mtu;
}

/*
 * What a client sends to a service, or to the host. node: it is at an address of this node. Returns a tc action, which is TC_ACT_OK for what
 * the host gets, or -reason.
 */
__global int uplink_serve(struct __sk_buff *skb, struct packet *packet, const struct config *config, const struct peer *peer, int node)
{
	struct outside_choice choice = {};
	const struct service *service;
	const struct endpoint *endpoint;
	const struct address *row;
	int error, here = 0;

	if (!packet || !config || !peer)
		return -REASON_INVALID_PACKET;
	service = outside_find(packet, node, &here);
	if (!service)
		return TC_ACT_OK;
	if (here && !service->backends)
		return -REASON_NO_LOCAL_BACKEND;
	error = outside_choose(packet, service, &choice);
	if (error)
		return error;
	row = address_find(&choice.address, packet->tuple.family);
	if (uplink_is_too_long(skb, packet, config, row))
		return -REASON_TOO_LONG;
	error = outside_translate(skb, packet, service->id, &choice);
	if (error)
		return error;

	if (row && row->kind == ADDRESS_ENDPOINT) {
		endpoint = endpoint_find(row->ifindex);
		error = endpoint && endpoint->flags & ENDPOINT_CHAINED ? outside_enter(packet) : 0;
		return error ? error : uplink_deliver(skb, packet, row->ifindex, peer);
	}
	if (!address_is_host(address_kind(row)))
		return outside_masquerade(skb, packet, config, row);
	return outside_enter(packet);
}

/* An ICMP error that is about no flow of pods: about a service's, or the host's. Returns as uplink_serve. */
static __noinline int uplink_complain(struct __sk_buff *skb, struct packet *packet, const struct config *config, const struct peer *peer)
{
	int error = outside_error(skb, packet);
	const struct address *row;

	if (error <= 0)
		return error;
	row = address_find(&packet->tuple.destination, packet->tuple.family);
	if (row && row->kind == ADDRESS_ENDPOINT)
		return uplink_deliver(skb, packet, row->ifindex, peer);
	if (address_is_host(address_kind(row)))
		return TC_ACT_OK;
	error = nat_translate_error(skb, packet, DIRECTION_EGRESS);
	if (error <= 0)
		return error ? error : -REASON_NAT_NO_MAPPING;
	return outside_forward(skb, packet, config, row);
}

/* Returns a tc action or -reason. */
static __inline int uplink_receive(struct __sk_buff *skb, struct packet *packet, const struct config *config)
{
	const struct address *source, *destination;
	enum address_kind kind;
	struct peer peer;
	int error, node;

	source = address_find(&packet->tuple.source, packet->tuple.family);
	peer = address_peer(source);
	packet->source_identity = peer.identity;
	switch (address_kind(source)) {
	case ADDRESS_ENDPOINT:
	case ADDRESS_HOST:
	case ADDRESS_HOST_OVERLAY:
		return -REASON_INVALID_SOURCE_IP;
	case ADDRESS_POD:
	case ADDRESS_NODE_OVERLAY:
		if (config_tunnels_all(config, packet->tuple.family))
			return -REASON_INVALID_SOURCE_IP;
		break;
	default:
		break;
	}

	if (packet->flags & PACKET_FRAGMENT_FIRST)
		packet_remember(packet);
	node = inet_equal(&packet->tuple.destination, config_address(config, packet->tuple.family));
	if (!node) {
		destination = address_exact(&packet->tuple.destination, packet->tuple.family);
		kind = address_kind(destination);
		/* Pods that the underlay knows, in native routing all of them. The stack answers to the last hop. */
		if (destination && kind == ADDRESS_ENDPOINT && packet->ttl > 1)
			return uplink_deliver(skb, packet, destination->ifindex, &peer);
		/*
		 * Masquerading may have used any address of the host, and the reply may come by any device. Nobody's is perhaps one
		 * that has become the host's a moment ago.
		 */
		if (kind != ADDRESS_HOST && kind != ADDRESS_WORLD)
			return TC_ACT_OK;
		node = kind == ADDRESS_HOST;
	}
	if (packet->flags & PACKET_ICMP_ERROR) {
		error = nat_translate_error(skb, packet, DIRECTION_INGRESS);
		/* What it quotes may be no flow of pods, or not understood here. */
		if (error <= 0)
			return error == -REASON_WRITE_FAILED ? error : uplink_complain(skb, packet, config, &peer);
	} else {
		if (!nat_supports(packet))
			return TC_ACT_OK;
		/* Who asks for an echo pings the node. */
		error = 0;
		if (nat_port_in_range(config, packet->tuple.destination_port) &&
		    (packet->flags & (PACKET_ECHO | PACKET_ECHO_REPLY)) != PACKET_ECHO)
			error = nat_restore(skb, packet);
		if (error <= 0)
			return error ? error : uplink_serve(skb, packet, config, &peer, node);
	}

	destination = address_find(&packet->tuple.destination, packet->tuple.family);
	if (address_is_host(address_kind(destination)))
		return TC_ACT_OK;
	if (!destination || destination->kind != ADDRESS_ENDPOINT)
		return outside_return(skb, packet);
	return uplink_deliver(skb, packet, destination->ifindex, &peer);
}

/* What is left to the stack: the host's own packets are judged. error: what the parser said. Returns a tc action or -reason. */
static __noinline int uplink_to_host(struct __sk_buff *skb, struct packet *packet, int error)
{
	struct peer peer;

	if (!host_has_policy() ||
	    !address_is_host(address_kind(address_exact(&packet->tuple.destination, packet->tuple.family))))
		return TC_ACT_OK;
	if (error)
		return host_unparsed(error);
	peer = address_peer(address_find(&packet->tuple.source, packet->tuple.family));
	return host_receives(skb, packet, &peer);
}

SEC("classifier/from_uplink") int from_uplink(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct packet packet = {};
	int verdict, error;

	/* What a switch floods is somebody else's. */
	if (!config || skb->pkt_type != PACKET_HOST || uplink_is_plain_tunnel(skb, config))
		return TC_ACT_OK;
	error = packet_parse(skb, &packet);
	if (!error && ((packet.flags & PACKET_NEIGHBOUR) || uplink_is_tunnel(config, &packet)))
		return TC_ACT_OK;
	verdict = error ? TC_ACT_OK : uplink_receive(skb, &packet, config);
	if (verdict == TC_ACT_OK)
		verdict = uplink_to_host(skb, &packet, error);
	if (verdict == -REASON_NO_SERVICE_BACKEND || verdict == -REASON_TOO_LONG) {
		drop(skb, &packet, -verdict, DIRECTION_INGRESS);
		return refuse_outside(skb, &packet, verdict == -REASON_TOO_LONG ? config->pod_mtu : 0);
	}
	return verdict == TC_ACT_OK ? verdict : finish(skb, &packet, verdict, DIRECTION_INGRESS);
}

/* What the host itself sends: its flows take their ports, its answers to a service's clients come from the service. As uplink_send. */
static __noinline int uplink_send_own(struct __sk_buff *skb, struct packet *packet, const struct config *config)
{
	int error = 0, owned = nat_supports(packet) && !(packet->flags & PACKET_ECHO_REPLY) &&
			       nat_port_in_range(config, packet->tuple.source_port);
	struct inet address = packet->tuple.source;

	if (owned)
		error = nat_continue(skb, packet, &address);
	if (!error)
		error = outside_answer(skb, packet);
	if (!error && owned)
		error = nat_begin(skb, packet, config, &address, 1);
	return error < 0 ? error : TC_ACT_OK;
}

/* Returns a tc action or -reason. error: what the parser said. */
static __inline int uplink_send(struct __sk_buff *skb, struct packet *packet, const struct config *config, int error)
{
	int native = config->flags & CONFIG_NATIVE_ROUTING;
	const struct address *row;
	struct inet address;
	int verdict;

	row = address_find(&packet->tuple.source, packet->tuple.family);
	switch (address_kind(row)) {
	case ADDRESS_ENDPOINT:
		break;
	case ADDRESS_HOST_OVERLAY:
		return host_sends(skb, packet, error);
	case ADDRESS_HOST:
		verdict = host_sends(skb, packet, error);
		if (verdict)
			return verdict;
		packet->source_identity = IDENTITY_HOST;
		return error ? TC_ACT_OK : uplink_send_own(skb, packet, config);
	default:
		return TC_ACT_OK;
	}
	if (packet->flags & PACKET_FRAGMENT_FIRST)
		packet_remember(packet);
	/* Most packets are of a flow that was masqueraded before: nobody has to ask again why. */
	address = uplink_address(config, skb->ifindex, packet->tuple.family);
	if (!error && config_masquerades(config, packet->tuple.family) && nat_supports(packet)) {
		error = nat_continue(skb, packet, &address);
		if (error)
			return error < 0 ? error : TC_ACT_OK;
	}

	/* To a connection that was opened from outside. */
	if (!error) {
		error = outside_answer(skb, packet);
		if (error)
			return error < 0 ? error : TC_ACT_OK;
	}

	row = address_find(&packet->tuple.destination, packet->tuple.family);
	packet->destination_identity = address_peer(row).identity;
	switch (address_kind(row)) {
	case ADDRESS_WORLD:
		break;
	case ADDRESS_NODE:
		if (native)
			return TC_ACT_OK;
		break;
	case ADDRESS_POD:
	case ADDRESS_NODE_OVERLAY:
		/* Not in the clear. */
		return native ? TC_ACT_OK : -REASON_NO_TUNNEL_ENDPOINT;
	default:
		return TC_ACT_OK;
	}
	if (!config_masquerades(config, packet->tuple.family))
		return TC_ACT_OK;
	if (error)
		return error;
	if (packet->flags & PACKET_ICMP_ERROR) {
		error = nat_translate_error(skb, packet, DIRECTION_EGRESS);
		if (error)
			return error < 0 ? error : TC_ACT_OK;
		return nat_excludes(config, packet) ? TC_ACT_OK : -REASON_NAT_NO_MAPPING;
	}
	if (!nat_supports(packet))
		return nat_excludes(config, packet) ? TC_ACT_OK : -REASON_NAT_UNSUPPORTED_PROTOCOL;
	if (nat_excludes(config, packet))
		return TC_ACT_OK;
	error = nat_begin(skb, packet, config, &address, 0);
	return error ? error : TC_ACT_OK;
}

SEC("classifier/to_uplink") int to_uplink(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct packet packet = {};
	int verdict, error;

	if (!config || uplink_is_plain_tunnel(skb, config))
		return TC_ACT_OK;
	if (mark_is_translated(skb->mark))
		return TC_ACT_OK;
	/* from_pod knew that nothing is left to do. */
	if ((config->flags & CONFIG_NATIVE_ROUTING) && identity_is_marked(skb->mark))
		return TC_ACT_OK;
	error = packet_parse(skb, &packet);
	if (packet.tuple.family == FAMILY_NONE || (packet.flags & PACKET_NEIGHBOUR) || uplink_is_tunnel(config, &packet))
		return TC_ACT_OK;
	verdict = uplink_send(skb, &packet, config, error);
	/* Counted as forwarded where the pod sent it. */
	return verdict == TC_ACT_OK ? verdict : finish(skb, &packet, verdict, DIRECTION_EGRESS);
}
