/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Masquerading: pods leave the node with an address of the host. */
#pragma once

#include <bpf.h>
#include "address.h"
#include "config.h"
#include "conntrack.h"
#include "inet.h"
#include "metrics.h"
#include "packet.h"
#include "rewrite.h"
#include "socket.h"

enum nat_flags : __u16 {
	/* TCP: FIN or RST was seen. */
	NAT_CLOSING = 1 << 0,
};

/*
 * Key direction egress: the flow before translation -> what its source becomes.
 * Key direction ingress: a reply as it comes from the wire -> what its destination becomes.
 * Flows of the host itself map to themselves; they are here so that nobody else takes their port.
 */
struct nat {
	/* CLOCK_MONOTONIC in ns. An entry past it does not exist. */
	__u64 expires;
	struct inet address;
	__be16 port;
	enum nat_flags flags;
	/* Key direction egress: the device that the flow left by when it was given its address. */
	__u32 ifindex;
	__u32 reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct nat);
} ax_nat SEC(".maps");

/* Outside destinations that see pods' own addresses. */
struct exclusion {
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cidr_key);
	__type(value, struct exclusion);
} ax_no_masquerade SEC(".maps");

/* How many ports are tried before a flow is refused. */
#define NAT_PROBES 32
/* Long enough for what a half-closed connection still has to say. */
#define NAT_TCP_CLOSING (120 * SECONDS)

static __inline int nat_port_in_range(const struct config *config, __be16 port)
{
	return host16(port) >= config->nat_port_min && host16(port) <= config->nat_port_max;
}

/* Protocols of which one port (or echo id) tells flows apart. */
static __inline int nat_supports(const struct packet *packet)
{
	return (packet->flags & PACKET_ECHO) || packet->tuple.protocol == IPPROTO_TCP || packet->tuple.protocol == IPPROTO_UDP;
}

static __inline __u64 nat_lifetime(__u8 protocol, __u8 tcp_flags, enum nat_flags flags)
{
	if (protocol != IPPROTO_TCP)
		return CT_ANY_LIFETIME;
	if (flags & NAT_CLOSING)
		return NAT_TCP_CLOSING;
	return tcp_flags & TCP_SYN ? CT_TCP_OPENING : CT_TCP_ESTABLISHED;
}

static __inline struct nat *nat_find(const struct tuple *key)
{
	struct nat *nat = bpf_map_lookup_elem(&ax_nat, key);

	return nat && nat->expires > bpf_ktime_get_coarse_ns() ? nat : 0;
}

static __noinline void nat_touch(struct nat *nat, __u8 protocol, __u8 tcp_flags)
{
	__u64 expires;

	if (protocol == IPPROTO_TCP) {
		if (tcp_flags & (TCP_FIN | TCP_RST))
			nat->flags |= NAT_CLOSING;
		else if (tcp_flags & TCP_SYN)
			nat->flags &= ~NAT_CLOSING;
	}
	expires = bpf_ktime_get_coarse_ns() + nat_lifetime(protocol, tcp_flags, nat->flags);
	if (expires > nat->expires + CT_REFRESH || (nat->flags & NAT_CLOSING))
		nat->expires = expires;
}

static __inline int nat_is_for(const struct nat *nat, const struct inet *address, __be16 port)
{
	return nat->port == port && inet_equal(&nat->address, address);
}

/* Whether a flow's destination sees pods' own addresses. */
static __noinline int nat_excludes(const struct config *config, const struct packet *packet)
{
	struct cidr_key key = cidr_key(&packet->tuple.destination, packet->tuple.family);

	return (config->flags & CONFIG_EXCLUSIONS) && bpf_map_lookup_elem(&ax_no_masquerade, &key);
}

/* Whether a socket of the host would get a reply, be it connected or only listening at that port. */
__global int nat_host_listens(struct __sk_buff *skb, const struct tuple *reply)
{
	struct bpf_sock *sock;

	if (!reply)
		return 0;
	if (reply->protocol == IPPROTO_TCP)
		sock = socket_tcp(skb, reply);
	else if (reply->protocol == IPPROTO_UDP)
		sock = socket_udp(skb, reply);
	else
		return 0;
	if (!sock)
		return 0;
	bpf_sk_release(sock);
	return 1;
}

/*
 * Takes a port for a flow: fills in what its replies look like. own: the flow is the host's, whose port is its own already.
 * Returns 0 or -reason.
 */
static __noinline int nat_allocate(struct __sk_buff *skb, const struct config *config, const struct packet *packet,
				   struct tuple *reply, int own)
{
	__u32 range = config->nat_port_max - config->nat_port_min + 1;
	__be16 port = packet->tuple.source_port;
	struct nat to_pod = {
		.expires = bpf_ktime_get_coarse_ns() + nat_lifetime(packet->tuple.protocol, packet->tcp_flags, 0),
		.address = packet->tuple.source,
		.port = port,
	};

	if (config->nat_port_max < config->nat_port_min)
		return -REASON_NO_CONFIG;
	for (int i = 0; i < NAT_PROBES; i++) {
		struct nat *owner;
		__u64 flags = BPF_ANY;

		if (i || !nat_port_in_range(config, port))
			port = be16((__u16)(config->nat_port_min + bpf_get_prandom_u32() % range));
		reply->destination_port = port;
		if (packet->flags & PACKET_ECHO)
			reply->source_port = port;
		owner = bpf_map_lookup_elem(&ax_nat, reply);
		if (!owner)
			flags = BPF_NOEXIST;
		else if (owner->expires > bpf_ktime_get_coarse_ns() && !nat_is_for(owner, &to_pod.address, to_pod.port))
			continue;
		if (!(own && !i) && nat_host_listens(skb, reply))
			continue;
		if (!bpf_map_update_elem(&ax_nat, reply, &to_pod, flags))
			return 0;
	}
	return -REASON_NAT_NO_PORT;
}

