// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One object, so that all programs share their maps without pins and a node loads once. */
#include <linux/bpf.h>
#include "../lib/config.h"
#include "../lib/endpoint.h"
#include "../lib/address.h"
#include "../lib/policy.h"
#include "../lib/service.h"
#include "../lib/conntrack.h"
#include "../lib/nat.h"
#include "../lib/sock.h"
#include "../lib/metrics.h"
#include "../lib/event.h"

/* Some helpers are reserved for programs under the GPL; this is the half of the licence that the kernel cares for. */
char _license[] SEC("license") = "Dual BSD/GPL";
