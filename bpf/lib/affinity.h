/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Session affinity: a client that comes again in time gets the backend that it had. */
#pragma once

#include <bpf.h>
#include "conntrack.h"
#include "inet.h"
#include "service.h"

/* By what a client is known. */
enum client_kind : __u8 {
	CLIENT_ADDRESS = 0,
	/* A process that has no address yet: by its network namespace's cookie. */
	CLIENT_NETNS = 1,
};

struct affinity_key {
	struct inet client;
	__u32 service;
	enum family family;
	enum client_kind kind;
	__u16 reserved;
};

struct affinity {
	/* CLOCK_MONOTONIC in ns: when the client came last. */
	__u64 used;
	struct inet address;
	__be16 port;
	__u16 reserved0;
	/* A number that fell to it. */
	__u32 index;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
} ax_affinity SEC(".maps");

/* A client that is known by its network namespace. */
static __inline struct inet affinity_netns(__u64 cookie)
{
	return (struct inet){.words = {(__u32)cookie, (__u32)(cookie >> 32)}};
}

/* The backend for a client that begins a connection: the one that it had, else the one that number falls to. NULL: there is none. */
static __noinline struct backend *affinity_backend(const struct service *service, const struct inet *client, enum family family,
						   enum client_kind kind, __u32 number)
{
	struct affinity_key key = {.client = *client, .service = service->id, .family = family, .kind = kind};
	struct affinity new = {.used = bpf_ktime_get_coarse_ns(), .index = number};
	__u64 lasts = (__u64)service->affinity * SECONDS;
	struct affinity *known;
	struct backend *backend;
	int index;

	if (!lasts)
		return service_backend(service, number);
	known = bpf_map_lookup_elem(&ax_affinity, &key);
	if (known && known->used + lasts > new.used) {
		new.address = known->address;
		index = service_index(service, &new.address, known->port, known->index);
		if (index >= 0)
			new.index = index;
	}
	backend = service_backend(service, new.index);
	if (!backend)
		return 0;
	new.address = backend->address;
	new.port = backend->port;
	bpf_map_update_elem(&ax_affinity, &key, &new, BPF_ANY);
	return backend;
}
