/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs know about their node. */
#pragma once

#include <bpf.h>
#include "inet.h"

enum config_flags : __u32 {
	/* Pod to pod across nodes: routed by the underlay when set, VXLAN when not. */
	CONFIG_NATIVE_ROUTING = 1 << 0,
	/* Pods' connections to addresses outside the cluster leave with the node's address. */
	CONFIG_MASQUERADE_IPV4 = 1 << 1,
	CONFIG_MASQUERADE_IPV6 = 1 << 2,
	/* ax_no_masquerade has entries. */
	CONFIG_EXCLUSIONS = 1 << 3,
	/* ax_uplinks has entries. */
	CONFIG_UPLINKS = 1 << 4,
	/* Flows that a policy's rule lets begin are told of. */
	CONFIG_VERDICTS = 1 << 5,
};

/* An unwritten configuration (tunnel_ifindex 0 in VXLAN mode, no node address) drops what would need it. */
struct config {
	enum config_flags flags;
	__u32 tunnel_ifindex;
	__u32 uplink_ifindex;
	__u32 uplink_mtu;
	__be16 tunnel_port;
	/* Ports that masquerading may use, inclusive, host order. The host's own flows in this range are tracked as well. */
	__u16 nat_port_min;
	__u16 nat_port_max;
	__u16 reserved0;
	/*
	 * The node's addresses, by which the cluster knows it: tunnel packets leave with them, and masqueraded ones where the device
	 * has none of its own. Zero: none in this family.
	 */
	struct inet node_ipv4;
	struct inet node_ipv6;
	/* What fits through the way to other nodes' pods, without Ethernet header and before encapsulation. 0: not known yet. */
	__u32 pod_mtu;
	__u32 reserved[7];
};

static __inline int config_masquerades(const struct config *config, enum family family)
{
	return config->flags & (family == FAMILY_IPV4 ? CONFIG_MASQUERADE_IPV4 : CONFIG_MASQUERADE_IPV6);
}

/* Where pods are tunnelled and masqueraded, none of another node comes plain. */
static __inline int config_tunnels_all(const struct config *config, enum family family)
{
	return !(config->flags & CONFIG_NATIVE_ROUTING) && config_masquerades(config, family);
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} ax_config SEC(".maps");

static __inline struct config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ax_config, &zero);
}

/* The node's address in a family. */
static __inline const struct inet *config_address(const struct config *config, enum family family)
{
	return family == FAMILY_IPV4 ? &config->node_ipv4 : &config->node_ipv6;
}
