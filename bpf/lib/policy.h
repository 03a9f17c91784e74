/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Policy: rows as the operator compiled them, and how a verdict comes out of them. */
#pragma once

#include <bpf.h>
#include "address.h"
#include "identity.h"
#include "inet.h"
#include "metrics.h"

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
	/* Some policies only audit: there are audited rows. */
	POLICY_AUDITS = 1 << 2,
	/* What no tier of the audited rows allows would be denied. */
	POLICY_AUDIT_INGRESS = 1 << 3,
	POLICY_AUDIT_EGRESS = 1 << 4,
};

struct policy {
	__u32 slot;
	enum policy_flags flags;
	/* The policies that isolate the pod: what a drop without a matching rule is blamed on. */
	__u32 ingress_cookie;
	__u32 egress_cookie;
	/*
	 * Drawn from ax_generation, never repeated. A cached verdict of another generation is void. 0: never written.
	 * Behind the other fields, because a writer copies upwards and a reader begins here: who sees a new generation sees all.
	 */
	__u32 generation;
	/* The policies that would isolate the pod. */
	__u32 audited_ingress_cookie;
	__u32 audited_egress_cookie;
	__u32 reserved;
};

/* Indexes into ax_policies that have a meaning. */
enum policy_index : __u32 {
	/* Of endpoints of which no policy is known. */
	POLICY_INDEX_CLOSED = 0,
	/* The node's own. Generation 0: it has none, and is open. */
	POLICY_INDEX_HOST = 4095,
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
	enum policy_peer peer;
	enum direction direction;
	__u8 protocol;
	__be16 port;
};

struct tier_verdict {
	/* Lower comes first. */
	__u32 order;
	/* The rule of a policy that made this row, for people. */
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

/* NULL: no row of this peer covers the packet. */
static __inline struct verdicts *policy_row(struct policy_rule_key *key, enum policy_peer peer)
{
	key->peer = peer;
	return bpf_map_lookup_elem(&ax_policy_rules, key);
}

/* What a packet asks a policy. */
struct question {
	/* The endpoint's own direction: ingress when the peer opened the flow. */
	enum direction direction;
	enum family family;
	__u8 protocol;
	__u8 reserved;
	/* Of the flow's destination; the type of an ICMP message; 0 for other protocols without ports. */
	__be16 port;
	__u16 reserved1;
	struct peer peer;
	struct inet address;
};

static __inline enum policy_peer policy_any(enum scope scope)
{
	return scope == SCOPE_POD ? PEER_ANY_POD : scope == SCOPE_NODE ? PEER_ANY_NODE : PEER_ANY_WORLD;
}

/* The rows of the CIDR class that the peer's address is in, or NULL. */
static __inline struct verdicts *policy_class_row(const struct question *question, struct policy_rule_key *rule)
{
	struct policy_class_key key = {
		.prefixlen = CLASS_STATIC_BITS + (question->family == FAMILY_IPV4 ? 32 : 128),
		.slot = rule->slot,
		.direction = rule->direction,
		.family = question->family,
		.address = question->address,
	};
	struct policy_class *class = bpf_map_lookup_elem(&ax_policy_classes, &key);
	__u32 number;

	if (!class)
		return 0;
	number = question->peer.scope == SCOPE_POD    ? class->if_pod
		 : question->peer.scope == SCOPE_NODE ? class->if_node
						      : class->if_world;
	return number ? policy_row(rule, PEER_CLASS | number) : 0;
}

/* Of two rows in one tier the lower order counts; at the same order deny comes before allow before pass. */
static __noinline const struct tier_verdict *tier_merge(const struct verdicts *by_peer, const struct verdicts *by_class,
							enum tier tier)
{
	const struct tier_verdict *a = by_peer ? &by_peer->tiers[tier] : 0, *b = by_class ? &by_class->tiers[tier] : 0;

