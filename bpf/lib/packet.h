/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs learn from a packet's headers, once, for both families. */
#pragma once

#include <bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "fragment.h"
#include "inet.h"
#include "metrics.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* linux/icmp.h would bring in the C library. */
enum {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

/* Codes of ICMP_DEST_UNREACH. */
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4

#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_FRAGMENTS_MORE 0x2000
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_FRAGMENTS_MORE 0x0001

enum packet_flags : __u8 {
	/* Source and destination have ports (not those that echo ids stand for). */
	PACKET_PORTS = 1 << 0,
	PACKET_ECHO = 1 << 1,
	/* Carries the header of the packet that it complains about. */
	PACKET_ICMP_ERROR = 1 << 2,
	/* ARP, neighbour discovery, multicast listeners: between the two ends of a link. */
	PACKET_NEIGHBOUR = 1 << 3,
	PACKET_ECHO_REPLY = 1 << 4,
	/* Others follow that have no transport header. */
	PACKET_FRAGMENT_FIRST = 1 << 5,
	/* Has no transport header; the ports are those of the first fragment. */
	PACKET_FRAGMENT_LATER = 1 << 6,
	/* Judged on behalf of the flow that it answers. */
	PACKET_REPLY = 1 << 7,
};

struct packet {
	/* As the packet is now; follows every rewrite. */
	struct tuple tuple;
	/* The frontend that the client asked for, if the packet was sent to a service. */
	struct inet frontend;
	__be16 frontend_port;
	/* Of a client outside who asked for it: the port that it has. 0: it is not outside. */
	__be16 client_port;
	__u16 l4_offset;
	__u16 reserved;
	__u32 service;
	__u32 source_identity;
	__u32 destination_identity;
	/* Endpoint whose policy is asked, and the rule or policy that decides. */
	__u32 endpoint;
	__u32 cookie;
	/* Of its datagram, if it is a fragment. */
	__be32 fragment;
	enum packet_flags flags;
	__u8 tcp_flags;
	__u8 ttl;
	/* Bytes of the transport header that every segment has, of TCP and UDP. */
	__u8 l4_size;
	/* Of ICMP. */
	__u8 icmp_type;
	/* Why policies that only audit would drop it, then cookie is of those; 0: they would not. */
	enum reason audited;
};

union network {
	struct iphdr v4;
	struct ipv6hdr v6;
};

/* The part of a transport header that is read: TCP has its flags in the 14th byte, nothing else is needed beyond the 8th. */
union transport {
	__be16 ports[2];
	struct {
		__u8 type, code;
		__be16 checksum, id;
	} icmp;
	__u8 bytes[14];
};

/*
 * Part of a packet: in place if it is in the linear part, else copied. NULL: the packet is shorter.
 * In place only at constant offsets, which the verifier can follow.
 */
static __inline const void *packet_at(struct __sk_buff *skb, __u32 offset, __u32 size, void *copy)
{
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + offset + size <= end)
		return data + offset;
	return bpf_skb_load_bytes(skb, offset, copy, size) ? 0 : copy;
}

static __inline const union transport *packet_transport(struct __sk_buff *skb, __u32 offset, __u32 size, union transport *copy)
{
	/* Without options, or extension headers. */
	if (offset == ETH_HLEN + sizeof(struct iphdr))
		return packet_at(skb, ETH_HLEN + sizeof(struct iphdr), size, copy);
	if (offset == ETH_HLEN + sizeof(struct ipv6hdr))
		return packet_at(skb, ETH_HLEN + sizeof(struct ipv6hdr), size, copy);
	return bpf_skb_load_bytes(skb, offset, copy, size) ? 0 : copy;
}

