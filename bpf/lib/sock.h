/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Service translation at connect and send time, for processes of the host and of pods. */
#pragma once

#include <bpf.h>
#include "inet.h"

/* The backend as a socket sees it. */
struct sock_reverse_key {
	__u64 cookie;
	struct inet address;
	__be16 port;
	__u8 protocol;
	enum family family;
	__u32 reserved;
};

/* The frontend that the process asked for. */
struct sock_reverse {
	struct inet address;
	__be16 port;
	__u16 reserved0;
	__u32 service;
	__u32 reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct sock_reverse_key);
	__type(value, struct sock_reverse);
} ax_sock_reverse SEC(".maps");
