/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one way out: every packet is counted, every dropped one is told of. */
#pragma once

#include <bpf.h>
#include <linux/pkt_cls.h>
#include "event.h"
#include "metrics.h"
#include "packet.h"

static __inline void metrics_count(enum reason reason, enum direction direction, __u32 bytes)
{
	__u32 index = metrics_index(reason, direction);
	struct metrics *metrics = bpf_map_lookup_elem(&ax_metrics, &index);

	if (metrics) {
		metrics->packets++;
		metrics->bytes += bytes;
	}
}

static __noinline void event_fill(struct event *event, const struct __sk_buff *skb, const struct packet *packet,
				  enum reason reason, enum direction direction)
{
	*event = (struct event){
		.kind = EVENT_DROP,
		.reason = reason,
		.direction = direction,
		.family = packet->tuple.family,
		.ifindex = skb->ifindex,
		.source_identity = packet->source_identity,
		.destination_identity = packet->destination_identity,
		.cookie = packet->cookie,
		.length = skb->len,
		.source = packet->tuple.source,
		.destination = packet->tuple.destination,
		.source_port = packet->tuple.source_port,
		.destination_port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
		.tcp_flags = packet->tcp_flags,
		.endpoint = packet->endpoint,
	};
}

static __noinline int drop(struct __sk_buff *skb, const struct packet *packet, enum reason reason, enum direction direction)
{
	struct event *event = bpf_ringbuf_reserve(&ax_events, sizeof(*event), 0);

	metrics_count(reason, direction, skb->len);
	if (!event) {
		metrics_count(REASON_EVENT_LOST, direction, skb->len);
		return TC_ACT_SHOT;
	}
	event_fill(event, skb, packet, reason, direction);
	bpf_ringbuf_submit(event, 0);
	return TC_ACT_SHOT;
}

/* verdict: a tc action, or -reason. */
static __inline int finish(struct __sk_buff *skb, const struct packet *packet, int verdict, enum direction direction)
{
	if (verdict < 0)
		return drop(skb, packet, -verdict, direction);
	metrics_count(REASON_FORWARDED, direction, skb->len);
	return verdict;
}
