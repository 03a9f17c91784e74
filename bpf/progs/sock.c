// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets of the host and of pods: a service becomes a backend when it is connected or sent to, so that packets need no
 * translation and policy sees the backend. What does not use these hooks is translated packet by packet.
 */
#include <bpf.h>
#include <linux/errno.h>
#include "../lib/affinity.h"
#include "../lib/service.h"
#include "../lib/sock.h"

#define SOCK_PROCEED 1
#define SOCK_REFUSE 0

/* One end of a socket, of either family. */
struct sock_end {
	struct inet address;
	__be16 port;
	__u8 protocol;
	enum family family;
	__u64 cookie;
	/* Of the process's network namespace. */
	__u64 netns;
};

static __inline void sock_end4(struct bpf_sock_addr *ctx, struct sock_end *end)
{
	end->address.words[0] = ctx->user_ip4;
	end->port = (__be16)ctx->user_port;
	end->protocol = ctx->protocol;
	end->family = FAMILY_IPV4;
	end->cookie = bpf_get_socket_cookie(ctx);
}

/* IPv6 sockets speak IPv4 through mapped addresses. */
static __inline void sock_end6(struct bpf_sock_addr *ctx, struct sock_end *end)
{
	end->address.words[0] = ctx->user_ip6[0];
	end->address.words[1] = ctx->user_ip6[1];
	end->address.words[2] = ctx->user_ip6[2];
	end->address.words[3] = ctx->user_ip6[3];
	end->port = (__be16)ctx->user_port;
	end->protocol = ctx->protocol;
	end->family = FAMILY_IPV6;
	end->cookie = bpf_get_socket_cookie(ctx);
	if (inet_is_v4_mapped(&end->address)) {
		end->address = (struct inet){.words = {end->address.words[3]}};
		end->family = FAMILY_IPV4;
	}
}

static __inline void sock_write4(struct bpf_sock_addr *ctx, const struct sock_end *end)
{
	ctx->user_ip4 = end->address.words[0];
	ctx->user_port = end->port;
}

static __inline void sock_write6(struct bpf_sock_addr *ctx, const struct sock_end *end)
{
	if (end->family == FAMILY_IPV4) {
		ctx->user_ip6[3] = end->address.words[0];
	} else {
		ctx->user_ip6[0] = end->address.words[0];
		ctx->user_ip6[1] = end->address.words[1];
		ctx->user_ip6[2] = end->address.words[2];
		ctx->user_ip6[3] = end->address.words[3];
	}
	ctx->user_port = end->port;
}

static __inline struct sock_reverse_key sock_reverse_key(const struct sock_end *end)
{
	return (struct sock_reverse_key){
		.cookie = end->cookie,
		.address = end->address,
		.port = end->port,
		.protocol = end->protocol,
		.family = end->family,
	};
}

/*
 * Frontend to backend. number chooses among backends.
 * Returns 1 if it translated, 0 if it is no service, -1 if the service has no backend.
 */
static __noinline int sock_forward(struct sock_end *end, __u32 number)
{
	const struct address *row = address_exact(&end->address, end->family);
	struct service *service = service_find(&end->address, end->port, end->protocol, end->family, row);
	struct sock_reverse_key key;
	struct sock_reverse frontend = {.address = end->address, .port = end->port};
	struct inet client = affinity_netns(end->netns);
	struct backend *backend;

	if (!service)
		return 0;
	backend = affinity_backend(service, &client, end->family, CLIENT_NETNS, number);
	if (!backend || backend->family != end->family)
		return -1;
	end->address = backend->address;
	end->port = backend->port;
	frontend.service = service->id;
	key = sock_reverse_key(end);
	/* Without room a process sees the backend's address instead of the service's: wrong for few, refused would be wrong for all. */
	bpf_map_update_elem(&ax_sock_reverse, &key, &frontend, BPF_ANY);
	return 1;
}

/* Backend to frontend. Returns 1 if it translated. */
static __noinline int sock_back(struct sock_end *end)
{
	struct sock_reverse_key key = sock_reverse_key(end);
	struct sock_reverse *frontend = bpf_map_lookup_elem(&ax_sock_reverse, &key);

	if (!frontend)
		return 0;
	end->address = frontend->address;
	end->port = frontend->port;
	return 1;
}

/* A socket that is not connected keeps its backend as long as the service does not change. */
static __inline __u32 sock_number(const struct sock_end *end)
{
	return (__u32)(end->cookie * 0x9e3779b97f4a7c15ULL >> 32);
}

/* What the kernel says when nobody listens. */
static __inline int sock_refuse(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return SOCK_REFUSE;
}

#define SOCK_FORWARD(name, family, number)                                                                                     \
	int name(struct bpf_sock_addr *ctx)                                                                                    \
	{                                                                                                                      \
		struct sock_end end = {};                                                                                      \
		int translated;                                                                                                \
                                                                                                                               \
		sock_end##family(ctx, &end);                                                                                   \
		end.netns = bpf_get_netns_cookie(ctx);                                                                         \
		translated = sock_forward(&end, number);                                                                       \
		if (translated < 0)                                                                                            \
			return sock_refuse();                                                                                  \
		if (translated)                                                                                                \
			sock_write##family(ctx, &end);                                                                         \
		return SOCK_PROCEED;                                                                                           \
	}

#define SOCK_BACK(name, family)                                                                                                \
	int name(struct bpf_sock_addr *ctx)                                                                                    \
	{                                                                                                                      \
		struct sock_end end = {};                                                                                      \
                                                                                                                               \
		sock_end##family(ctx, &end);                                                                                   \
		if (sock_back(&end))                                                                                           \
			sock_write##family(ctx, &end);                                                                         \
		return SOCK_PROCEED;                                                                                           \
	}

SEC("cgroup/connect4") SOCK_FORWARD(sock_connect4, 4, bpf_get_prandom_u32())
SEC("cgroup/connect6") SOCK_FORWARD(sock_connect6, 6, bpf_get_prandom_u32())
SEC("cgroup/sendmsg4") SOCK_FORWARD(sock_sendmsg4, 4, sock_number(&end))
SEC("cgroup/sendmsg6") SOCK_FORWARD(sock_sendmsg6, 6, sock_number(&end))
SEC("cgroup/recvmsg4") SOCK_BACK(sock_recvmsg4, 4)
SEC("cgroup/recvmsg6") SOCK_BACK(sock_recvmsg6, 6)
SEC("cgroup/getpeername4") SOCK_BACK(sock_getpeername4, 4)
SEC("cgroup/getpeername6") SOCK_BACK(sock_getpeername6, 6)