static __inline int packet_ports(struct __sk_buff *skb, struct packet *packet)
{
	const union transport *l4;
	union transport copy;
	struct tuple *tuple = &packet->tuple;

	switch (tuple->protocol) {
	case IPPROTO_TCP:
		l4 = packet_transport(skb, packet->l4_offset, 14, &copy);
		if (!l4)
			return -REASON_CT_INVALID_HEADER;
		packet->tcp_flags = l4->bytes[13];
		packet->l4_size = l4->bytes[12] >> 4 << 2;
		break;
	case IPPROTO_UDP:
		packet->l4_size = 8;
		__attribute__((fallthrough));
	case IPPROTO_SCTP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		l4 = packet_transport(skb, packet->l4_offset, 8, &copy);
		if (!l4)
			return -REASON_CT_INVALID_HEADER;
		break;
	default:
		return 0;
	}

	if (tuple->protocol == IPPROTO_ICMP && tuple->family == FAMILY_IPV4) {
		packet->icmp_type = l4->icmp.type;
		switch (l4->icmp.type) {
		case ICMP_ECHOREPLY:
			packet->flags |= PACKET_ECHO_REPLY;
			__attribute__((fallthrough));
		case ICMP_ECHO:
			packet->flags |= PACKET_ECHO;
			tuple->source_port = tuple->destination_port = l4->icmp.id;
			break;
		case ICMP_DEST_UNREACH:
		case ICMP_TIME_EXCEEDED:
		case ICMP_PARAMETERPROB:
			packet->flags |= PACKET_ICMP_ERROR;
		}
	} else if (tuple->protocol == IPPROTO_ICMPV6 && tuple->family == FAMILY_IPV6) {
		packet->icmp_type = l4->icmp.type;
		switch (l4->icmp.type) {
		case ICMPV6_ECHO_REPLY:
			packet->flags |= PACKET_ECHO_REPLY;
			__attribute__((fallthrough));
		case ICMPV6_ECHO_REQUEST:
			packet->flags |= PACKET_ECHO;
			tuple->source_port = tuple->destination_port = l4->icmp.id;
			break;
		case ICMPV6_DEST_UNREACH:
		case ICMPV6_PKT_TOOBIG:
		case ICMPV6_TIME_EXCEED:
		case ICMPV6_PARAMPROB:
			packet->flags |= PACKET_ICMP_ERROR;
			break;
		case 130: /* multicast listeners: query, report, done, report of version 2 */
		case 131:
		case 132:
		case 143:
		case 133: /* router solicitation */
		case 135: /* neighbour solicitation */
		case 136: /* neighbour advertisement */
			packet->flags |= PACKET_NEIGHBOUR;
			break;
		case 134: /* router advertisement */
		case 137: /* redirect */
			return -REASON_FORBIDDEN_ICMPV6;
		}
	} else if (tuple->protocol != IPPROTO_ICMP && tuple->protocol != IPPROTO_ICMPV6) {
		packet->flags |= PACKET_PORTS;
		tuple->source_port = l4->ports[0];
		tuple->destination_port = l4->ports[1];
	}
	return 0;
}

/* What a network header says beside the tuple. */
struct hop {
	__u8 ttl;
	/* PACKET_FRAGMENT_FIRST, PACKET_FRAGMENT_LATER or 0. */
	__u8 fragmented;
	__be32 fragment;
};

/* An IPv4 header at an offset. Returns where its payload begins, or -reason. */
static __inline int tuple_ipv4(const struct iphdr *ip, __u32 offset, struct tuple *tuple, struct hop *hop)
{
	if (!ip || ip->version != 4 || ip->ihl < 5)
		return -REASON_INVALID_PACKET;
	tuple->family = FAMILY_IPV4;
	tuple->protocol = ip->protocol;
	tuple->source.words[0] = ip->saddr;
	tuple->destination.words[0] = ip->daddr;
	hop->ttl = ip->ttl;
	if (ip->frag_off & be16(IPV4_FRAGMENT_OFFSET | IPV4_FRAGMENTS_MORE)) {
		hop->fragmented = ip->frag_off & be16(IPV4_FRAGMENT_OFFSET) ? PACKET_FRAGMENT_LATER : PACKET_FRAGMENT_FIRST;
		hop->fragment = ip->id;
	}
	return offset + ip->ihl * 4;
}

/* An IPv6 header and what stands between it and the transport header. */
static __inline int tuple_ipv6(struct __sk_buff *skb, const struct ipv6hdr *ip, __u32 offset, struct tuple *tuple, struct hop *hop)
{
	__u8 next;

	if (!ip || ip->version != 6)
		return -REASON_INVALID_PACKET;
	tuple->family = FAMILY_IPV6;
	__builtin_memcpy(&tuple->source, &ip->saddr, sizeof(tuple->source));
	__builtin_memcpy(&tuple->destination, &ip->daddr, sizeof(tuple->destination));
	hop->ttl = ip->hop_limit;
	next = ip->nexthdr;
	offset += sizeof(*ip);
	if (inet_is_v4_mapped(&tuple->source) || inet_is_v4_mapped(&tuple->destination))
		return -REASON_V4_MAPPED_IPV6;

	for (int i = 0; i < 4; i++) {
		struct {
			__u8 next, length;
			__be16 fragment;
		} extension;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_AH) {
			tuple->protocol = next;
			return offset;
		}
		if (bpf_skb_load_bytes(skb, offset, &extension, sizeof(extension)))
			return -REASON_INVALID_EXTENSION_HEADER;
		if (next == IPPROTO_FRAGMENT) {
			if (bpf_skb_load_bytes(skb, offset + 4, &hop->fragment, sizeof(hop->fragment)))
				return -REASON_INVALID_EXTENSION_HEADER;
			offset += 8;
			if (extension.fragment & be16(IPV6_FRAGMENT_OFFSET)) {
				/* What follows is payload, whatever comes next in the first fragment. */
				hop->fragmented = PACKET_FRAGMENT_LATER;
				tuple->protocol = extension.next;
				return offset;
			}
			if (extension.fragment & be16(IPV6_FRAGMENTS_MORE))
				hop->fragmented = PACKET_FRAGMENT_FIRST;
		} else if (next == IPPROTO_AH) {
			offset += (extension.length + 2) * 4;
		} else {
			offset += (extension.length + 1) * 8;
		}
		next = extension.next;
	}
	return -REASON_INVALID_EXTENSION_HEADER;
}

