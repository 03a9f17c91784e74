/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Policy: rows as the operator compiled them, and how a verdict comes out of them. */
#pragma once

#include <bpf.h>
#include "address.h"
#include "identity.h"
#include "inet.h"

enum action : __u8 {
	ACTION_NONE = 0,
	ACTION_ALLOW = 1,
	ACTION_DENY = 2,
	/* This tier has no opinion, whatever its later rules say; the next tier decides. */
	ACTION_PASS = 3,
};

enum tier : __u8 {
	TIER_ADMIN = 0,
	TIER_NORMAL = 1,
	TIER_BASELINE = 2,
	TIERS = 3,
};

/* Peers that are no identities. */
enum policy_peer : __u32 {
	/* Rows for whoever is in a scope and not listed by identity. */
	PEER_ANY_POD = 0xF0000001,
	PEER_ANY_NODE = 0xF0000002,
	PEER_ANY_WORLD = 0xF0000003,
	/* Or-ed to the number of a CIDR class. */
	PEER_CLASS = 0x80000000,
};

enum policy_flags : __u32 {
	/* What no tier allows is denied. */
	POLICY_ENFORCE_INGRESS = 1 << 0,
	POLICY_ENFORCE_EGRESS = 1 << 1,
};

struct policy {
	__u32 slot;
	/* Drawn from ax_generation, never 0 and never repeated. A cached verdict of another generation is void. */
	__u32 generation;
	enum policy_flags flags;
	/* The policies that isolate the pod: what a drop without a matching rule is blamed on. */
	__u32 ingress_cookie;
	__u32 egress_cookie;
	__u32 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct policy);
} ax_policies SEC(".maps");

/* The node-wide counter of generations. Kept in a map so that it survives the daemon; programs never read it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ax_generation SEC(".maps");

/* Prefix lengths of a rule: any protocol; one protocol and any port; up to one port. */
#define RULE_ANY_PROTOCOL_BITS 72
#define RULE_PROTOCOL_BITS 80
#define RULE_FULL_BITS 96

struct policy_rule_key {
	__u32 prefixlen;
	__u32 slot;
	__u32 peer;
	enum direction direction;
	__u8 protocol;
	__be16 port;
};

struct tier_verdict {
	/* Lower comes first. */
	__u32 order;
	/* The policy that made this row, for people. */
	__u32 cookie;
	enum action action;
	__u8 reserved0;
	__u16 reserved1;
};

/* The longest prefix is complete: wider rows of the same peer are merged into it. */
struct verdicts {
	struct tier_verdict tiers[TIERS];
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_rule_key);
	__type(value, struct verdicts);
} ax_policy_rules SEC(".maps");

/* Bits of a class key before the address. */
#define CLASS_STATIC_BITS 64

struct policy_class_key {
	/* CLASS_STATIC_BITS + length of the prefix. */
	__u32 prefixlen;
	__u32 slot;
	enum direction direction;
	enum family family;
	__u16 reserved;
	struct inet address;
};

/* Class numbers without PEER_CLASS; 0: none. */
struct policy_class {
	__u32 if_pod;
	__u32 if_node;
	__u32 if_world;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_class_key);
	__type(value, struct policy_class);
} ax_policy_classes SEC(".maps");
