/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How fast an endpoint may send and get. */
#pragma once

#include <bpf.h>
#include "inet.h"
#include "metrics.h"
#include "packet.h"

struct bandwidth_key {
	/* Key in ax_endpoints. */
	__u32 ifindex;
	enum direction direction;
	__u8 reserved[3];
};

struct bandwidth {
	__u64 bytes_per_second;
	/* CLOCK_MONOTONIC in ns at which the line is free again. Written by programs only; 0 at first. */
	__u64 free_at;
	__u64 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct bandwidth_key);
	__type(value, struct bandwidth);
} ax_bandwidth SEC(".maps");

/*
 * How far ahead of the clock a line may be sold. There is no queue: what TCP sends beyond is thrown away, often all of it, and then TCP
 * is silent for at least 200 ms. What the line saves up meanwhile must be sellable at once, or TCP stays below its rate (with 50 ms
 * at 0.3 of it, with 250 ms at 1.0).
 */
#define BANDWIDTH_AHEAD (250 * 1000000ULL)
#define BANDWIDTH_AHEAD_BYTES (128 * 1024ULL)
/* How often a packet asks again when others took their place in the line meanwhile. */
#define BANDWIDTH_ATTEMPTS 4

/* Bytes of all segments with their headers. */
static __inline __u64 bandwidth_bytes(const struct __sk_buff *skb, const struct packet *packet)
{
	__u32 headers = packet->l4_offset + packet->l4_size;

	if (!skb->gso_size || skb->len <= headers)
		return skb->len;
	return skb->len + (skb->len - headers - 1) / skb->gso_size * (__u64)headers;
}

/*
 * Takes a packet's time on an endpoint's line. The limit is one number, when the line is free again: nobody fills a bucket, and CPUs
 * need no lock. Returns 0 or -reason.
 */
static __noinline int bandwidth_take(const struct __sk_buff *skb, const struct packet *packet, __u32 ifindex,
				     enum direction direction)
{
	struct bandwidth_key key = {.ifindex = ifindex, .direction = direction};
	struct bandwidth *limit = bpf_map_lookup_elem(&ax_bandwidth, &key);
	__u64 now, ahead, rate, cost, free_at;

	if (!limit)
		return 0;
	rate = *(volatile __u64 *)&limit->bytes_per_second;
	if (!rate)
		return 0;
	now = bpf_ktime_get_ns();
	cost = bandwidth_bytes(skb, packet) * 1000000000ULL / rate;
	ahead = BANDWIDTH_AHEAD_BYTES * 1000000000ULL / rate;
	if (ahead < BANDWIDTH_AHEAD)
		ahead = BANDWIDTH_AHEAD;
	for (int i = 0; i < BANDWIDTH_ATTEMPTS; i++) {
		__u64 known = *(volatile __u64 *)&limit->free_at;

		free_at = known > now ? known : now;
		if (free_at - now > ahead)
			return -REASON_BANDWIDTH_LIMIT;
		if (__sync_val_compare_and_swap(&limit->free_at, known, free_at + cost) == known)
			return 0;
	}
	/* So many at once that nobody counts one more or less. */
	__sync_fetch_and_add(&limit->free_at, cost);
	return 0;
}
