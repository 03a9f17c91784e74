/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The node's own pods, by the interface that the host sees. */
#pragma once

#include <bpf.h>
#include "identity.h"
#include "inet.h"

enum endpoint_flags : __u32 {
	ENDPOINT_NONE = 0,
	/* ax_bandwidth has a limit for what the pod sends. */
	ENDPOINT_EGRESS_LIMITED = 1 << 0,
	/* ax_bandwidth has a limit for what the pod gets. */
	ENDPOINT_INGRESS_LIMITED = 1 << 1,
	/* Another CNI plugin made the device: programs judge, its owner and the stack deliver. */
	ENDPOINT_CHAINED = 1 << 2,
};

/* As an Ethernet header has them: destination, source. Words, so that they are copied as words. */
struct macs {
	__u32 words[3];
} __attribute__((packed, aligned(2)));

struct endpoint {
	__u32 identity;
	/* Index into ax_policies; 0 is the closed policy. */
	__u32 policy;
	/* Node-local number, as in CiliumEndpoint's status. */
	__u32 id;
	enum endpoint_flags flags;
	/* Zero: the pod has no address in this family. */
	struct inet ipv4;
	struct inet ipv6;
	/* One after the other as what is delivered to the pod has them. */
	__u8 pod_mac[6];
	__u8 host_mac[6];
	__u32 reserved[5];
};

/* Key: ifindex of the host-side veth. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} ax_endpoints SEC(".maps");

static __inline struct endpoint *endpoint_find(__u32 ifindex)
{
	return bpf_map_lookup_elem(&ax_endpoints, &ifindex);
}

static __inline int endpoint_owns(const struct endpoint *endpoint, const struct inet *address, enum family family)
{
	return inet_equal(address, family == FAMILY_IPV4 ? &endpoint->ipv4 : &endpoint->ipv6);
}

static __inline const struct macs *endpoint_macs(const struct endpoint *endpoint)
{
	return (const struct macs *)endpoint->pod_mac;
}

/*
 * Whether what the stack has with an endpoint's address is from that endpoint, and not from somebody whose network lets it lie. A chained
 * one's device may be a bridge's port, which hides it: from_pod has put its word on the packet. What the host itself makes is believed.
 */
static __inline int endpoint_sent(const struct __sk_buff *skb, const struct endpoint *endpoint, __u32 ifindex)
{
	if (!skb->ingress_ifindex || skb->ingress_ifindex == ifindex)
		return 1;
	return (endpoint->flags & ENDPOINT_CHAINED) && identity_is_marked(skb->mark) &&
	       identity_of_mark(skb->mark) == endpoint->identity;
}
