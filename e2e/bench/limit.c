// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The least that a data path between two pods on two nodes can do: no policy, no connection tracking, one peer. What is
 * measured with it is this machine's limit. The loader gives, by -D:
 *
 *   PEER_NODE      IPv4 address of the other node, host order
 *   POD            IPv4 address of this node's pod, host order
 *   POD_MAC        its Ethernet address, as the elements of an array
 *   UPLINK, TUNNEL, POD_DEVICE   indexes of this node's devices
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2

/* The IPv4 header, or null where there is none. */
static __always_inline struct iphdr *ipv4(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	struct iphdr *ip = data + sizeof(*ethernet);

	if ((void *)(ip + 1) > end || ethernet->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	return ip;
}

SEC("classifier/from_pod_native") int from_pod_native(struct __sk_buff *skb)
{
	struct bpf_redir_neigh next = {.nh_family = AF_INET, .ipv4_nh = bpf_htonl(PEER_NODE)};

	return ipv4(skb) ? bpf_redirect_neigh(UPLINK, &next, sizeof(next), 0) : TC_ACT_OK;
}

SEC("classifier/from_pod_tunnel") int from_pod_tunnel(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {.tunnel_id = 1, .remote_ipv4 = PEER_NODE, .tunnel_ttl = 64};

	if (!ipv4(skb))
		return TC_ACT_OK;
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX))
		return TC_ACT_SHOT;
	return bpf_redirect(TUNNEL, 0);
}

/* On the uplink, or on the tunnel device. */
SEC("classifier/to_pod") int to_pod(struct __sk_buff *skb)
{
	static const __u8 mac[ETH_ALEN] = {POD_MAC};
	struct iphdr *ip = ipv4(skb);
	struct ethhdr *ethernet;

	if (!ip || ip->daddr != bpf_htonl(POD))
		return TC_ACT_OK;
	ethernet = (void *)(long)skb->data;
	__builtin_memcpy(ethernet->h_dest, mac, ETH_ALEN);
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(POD_DEVICE, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
