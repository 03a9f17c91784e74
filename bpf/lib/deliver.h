/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The last hop: into a pod of this node, past the host's stack. */
#pragma once

#include <bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "admit.h"
#include "bandwidth.h"
#include "endpoint.h"
#include "packet.h"
#include "rewrite.h"

/* Returns a tc action or -reason. */
static __inline int deliver_unjudged(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint, __u32 ifindex)
{
	int error;

	/* Who made the device knows how to get there. */
	if (endpoint->flags & ENDPOINT_CHAINED)
		return TC_ACT_OK;
	if (endpoint->flags & ENDPOINT_INGRESS_LIMITED) {
		error = bandwidth_take(skb, packet, ifindex, DIRECTION_INGRESS);
		if (error)
			return error;
	}
	error = packet_route(skb, packet, endpoint_macs(endpoint));
	if (error)
		return error;
	/* What was not addressed to this host's MAC would be thrown away by the pod. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(ifindex, 0);
}

/*
 * Nothing that hangs on the pod's device sees the packet, so ingress is judged here, but for chained pods, which to_pod judges.
 * Returns a tc action or -reason.
 */
static __inline int deliver(struct __sk_buff *skb, struct packet *packet, const struct endpoint *endpoint, __u32 ifindex,
			    const struct peer *peer)
{
	int verdict;

	packet->destination_identity = endpoint->identity;
	if (endpoint->flags & ENDPOINT_CHAINED)
		return TC_ACT_OK;
	verdict = admit(skb, packet, endpoint, peer, DIRECTION_INGRESS);
	if (verdict < 0)
		return verdict;
	return deliver_unjudged(skb, packet, endpoint, ifindex);
}
