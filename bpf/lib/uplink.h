/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Devices of the underlay whose own addresses are not the node's: what pods' packets leave with there. */
#pragma once

#include <bpf.h>
#include "config.h"
#include "inet.h"

struct uplink {
	/* Zero: the device has none of its own in this family. */
	struct inet ipv4;
	struct inet ipv6;
	__u32 reserved[4];
};

/* Looked up only with CONFIG_UPLINKS. Key: ifindex. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct uplink);
} ax_uplinks SEC(".maps");

/* The address that masqueraded packets get on a device: its own, else the node's. Zero: there is none in this family. */
static __inline struct inet uplink_address(const struct config *config, __u32 ifindex, enum family family)
{
	const struct uplink *uplink;
	const struct inet *own;

	if (config->flags & CONFIG_UPLINKS) {
		uplink = bpf_map_lookup_elem(&ax_uplinks, &ifindex);
		if (uplink) {
			own = family == FAMILY_IPV4 ? &uplink->ipv4 : &uplink->ipv6;
			if (!inet_is_zero(own))
				return *own;
		}
	}
	return *config_address(config, family);
}
