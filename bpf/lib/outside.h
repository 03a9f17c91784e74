/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Services for clients outside of the cluster, whose packets come by an uplink. A backend of this node sees its client's address. To others
 * the packet goes with an address and port of this node, so that what they answer comes back here.
 *
 * The service entry says which backend a flow has. The ingress entry, of the flow as the backend knows it, says what the client asked for:
 * it undoes the service in what leaves. Where a client reaches one backend with one port through several frontends, all flows but the
 * first get another port.
 */
#pragma once

#include <bpf.h>
#include "address.h"
#include "balance.h"
#include "config.h"
#include "conntrack.h"
#include "forward.h"
#include "identity.h"
#include "nat.h"
#include "packet.h"
#include "rewrite.h"
#include "service.h"
#include "tunnel.h"

/* How many ports are tried before a flow is refused. */
#define OUTSIDE_PROBES 8
#define OUTSIDE_PORT_MIN 1024

/* A backend, and the port by which it knows the client. */
struct outside_choice {
	struct inet address;
	__be16 port;
	__be16 client_port;
};

/* What a client outside gets at a packet's destination, or NULL. node: it is an address of this node. *here: backends of others do not count. */
static __inline const struct service *outside_find(const struct packet *packet, int node, int *here)
{
	const struct tuple *tuple = &packet->tuple;
	const struct service *service, *apart;

	if (!service_protocol(tuple->protocol))
		return 0;
	service = service_at(&tuple->destination, tuple->destination_port, tuple->protocol, tuple->family, node);
	if (!service || !(service->flags & SERVICE_FLAGS_OUTSIDE))
		return 0;
	if (!(service->flags & SERVICE_FLAGS_APART))
		return service;
	apart = service_at(&tuple->destination, tuple->destination_port, tuple->protocol | SERVICE_APART, tuple->family, node);
	/* Not written yet. */
	if (!apart)
		return service;
	*here = service->backends != 0;
	return apart;
}

/* Whether an ingress entry is of the flow that a packet to a frontend belongs to. */
static __inline int outside_is_of(const struct ct *ct, const struct packet *packet)
{
	return ct->service && ct->client_port == packet->tuple.source_port && ct->service_port == packet->tuple.destination_port &&
	       inet_equal(&ct->service_address, &packet->tuple.destination);
}

/* The port by which a chosen backend is to know the client: its own, unless it knows another flow of the client by that. 0: none is free. */
static __noinline __be16 outside_port(const struct packet *packet, const struct ct *chosen)
{
	struct tuple key = packet->tuple;
	const struct ct *ct;

	key.destination = chosen->service_address;
	key.destination_port = chosen->service_port;
	key.direction = DIRECTION_INGRESS;
	for (int i = 0; i < OUTSIDE_PROBES; i++) {
		ct = ct_find(&key);
		if (!ct || outside_is_of(ct, packet) || ct_is_closed(ct))
			return key.source_port;
		key.source_port = be16((__u16)(OUTSIDE_PORT_MIN + bpf_get_prandom_u32() % (0x10000 - OUTSIDE_PORT_MIN)));
	}
	return 0;
}

/* Returns 0 or -reason. */
__global int outside_choose(const struct packet *packet, const struct service *service, struct outside_choice *choice)
{
	struct ct new = {}, *ct;
	struct tuple key;
	int error;

	if (!packet || !service || !choice)
		return -REASON_INVALID_PACKET;
	key = packet->tuple;
	key.direction = DIRECTION_SERVICE;
	ct = balance_known(packet, &key, service);
	if (!ct) {
		error = balance_begin(packet, service, &new);
		if (error)
			return error;
		new.client_port = outside_port(packet, &new);
		if (!new.client_port)
			return -REASON_NAT_NO_PORT;
		error = ct_create(&key, &new, packet->tcp_flags);
		if (error)
			return error;
		ct = &new;
	}
	choice->address = ct->service_address;
	choice->port = ct->service_port;
	choice->client_port = ct->client_port;
	return 0;
}

/* Turns a packet to a frontend into one to a backend. Returns 0 or -reason. */
static __noinline int outside_translate(struct __sk_buff *skb, struct packet *packet, __u32 service, const struct outside_choice *choice)
{
	struct inet client = packet->tuple.source;
	int error;

	packet->service = service;
	packet->frontend = packet->tuple.destination;
	packet->frontend_port = packet->tuple.destination_port;
	packet->client_port = packet->tuple.source_port;
	error = packet_rewrite(skb, packet, END_DESTINATION, &choice->address, choice->port);
	if (error || choice->client_port == packet->client_port)
		return error;
	return packet_rewrite(skb, packet, END_SOURCE, &client, choice->client_port);
}

/* Enters the flow of a translated packet that nobody judges here, or not yet. Returns 0 or -reason. */
static __noinline int outside_enter(const struct packet *packet)
{
	struct tuple key = packet->tuple;
	struct ct *ct, new = {
		.generation = CT_UNJUDGED,
		.peer_identity = packet->source_identity,
		.service = packet->service,
		.service_address = packet->frontend,
		.service_port = packet->frontend_port,
		.client_port = packet->client_port,
	};

	key.direction = DIRECTION_INGRESS;
	ct = ct_find(&key);
	if (!ct || !ct->service || ((packet->tcp_flags & TCP_SYN) && ct_is_closed(ct)))
		return ct_create(&key, &new, packet->tcp_flags);
	ct_touch(ct, key.protocol, packet->tcp_flags, CT_ORIGINAL);
	return 0;
}

