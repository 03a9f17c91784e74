/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Security identities: reserved numbers are Cilium's. */
#pragma once

#include <bpf.h>

enum identity : __u32 {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_REMOTE_NODE = 6,
	/* From here on identities mean something on one node only and are refused on the wire. */
	IDENTITY_LOCAL_MIN = 1 << 24,
};