/* What a later fragment inherits. */
#define PACKET_INHERITED (PACKET_PORTS | PACKET_ECHO | PACKET_ECHO_REPLY)

/*
 * Remembers the ports of a first fragment; called when its source is known to be no pretence, or others could be given ports that
 * are not theirs. The key is as the packet came, the map is full never: the oldest datagram goes.
 */
static __noinline void packet_remember(const struct packet *packet)
{
	struct fragment_key key = fragment_key(&packet->tuple, packet->fragment);
	struct fragment fragment = {
		.source_port = packet->tuple.source_port,
		.destination_port = packet->tuple.destination_port,
		.flags = packet->flags & PACKET_INHERITED,
	};

	bpf_map_update_elem(&ax_fragments, &key, &fragment, BPF_ANY);
}

static __noinline int packet_ports_of_first(struct packet *packet)
{
	struct fragment_key key = fragment_key(&packet->tuple, packet->fragment);
	const struct fragment *fragment = bpf_map_lookup_elem(&ax_fragments, &key);

	if (!fragment)
		return -REASON_FRAG_NOT_FOUND;
	packet->tuple.source_port = fragment->source_port;
	packet->tuple.destination_port = fragment->destination_port;
	packet->flags |= fragment->flags;
	return 0;
}

/* Fills a zeroed packet. Returns 0 or -reason; what was understood until then is kept. */
__global int packet_parse(struct __sk_buff *skb, struct packet *packet)
{
	struct hop hop = {};
	union network copy;
	int offset;

	if (!packet)
		return -REASON_INVALID_PACKET;

	switch (skb->protocol) {
	case be16(ETH_P_IP):
		offset = tuple_ipv4(packet_at(skb, ETH_HLEN, sizeof(copy.v4), &copy.v4), ETH_HLEN, &packet->tuple, &hop);
		break;
	case be16(ETH_P_IPV6):
		offset = tuple_ipv6(skb, packet_at(skb, ETH_HLEN, sizeof(copy.v6), &copy.v6), ETH_HLEN, &packet->tuple, &hop);
		break;
	case be16(ETH_P_ARP):
		packet->flags |= PACKET_NEIGHBOUR;
		return 0;
	default:
		return -REASON_UNSUPPORTED_L3;
	}
	packet->ttl = hop.ttl;
	if (offset < 0)
		return offset;
	packet->l4_offset = offset;
	packet->flags |= hop.fragmented;
	packet->fragment = hop.fragment;
	return hop.fragmented == PACKET_FRAGMENT_LATER ? packet_ports_of_first(packet) : packet_ports(skb, packet);
}

/*
 * The flow that an ICMP error complains about, in the direction of the error: what its sender received is what the error
 * answers. Returns where the transport header of that packet is, or -reason.
 */
static __noinline int packet_related(struct __sk_buff *skb, const struct packet *packet, struct tuple *tuple)
{
	__u32 inner = packet->l4_offset + 8;
	union network copy;
	struct hop hop = {};
	__be16 ports[4];
	int offset;

	if (packet->tuple.family == FAMILY_IPV4)
		offset = tuple_ipv4(bpf_skb_load_bytes(skb, inner, &copy.v4, sizeof(copy.v4)) ? 0 : &copy.v4, inner, tuple, &hop);
	else
		offset = tuple_ipv6(skb, bpf_skb_load_bytes(skb, inner, &copy.v6, sizeof(copy.v6)) ? 0 : &copy.v6, inner, tuple,
				    &hop);
	if (offset < 0)
		return offset;
	if (hop.fragmented == PACKET_FRAGMENT_LATER)
		return -REASON_FRAG_UNSUPPORTED;
	/* A complaint holds at least 8 bytes of transport header. */
	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return -REASON_CT_INVALID_HEADER;
	switch (tuple->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		tuple->source_port = ports[0];
		tuple->destination_port = ports[1];
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		tuple->source_port = tuple->destination_port = ports[2];
	}
	tuple_reverse(tuple);
	return offset;
}
