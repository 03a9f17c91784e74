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
static __noinline int uplink_deliver(struct __sk_buff *skb, struct packet *packet, const struct address *destination,
				     const struct peer *peer)
{
	__u32 ifindex = destination->ifindex;
	const struct endpoint *endpoint = endpoint_find(ifindex);

	return endpoint ? deliver(skb, packet, endpoint, ifindex, peer) : -REASON_NO_ENDPOINT;
}

/* Returns a tc action or -reason. */
static __inline int uplink_receive(struct __sk_buff *skb, struct packet *packet, const struct config *config)
{
	const struct address *source, *destination;
	enum address_kind kind;
	struct peer peer;
	int error;

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
	if (!inet_equal(&packet->tuple.destination, config_address(config, packet->tuple.family))) {
		destination = address_exact(&packet->tuple.destination, packet->tuple.family);
		kind = address_kind(destination);
		/* Pods that the underlay knows, in native routing all of them. The stack answers to the last hop. */
		if (destination && kind == ADDRESS_ENDPOINT && packet->ttl > 1)
			return uplink_deliver(skb, packet, destination, &peer);
		/*
		 * Masquerading may have used any address of the host, and the reply may come by any device. Nobody's is perhaps one
		 * that has become the host's a moment ago.
		 */
		if (kind != ADDRESS_HOST && kind != ADDRESS_WORLD)
			return TC_ACT_OK;
	}
	if (packet->flags & PACKET_ICMP_ERROR) {
		error = nat_translate_error(skb, packet, DIRECTION_INGRESS);
		/* What it quotes may be no flow of pods, or not understood here: then it is the host's. */
		if (error <= 0)
			return error == -REASON_WRITE_FAILED ? error : TC_ACT_OK;
	} else {
		if (!nat_supports(packet) || !nat_port_in_range(config, packet->tuple.destination_port))
			return TC_ACT_OK;
		/* Somebody pings the node. */
		if ((packet->flags & (PACKET_ECHO | PACKET_ECHO_REPLY)) == PACKET_ECHO)
			return TC_ACT_OK;
		error = nat_restore(skb, packet);
		if (error <= 0)
			return error;
	}

	destination = address_find(&packet->tuple.destination, packet->tuple.family);
	/* The host's own flow, whose port was somebody else's. */
	if (address_is_host(address_kind(destination)))
		return TC_ACT_OK;
	if (!destination || destination->kind != ADDRESS_ENDPOINT)
		return -REASON_NO_ENDPOINT;
	return uplink_deliver(skb, packet, destination, &peer);
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
	return verdict == TC_ACT_OK ? verdict : finish(skb, &packet, verdict, DIRECTION_INGRESS);
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
		/* The host's later fragments need no port: their address stays as it is. */
		if (error || !nat_supports(packet) || (packet->flags & PACKET_ECHO_REPLY) ||
		    !nat_port_in_range(config, packet->tuple.source_port))
			return TC_ACT_OK;
		address = packet->tuple.source;
		error = nat_continue(skb, packet, &address);
		if (!error)
			error = nat_begin(skb, packet, config, &address, 1);
		return error < 0 ? error : TC_ACT_OK;
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
	/* To a connection that was opened from outside. */
	if (admit_answered(skb, packet, DIRECTION_INGRESS))
		return TC_ACT_OK;
	if (packet->flags & PACKET_ICMP_ERROR) {
		error = nat_translate_error(skb, packet, DIRECTION_EGRESS);
		if (error)
			return error < 0 ? error : TC_ACT_OK;
		return nat_excludes(config, packet) ? TC_ACT_OK : -REASON_NAT_NO_MAPPING;
	}
	if (!nat_supports(packet))
		return nat_excludes(config, packet) ? TC_ACT_OK : -REASON_NAT_UNSUPPORTED_PROTOCOL;
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
