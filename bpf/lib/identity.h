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

/*
 * Who sent a packet, for the program that sees it next, as Cilium marks packets: sixteen bits on top, eight at the bottom. Marks do not
 * leave their network namespace, so that no pod can say so.
 */
#define MARK_KIND 0x0f00U
#define MARK_IDENTITY 0x0f00U

/* What was translated, and is sent on past the stack: nothing is left to do for whom it comes by. */
#define MARK_TRANSLATED 0x0300U

static __inline __u32 identity_mark(__u32 identity)
{
	return identity << 16 | MARK_IDENTITY | (identity >> 16 & 0xff);
}

static __inline int identity_is_marked(__u32 mark)
{
	return (mark & MARK_KIND) == MARK_IDENTITY;
}

static __inline int mark_is_translated(__u32 mark)
{
	return (mark & MARK_KIND) == MARK_TRANSLATED;
}

static __inline __u32 identity_of_mark(__u32 mark)
{
	return mark >> 16 | (mark & 0xff) << 16;
}