	if (!a || a->action == ACTION_NONE)
		return b;
	if (!b || b->action == ACTION_NONE)
		return a;
	if (a->order != b->order)
		return a->order < b->order ? a : b;
	if (a->action == ACTION_DENY || b->action == ACTION_DENY)
		return a->action == ACTION_DENY ? a : b;
	return a->action == ACTION_ALLOW ? a : b;
}

/*
 * What the rows of a direction (or of its audited twin) decide about a packet: ACTION_ALLOW or ACTION_DENY with *cookie naming the
 * rule, or ACTION_NONE.
 *
 * 1. Two rows speak: that of the peer's identity (else that of anyone in its scope), and that of its address's CIDR class.
 * 2. Tier by tier: allow and deny decide; pass, or nothing, asks the next tier.
 */
static __noinline enum action policy_ask(const struct question *question, __u32 slot, enum direction direction, __u32 *cookie)
{
	struct policy_rule_key key = {
		.prefixlen = RULE_FULL_BITS,
		.slot = slot,
		.direction = direction,
		.protocol = question->protocol,
		.port = question->port,
	};
	struct verdicts *by_peer = 0, *by_class;

	if (question->peer.identity != IDENTITY_UNKNOWN)
		by_peer = policy_row(&key, question->peer.identity);
	if (!by_peer)
		by_peer = policy_row(&key, policy_any(question->peer.scope));
	by_class = policy_class_row(question, &key);

	for (enum tier tier = TIER_ADMIN; tier < TIERS; tier++) {
		const struct tier_verdict *verdict = tier_merge(by_peer, by_class, tier);

		if (verdict && (verdict->action == ACTION_ALLOW || verdict->action == ACTION_DENY)) {
			*cookie = verdict->cookie;
			return verdict->action;
		}
	}
	return ACTION_NONE;
}

/* What a policy says of a packet. */
struct judgement {
	/* The rule that decides, or the policy that isolates the pod; 0: neither. */
	__u32 cookie;
	/* Why it would be dropped if policies that only audit were enforced, then the cookie is of those; 0: it would not. */
	enum reason audited;
};

/* What would drop a packet that passes. */
static __inline void policy_audit(const struct policy *policy, const struct question *question, struct judgement *judgement)
{
	int ingress = question->direction == DIRECTION_INGRESS;
	__u32 cookie = 0;
	enum action action =
		policy_ask(question, policy->slot, ingress ? DIRECTION_AUDITED_INGRESS : DIRECTION_AUDITED_EGRESS, &cookie);

	if (action == ACTION_ALLOW)
		return;
	if (action == ACTION_DENY) {
		judgement->audited = REASON_POLICY_DENY;
		judgement->cookie = cookie;
		return;
	}
	if (!(policy->flags & (ingress ? POLICY_AUDIT_INGRESS : POLICY_AUDIT_EGRESS)))
		return;
	judgement->audited = REASON_POLICY_DEFAULT_DENY;
	judgement->cookie = ingress ? policy->audited_ingress_cookie : policy->audited_egress_cookie;
}

/*
 * Whether a policy lets a flow begin: 0 or -reason.
 *
 * 1. The local host reaches local pods, always.
 * 2. A rule decides.
 * 3. If none does: denied if the policy isolates the pod in this direction.
 */
__global int policy_judge(const struct policy *policy, const struct question *question, struct judgement *judgement)
{
	enum action action;
	int ingress;

	if (!policy || !question || !judgement)
		return -REASON_INVALID_PACKET;
	*judgement = (struct judgement){};
	ingress = question->direction == DIRECTION_INGRESS;
	if (ingress && question->peer.identity == IDENTITY_HOST)
		return 0;
	/* Never written: closed. */
	if (!policy->generation)
		return -REASON_POLICY_DEFAULT_DENY;

	action = policy_ask(question, policy->slot, question->direction, &judgement->cookie);
	if (action == ACTION_DENY)
		return -REASON_POLICY_DENY;
	if (action != ACTION_ALLOW && policy->flags & (ingress ? POLICY_ENFORCE_INGRESS : POLICY_ENFORCE_EGRESS)) {
		judgement->cookie = ingress ? policy->ingress_cookie : policy->egress_cookie;
		return -REASON_POLICY_DEFAULT_DENY;
	}
	if (policy->flags & POLICY_AUDITS)
		policy_audit(policy, question, judgement);
	return 0;
}

/* Index beyond the map: closed, like index 0. */
static __inline const struct policy *policy_find(__u32 index)
{
	enum policy_index closed = POLICY_INDEX_CLOSED;
	const struct policy *policy = bpf_map_lookup_elem(&ax_policies, &index);

	return policy ? policy : bpf_map_lookup_elem(&ax_policies, &closed);
}
