/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who owns an address: exact rows first, then the cluster's prefixes, else the world. */
#pragma once

#include <bpf.h>
#include "identity.h"
#include "inet.h"

enum address_kind : __u8 {
	ADDRESS_WORLD = 0,
	/* A pod of this node: ifindex is its key in ax_endpoints, which alone says identity and MACs. */
	ADDRESS_ENDPOINT = 1,
	/* An address of this node (identity: host). */
	ADDRESS_HOST = 2,
	/* This node's own overlay address: what the host sends from towards other nodes' pods (identity: host). */
	ADDRESS_HOST_OVERLAY = 3,
	/* Another node's underlay address: the only valid outer source of tunnel packets (identity: remote-node). */
	ADDRESS_NODE = 4,
	/* Another node's overlay address (identity: remote-node). */
	ADDRESS_NODE_OVERLAY = 5,
	/* A pod of another node. In a prefix row: the pods of a node that are not listed one by one. */
	ADDRESS_POD = 6,
};

/* How a packet, or the tunnel's around it, gets to the node that owns an address. */
enum address_path : __u16 {
	/* The host's routes know, and the tunnel's device asks them. */
	PATH_ROUTED = 0,
	/* That node, which has the address `tunnel`, is a neighbour on the device `ifindex`. */
	PATH_DIRECT = 1,
};

struct address_key {
	struct inet address;
	enum family family;
	__u8 reserved[3];
};

struct address {
	/* Ignored for ADDRESS_ENDPOINT. IDENTITY_UNKNOWN: only the any-row of its scope applies. */
	__u32 identity;
	enum address_kind kind;
	enum family tunnel_family;
	enum address_path path;
	/* ADDRESS_ENDPOINT: key in ax_endpoints. PATH_DIRECT: the uplink. Else 0. */
	__u32 ifindex;
	/* Underlay address of the node that owns it; for ADDRESS_POD and ADDRESS_NODE_OVERLAY. */
	struct inet tunnel;
	__u32 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, struct address);
} ax_addresses SEC(".maps");

/* Bits of an LPM key before the address. */
#define CIDR_STATIC_BITS 32

struct cidr_key {
	/* CIDR_STATIC_BITS + length of the prefix. */
	__u32 prefixlen;
	enum family family;
	__u8 reserved[3];
	struct inet address;
};

/* kind: ADDRESS_POD (a node's pod CIDR) or ADDRESS_NODE (a CIDR of nodes). */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct cidr_key);
	__type(value, struct address);
} ax_cidrs SEC(".maps");

/* Which any-row and which column of a CIDR class holds for a peer. */
enum scope : __u8 {
	SCOPE_WORLD = 0,
	SCOPE_NODE = 1,
	SCOPE_POD = 2,
};

/* The other end of a flow, as policy sees it. */
struct peer {
	__u32 identity;
	enum scope scope;
};

/* NULL: not listed. */
static __noinline struct address *address_exact(const struct inet *address, enum family family)
{
	struct address_key key = {.address = *address, .family = family};

	return bpf_map_lookup_elem(&ax_addresses, &key);
}

/* Asks for the longest prefix that holds an address. */
static __inline struct cidr_key cidr_key(const struct inet *address, enum family family)
{
	return (struct cidr_key){
		.prefixlen = CIDR_STATIC_BITS + (family == FAMILY_IPV4 ? 32 : 128),
		.family = family,
		.address = *address,
	};
}

/* NULL: the world. */
static __noinline struct address *address_prefix(const struct inet *address, enum family family)
{
	struct cidr_key key = cidr_key(address, family);

	return bpf_map_lookup_elem(&ax_cidrs, &key);
}

/* NULL: the world. */
static __inline struct address *address_find(const struct inet *address, enum family family)
{
	struct address *row = address_exact(address, family);

	return row ? row : address_prefix(address, family);
}

static __inline enum address_kind address_kind(const struct address *row)
{
	return row ? row->kind : ADDRESS_WORLD;
}

/* An address of this node's own host. */
static __inline int address_is_host(enum address_kind kind)
{
	return kind == ADDRESS_HOST || kind == ADDRESS_HOST_OVERLAY;
}

/* Whom policy sees behind an address that is no local endpoint. */
static __inline struct peer address_peer(const struct address *row)
{
	struct peer peer = {.identity = IDENTITY_WORLD, .scope = SCOPE_WORLD};

	if (row) {
		peer.identity = row->identity;
		peer.scope = row->kind == ADDRESS_POD ? SCOPE_POD : SCOPE_NODE;
	}
	return peer;
}
