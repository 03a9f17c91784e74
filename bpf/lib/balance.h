/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Service translation of packets: what bypassed the sockets' translation. */
#pragma once

#include <bpf.h>
#include "affinity.h"
#include "conntrack.h"
#include "packet.h"
#include "rewrite.h"
#include "service.h"

/*
 * Stands in for a pod that reaches itself through a service: without it, the pod would answer itself directly and the answer
 * would not be translated back. Nobody else can have these addresses.
 */
#define HAIRPIN_IPV4 be32(0xa9fe2a01) /* 169.254.42.1 */
#define HAIRPIN_IPV6 {be32(0xfd616e78), be32(0x6f6e656d), 0, be32(1)}

static __inline struct inet hairpin_address(enum family family)
{
	if (family == FAMILY_IPV4)
		return (struct inet){.words = {HAIRPIN_IPV4}};
	return (struct inet){.words = HAIRPIN_IPV6};
}

/* The service entry of a flow, if the backend in it still counts; else NULL. */
static __noinline struct ct *balance_known(const struct packet *packet, const struct tuple *key, const struct service *service)
{
	int opens = key->protocol == IPPROTO_UDP || (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	struct ct *ct = ct_find(key);

	if (!ct)
		return 0;
	if (opens && (ct->service != service->id || ct->service_revision != service->revision)) {
		struct inet known = ct->service_address;

		if (ct->service != service->id || service_index(service, &known, ct->service_port, 0) < 0)
			return 0;
		ct->service_revision = service->revision;
	}
	/* Only one direction is seen here, which is enough to know that a connection lives. */
	ct_touch(ct, key->protocol, packet->tcp_flags & (TCP_SYN | TCP_RST), CT_ORIGINAL);
	return ct;
}

/* Chooses a backend for a flow: fills in its service entry, which is zeroed. Returns 0 or -reason. */
static __noinline int balance_begin(const struct packet *packet, const struct service *service, struct ct *new)
{
	enum family family = packet->tuple.family;
	struct backend *backend;

	backend = affinity_backend(service, &packet->tuple.source, family, CLIENT_ADDRESS, bpf_get_prandom_u32());
	if (!backend || backend->family != family)
		return -REASON_NO_SERVICE_BACKEND;
	new->service = service->id;
	new->service_revision = service->revision;
	new->service_address = backend->address;
	new->service_port = backend->port;
	new->flags = CT_REPLIED;
	return 0;
}

/* The flow's backend, chosen at its first packet. Returns 0 or -reason. */
static __noinline int balance_choose(const struct packet *packet, const struct service *service, struct inet *address,
				     __be16 *port)
{
	struct tuple key = packet->tuple;
	struct ct new = {}, *ct;
	int error;

	key.direction = DIRECTION_SERVICE;
	ct = balance_known(packet, &key, service);
	if (ct) {
		*address = ct->service_address;
		*port = ct->service_port;
		return 0;
	}
	error = balance_begin(packet, service, &new);
	if (error)
		return error;
	*address = new.service_address;
	*port = new.service_port;
	return ct_create(&key, &new, packet->tcp_flags);
}

/*
 * A client complains about what a service answered: what it quotes came from the backend, and that is who is to hear of it.
 * Returns 0 or -reason.
 */
static __noinline int balance_error(struct __sk_buff *skb, struct packet *packet)
{
	struct rewrite rewrite = {.end = END_SOURCE};
	struct tuple key = {};
	int offset = packet_related(skb, packet, &key);
	struct ct *ct;

	/* Judged without translation, which names the reason. */
	if (offset < 0)
		return 0;
	key.direction = DIRECTION_SERVICE;
	ct = ct_find(&key);
	if (!ct)
		return 0;
	rewrite.old_address = key.destination;
	rewrite.old_port = key.destination_port;
	rewrite.address = ct->service_address;
	rewrite.port = ct->service_port;
	return related_rewrite(skb, packet, offset, &rewrite);
}

/* Turns a packet to a frontend into one to a backend. row: whose its address is, if anybody's. Returns 0 or -reason. */
static __noinline int balance(struct __sk_buff *skb, struct packet *packet, const struct address *row)
{
	struct inet backend;
	struct service *service;
	__be16 port;
	int error;

	service = service_find(&packet->tuple.destination, packet->tuple.destination_port, packet->tuple.protocol,
			       packet->tuple.family, row);
	if (!service)
		return 0;
	error = balance_choose(packet, service, &backend, &port);
	if (error)
		return error;
	packet->service = service->id;
	packet->frontend = packet->tuple.destination;
	packet->frontend_port = packet->tuple.destination_port;
	return packet_rewrite(skb, packet, END_DESTINATION, &backend, port);
}

/*
 * A pod's packet to a service whose backend is the pod itself: policy has no say, one entry undoes both translations.
 * Returns 0 or -reason.
 */
static __noinline int hairpin_request(struct __sk_buff *skb, struct packet *packet)
{
	struct inet source = hairpin_address(packet->tuple.family);
	struct tuple key = packet->tuple;
	struct ct new = {
		.service = packet->service,
		.service_address = packet->frontend,
		.service_port = packet->frontend_port,
		.flags = CT_HAIRPIN,
	};
	struct ct *ct;
	int error;

	key.direction = DIRECTION_EGRESS;
	ct = ct_find(&key);
	if (ct && (ct->flags & CT_HAIRPIN) && ct->service == packet->service && !ct_is_closed(ct)) {
		ct_touch(ct, key.protocol, packet->tcp_flags, CT_ORIGINAL);
	} else {
		error = ct_create(&key, &new, packet->tcp_flags);
		if (error)
			return error;
	}
	return packet_rewrite(skb, packet, END_SOURCE, &source, packet->tuple.source_port);
}

/* The pod complains about its own packet, which came from the address that stands in for it. Returns 0 or -reason. */
static __noinline int hairpin_error(struct __sk_buff *skb, struct packet *packet)
{
	struct rewrite source = {.end = END_SOURCE}, destination = {.end = END_DESTINATION};
	struct tuple key = {};
	int error, offset = packet_related(skb, packet, &key);
	struct ct *ct;

	if (offset < 0)
		return offset;
	/* The pod as server and the stand-in as client; before translation both were the pod. */
	tuple_reverse(&key);
	source.old_address = key.source;
	key.source = key.destination;
	key.direction = DIRECTION_EGRESS;
	ct = ct_find(&key);
	if (!ct || !(ct->flags & CT_HAIRPIN))
		return -REASON_NO_ENDPOINT;
	source.address = key.source;
	source.old_port = source.port = key.source_port;
	destination.old_address = key.destination;
	destination.old_port = key.destination_port;
	destination.address = ct->service_address;
	destination.port = ct->service_port;
	error = related_rewrite(skb, packet, offset, &source);
	return error ? error : related_rewrite(skb, packet, offset, &destination);
}

/* The pod's answer to itself. Returns 0 or -reason. */
static __noinline int hairpin_reply(struct __sk_buff *skb, struct packet *packet)
{
	struct tuple key = packet->tuple;
	struct inet address;
	struct ct *ct;
	int error;

	/* The request as it was before its source was replaced. */
	tuple_reverse(&key);
	key.source = key.destination;
	key.direction = DIRECTION_EGRESS;
	ct = ct_find(&key);
	if (!ct || !(ct->flags & CT_HAIRPIN))
		return -REASON_NO_ENDPOINT;
	ct_touch(ct, key.protocol, packet->tcp_flags, CT_REPLY);
	address = key.source;
	error = packet_rewrite(skb, packet, END_DESTINATION, &address, packet->tuple.destination_port);
	if (error)
		return error;
	address = ct->service_address;
	return packet_rewrite(skb, packet, END_SOURCE, &address, ct->service_port);
}
