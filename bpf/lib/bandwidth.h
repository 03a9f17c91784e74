/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How fast an endpoint may send and get. */
#pragma once

#include <bpf.h>
#include "inet.h"

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
