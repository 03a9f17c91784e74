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

/* An allowed packet may be dropped for another reason, which no policy is to blame for. */
static __inline __u32 event_cookie(const struct packet *packet, enum event_kind kind, enum reason reason)
{
	if (kind == EVENT_DROP && reason != REASON_POLICY_DENY && reason != REASON_POLICY_DEFAULT_DENY)
		return 0;
	return packet->cookie;
}

/* All but what is told of the packet. */
static __noinline void event_fill(struct event *event, const struct __sk_buff *skb, const struct packet *packet)
{
	*event = (struct event){
		.family = packet->tuple.family,
		.ifindex = skb->ifindex,
		.source_identity = packet->source_identity,
		.destination_identity = packet->destination_identity,
		.length = skb->len,
		.source = packet->tuple.source,
		.destination = packet->tuple.destination,
		.source_port = packet->tuple.source_port,
		.destination_port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
		.tcp_flags = packet->tcp_flags,
		.flags = packet->flags & PACKET_REPLY ? EVENT_REPLY : 0,
		.endpoint = packet->endpoint,
	};
}

/* Of a packet that passes, or of one that was dropped for a reason. Where the ring has no room, that is counted. */
static __noinline void event_send(struct __sk_buff *skb, const struct packet *packet, enum event_kind kind, enum reason reason,
				  enum direction direction)
{
	struct event *event;

	/* Of what is allowed there may be much: half of the room is kept for the rest. */
	if (kind == EVENT_ALLOW && bpf_ringbuf_query(&ax_events, BPF_RB_AVAIL_DATA) > EVENTS_SIZE / 2)
		event = 0;
	else
		event = bpf_ringbuf_reserve(&ax_events, sizeof(*event), 0);
	if (!event) {
		metrics_count(REASON_EVENT_LOST, direction, skb->len);
		return;
	}
	event_fill(event, skb, packet);
	event->kind = kind;
	event->reason = reason;
	event->direction = direction;
	event->cookie = event_cookie(packet, kind, reason);
	bpf_ringbuf_submit(event, 0);
}

static __noinline int drop(struct __sk_buff *skb, const struct packet *packet, enum reason reason, enum direction direction)
{
	metrics_count(reason, direction, skb->len);
	event_send(skb, packet, EVENT_DROP, reason, direction);
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
