/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Masquerading: pods leave the node with the node's address. */
#pragma once

#include <bpf.h>
#include "inet.h"

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
	__u16 reserved0;
	__u32 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct nat);
} ax_nat SEC(".maps");