/* What the replies to a flow that leaves with an address look like, but for the port. */
static __inline void nat_reply(const struct packet *packet, const struct inet *address, struct tuple *reply)
{
	*reply = packet->tuple;
	tuple_reverse(reply);
	reply->destination = *address;
	reply->direction = DIRECTION_INGRESS;
}

/*
 * Whether a flow keeps an address that a new one would not get. An open connection does while the host has that address and the
 * device is the same. On another device the address may be nobody's to answer, and all else only gains by being renewed.
 */
static __noinline int nat_keeps(const struct packet *packet, const struct nat *nat, __u32 ifindex)
{
	if (packet->tuple.protocol != IPPROTO_TCP || (packet->tcp_flags & TCP_SYN) || nat->ifindex != ifindex)
		return 0;
	return address_kind(address_exact(&nat->address, packet->tuple.family)) == ADDRESS_HOST;
}

/* Translates a flow that has a port already. address: what a new one would get. Returns 1 if it did, 0 if it is to begin, or -reason. */
static __noinline int nat_continue(struct __sk_buff *skb, struct packet *packet, const struct inet *address)
{
	struct tuple key = packet->tuple, reply;
	struct nat *nat, *back;
	int error;

	key.direction = DIRECTION_EGRESS;
	nat = nat_find(&key);
	if (!nat || (!inet_equal(&nat->address, address) && !nat_keeps(packet, nat, skb->ifindex)))
		return 0;
	nat_reply(packet, &nat->address, &reply);
	reply.destination_port = nat->port;
	if (packet->flags & PACKET_ECHO)
		reply.source_port = nat->port;
	/* The way back can be evicted by itself. */
	back = nat_find(&reply);
	if (!back || !nat_is_for(back, &key.source, key.source_port))
		return 0;
	nat_touch(nat, key.protocol, packet->tcp_flags);
	nat_touch(back, key.protocol, packet->tcp_flags);
	error = packet_rewrite(skb, packet, END_SOURCE, &reply.destination, nat->port);
	return error ? error : 1;
}

/*
 * Gives a new flow this address, keeping its port if it is free. The host's own flows (own) take their port the same way. Returns 0 or
 * -reason.
 */
__global int nat_begin(struct __sk_buff *skb, struct packet *packet, const struct config *config, const struct inet *address, int own)
{
	struct tuple key, reply;
	int error;

	if (!packet || !config || !address)
		return -REASON_INVALID_PACKET;
	key = packet->tuple;
	key.direction = DIRECTION_EGRESS;
	nat_reply(packet, address, &reply);
	if (inet_is_zero(address))
		return -REASON_NAT_NO_MAPPING;
	error = nat_allocate(skb, config, packet, &reply, own);
	if (error)
		return error;
	struct nat to_node = {
		.expires = bpf_ktime_get_coarse_ns() + nat_lifetime(key.protocol, packet->tcp_flags, 0),
		.address = reply.destination,
		.port = reply.destination_port,
		.ifindex = skb->ifindex,
	};
	if (bpf_map_update_elem(&ax_nat, &key, &to_node, BPF_ANY))
		return -REASON_CT_NO_SPACE;
	return packet_rewrite(skb, packet, END_SOURCE, &to_node.address, to_node.port);
}

/* Gives a reply whom it is for: a pod, somebody outside, or the host itself. Returns 1 if it did, 0 if nobody is known, or -reason. */
static __noinline int nat_restore(struct __sk_buff *skb, struct packet *packet)
{
	struct tuple key = packet->tuple;
	struct inet address;
	struct nat *nat;
	int error;

	key.direction = DIRECTION_INGRESS;
	nat = nat_find(&key);
	if (!nat)
		return 0;
	nat_touch(nat, key.protocol, packet->tcp_flags);
	if (nat_is_for(nat, &key.destination, key.destination_port))
		return 1;
	address = nat->address;
	error = packet_rewrite(skb, packet, END_DESTINATION, &address, nat->port);
	return error ? error : 1;
}

/*
 * Translates an ICMP error about a translated flow, with the packet that it quotes: out (a pod complains about a reply) or in (a
 * router complains about a pod's packet). Returns 1 if it did, 0 if the flow is not translated, or -reason.
 */
__global int nat_translate_error(struct __sk_buff *skb, struct packet *packet, enum direction direction)
{
	int out = direction == DIRECTION_EGRESS, offset, error;
	struct rewrite rewrite = {.end = out ? END_DESTINATION : END_SOURCE};
	struct tuple key = {};
	struct nat *nat;

	if (!packet)
		return -REASON_INVALID_PACKET;
	offset = packet_related(skb, packet, &key);
	if (offset < 0)
		return offset;
	key.direction = direction;
	nat = nat_find(&key);
	/* The error goes the same way as a packet of the flow, what it quotes went the other way. */
	rewrite.old_address = out ? key.source : key.destination;
	rewrite.old_port = out ? key.source_port : key.destination_port;
	if (!nat || nat_is_for(nat, &rewrite.old_address, rewrite.old_port))
		return 0;
	rewrite.address = nat->address;
	rewrite.port = nat->port;
	rewrite.echo = protocol_echoes(key.protocol);
	error = related_rewrite(skb, packet, offset, &rewrite);
	return error ? error : 1;
}
