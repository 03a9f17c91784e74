/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services: a frontend names a service, its backends are numbered from 0. */
#pragma once

#include <bpf.h>
#include "inet.h"

enum service_flags : __u32 {
	SERVICE_FLAGS_NONE = 0,
};

/* Protocol 0 and port 0 are not used: a frontend is one port of one protocol. */
struct service_key {
	struct inet address;
	__be16 port;
	__u8 protocol;
	enum family family;
};

struct service {
	/* Never 0; shared by all frontends that have the same backends. */
	__u32 id;
	/* Backends 0..backends exist; 0 means that connections are refused. */
	__u32 backends;
	/* Differs after every change of the backends: UDP flows then look whether theirs still exists. */
	__u32 revision;
	enum service_flags flags;
	__u32 reserved[4];
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