/* Sends a packet on to a backend that is not of this node. row: whose it is, if anybody's. Returns a tc action or -reason. */
__global int outside_forward(struct __sk_buff *skb, struct packet *packet, const struct config *config, const struct address *row)
{
	int done;

	if (!packet || !config)
		return -REASON_INVALID_PACKET;
	if (address_kind(row) == ADDRESS_POD && !(config->flags & CONFIG_NATIVE_ROUTING))
		return tunnel_send(skb, packet, config, row, IDENTITY_WORLD);
	skb->mark = MARK_TRANSLATED;
	done = forward_is_direct(row, packet) ? forward_direct(skb, packet, row) : forward_routed(skb, packet);
	/* The stack would take it for a lie: it has an address of this node. */
	return done == TC_ACT_OK ? -REASON_NO_ROUTE : done;
}

/* The same, for what begins or goes on: with an address and a port of this node. Returns a tc action or -reason. */
static __noinline int outside_masquerade(struct __sk_buff *skb, struct packet *packet, const struct config *config,
					 const struct address *row)
{
	const struct inet *address = config_address(config, packet->tuple.family);
	int error;

	error = outside_enter(packet);
	if (error)
		return error;
	error = nat_continue(skb, packet, address);
	if (!error)
		error = nat_begin(skb, packet, config, address, 0);
	return error < 0 ? error : outside_forward(skb, packet, config, row);
}

/*
 * Turns what an ICMP error quotes, whose transport header is at l4, into what the one knows who gets it: the other side of the entry with
 * this key, of a flow of a client outside. end: which end of the quoted packet the service is at. Returns 1 if it did, 0 if there is no
 * such entry, or -reason.
 */
static __noinline int outside_quote(struct __sk_buff *skb, struct packet *packet, __u32 l4, const struct tuple *key, enum end end)
{
	struct rewrite rewrite = {.end = end, .old_address = key->destination, .old_port = key->destination_port};
	const struct ct *ct = ct_find(key);
	int error;

	if (!ct || !ct->client_port)
		return 0;
	rewrite.address = ct->service_address;
	rewrite.port = ct->service_port;
	error = related_rewrite(skb, packet, l4, &rewrite);
	if (error || ct->client_port == key->source_port)
		return error ? error : 1;
	rewrite.end = end == END_SOURCE ? END_DESTINATION : END_SOURCE;
	rewrite.old_address = rewrite.address = key->source;
	rewrite.old_port = key->source_port;
	rewrite.port = ct->client_port;
	error = related_rewrite(skb, packet, l4, &rewrite);
	return error ? error : 1;
}

/*
 * What leaves for somebody outside: where it answers a flow that was opened from there, or complains about one, it comes from the service
 * that was asked, if any was. Returns 1 if there is such a flow, 0 if there is none, or -reason.
 */
__global int outside_answer(struct __sk_buff *skb, struct packet *packet)
{
	struct inet address;
	struct tuple key;
	int error, l4 = 0;
	struct ct *ct;

	if (!packet)
		return -REASON_INVALID_PACKET;
	key = packet->tuple;
	if (packet->flags & PACKET_ICMP_ERROR) {
		l4 = packet_related(skb, packet, &key);
		if (l4 < 0)
			return 0;
	}
	tuple_reverse(&key);
	key.direction = DIRECTION_INGRESS;
	ct = ct_find(&key);
	if (!ct || !ct->service)
		return ct != 0;
	if (l4)
		return outside_quote(skb, packet, l4, &key, END_DESTINATION);
	ct_touch(ct, key.protocol, packet->tcp_flags, CT_REPLY);
	address = ct->service_address;
	error = packet_rewrite(skb, packet, END_SOURCE, &address, ct->service_port);
	if (!error && ct->client_port != key.source_port)
		error = packet_rewrite(skb, packet, END_DESTINATION, &key.source, ct->client_port);
	return error ? error : 1;
}

/* What a backend of another node answers a client outside, whose address it has again. Returns a tc action or -reason. */
static __inline int outside_return(struct __sk_buff *skb, struct packet *packet)
{
	int done = outside_answer(skb, packet);

	if (done <= 0)
		return done ? done : -REASON_NO_ENDPOINT;
	skb->mark = MARK_TRANSLATED;
	done = forward_routed(skb, packet);
	return done == TC_ACT_OK ? -REASON_NO_ROUTE : done;
}

/*
 * Somebody outside complains about what a service answered: what is quoted came from the backend, and that is who is to hear of it.
 * Returns 1 if it is such a complaint, 0 if not, or -reason.
 */
__global int outside_error(struct __sk_buff *skb, struct packet *packet)
{
	struct tuple key = {};
	int l4;

	if (!packet)
		return -REASON_INVALID_PACKET;
	l4 = packet_related(skb, packet, &key);
	if (l4 < 0)
		return 0;
	key.direction = DIRECTION_SERVICE;
	return outside_quote(skb, packet, l4, &key, END_SOURCE);
}
