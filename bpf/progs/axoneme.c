// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One object, so that all programs share their maps without pins and a node loads once. */
#include "pod.c"
#include "overlay.c"
#include "uplink.c"
#include "sock.c"

/* Some helpers are reserved for programs under the GPL; this is the half of the licence that the kernel cares for. */
char _license[] SEC("license") = "Dual BSD/GPL";
