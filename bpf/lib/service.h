/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services: a frontend names a service, its backends are numbered from 0. */
#pragma once

#include <bpf.h>
#include <linux/in.h>
#include "address.h"
#include "inet.h"

enum service_flags : __u32 {
	SERVICE_FLAGS_NONE = 0,
	/* Clients outside of the cluster may ask for it. */
	SERVICE_FLAGS_OUTSIDE = 1 << 0,
	/* What they get stands apart, under a key of its own. */
	SERVICE_FLAGS_APART = 1 << 1,
};

/*
 * A frontend is one port of one protocol. Protocol 0 and port 0: the address is a service's, whatever ports it has. Address 0: at the
 * addresses of all nodes.
 */
struct service_key {
	struct inet address;
	__be16 port;
	/* SERVICE_APART is added for what only clients outside get. */
	__u8 protocol;
	enum family family;
};

/* A bit that no protocol with ports has. */
#define SERVICE_APART 0x40

struct service {
	/* Never 0; shared by all frontends that have the same backends. */
	__u32 id;
	/* Backends 0..backends exist; 0 means that connections are refused. */
	__u32 backends;
	/* Differs after every change of the backends: UDP flows then look whether theirs still exists. */
	__u32 revision;
	enum service_flags flags;
	/* For how many seconds a client keeps its backend; 0: it does not. */
	__u32 affinity;
	__u32 reserved[3];
};

struct backend_key {
	__u32 service;
	__u32 index;
};

struct backend {
	struct inet address;
	__be16 port;
	enum family family;
	__u8 reserved0;
	__u32 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct service);
} ax_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_key);
	__type(value, struct backend);
} ax_service_backends SEC(".maps");

static __inline int service_protocol(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* NULL: there is none. node: the address is a node's. */
static __noinline struct service *service_at(const struct inet *address, __be16 port, __u8 protocol, enum family family, int node)
{
	struct service_key key = {.address = *address, .port = port, .protocol = protocol, .family = family};
	struct service *service = bpf_map_lookup_elem(&ax_services, &key);

	if (service || !node)
		return service;
	key.address = (struct inet){};
	return bpf_map_lookup_elem(&ax_services, &key);
}

/* NULL: not a service. row: whose the address is, if anybody's. */
static __inline struct service *service_find(const struct inet *address, __be16 port, __u8 protocol, enum family family,
					     const struct address *row)
{
	enum address_kind kind = address_kind(row);

	if (!service_protocol(protocol) || inet_is_zero(address))
		return 0;
	return service_at(address, port, protocol, family, kind == ADDRESS_HOST || kind == ADDRESS_NODE);
}

/* Whether an address is a service's. */
static __noinline int service_owns(const struct inet *address, enum family family)
{
	struct service_key key = {.address = *address, .family = family};

	return bpf_map_lookup_elem(&ax_services, &key) != 0;
}

/* The backend that a number falls to, or NULL if there is none. */
static __noinline struct backend *service_backend(const struct service *service, __u32 number)
{
	struct backend_key key = {.service = service->id};
	struct backend *backend;

	if (!service->backends)
		return 0;
	key.index = number % service->backends;
	backend = bpf_map_lookup_elem(&ax_service_backends, &key);
	if (backend)
		return backend;
	/* Being replaced at this moment: the first one goes last. */
	key.index = 0;
	return bpf_map_lookup_elem(&ax_service_backends, &key);
}

struct service_search {
	struct inet address;
	struct backend_key key;
	__be16 port;
	__u16 found;
};

static __inline int backend_is(const struct backend *backend, const struct inet *address, __be16 port)
{
	return backend && backend->port == port && inet_equal(&backend->address, address);
}

static long service_compare(__u32 index, struct service_search *search)
{
	struct backend *backend;

	search->key.index = index;
	backend = bpf_map_lookup_elem(&ax_service_backends, &search->key);
	search->found = backend_is(backend, &search->address, search->port);
	return search->found;
}

/* Where a service has a backend, which may be where it was, or -1. */
static __noinline int service_index(const struct service *service, const struct inet *address, __be16 port, __u32 was)
{
	struct service_search search = {.address = *address, .key = {.service = service->id}, .port = port};

	if (!service->backends || !service_compare(was % service->backends, &search))
		bpf_loop(service->backends, service_compare, &search, 0);
	return search.found ? (int)search.key.index : -1;
}
