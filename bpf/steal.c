// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//go:build ignore
/*
 * New connections to a claimed port go to the agent. What the agent passes on reaches the original,
 * and shows it the client's own address. Whenever in doubt, a connection stays the original's.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET	 2 /* <sys/socket.h> is not for BPF */
#define STALE_NS 500000000ULL

/* Addresses are IPv6 or v4-mapped, so that a dual-stack socket finds the same entry. */
struct upstream {
	__u32 addr[4];
	__be16 port;
	__u16 dialled; /* the original's port, host order */
};

struct client {
	__u32 addr[4];
	__be16 port;
	__u16 reserved;
};

/* Ports of the target, host order. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u8);
} claims SEC(".maps");

/* The agent's own connections to the original, and for whom each one is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct upstream);
	__type(value, struct client);
} passed SEC(".maps");

/* IPv4, IPv6. A listener leaves the map when it is closed, however its process ends. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

volatile __u64 beat_ns;		   /* CLOCK_MONOTONIC when the agent was last well */
const volatile __u64 target_netns; /* cookie; a cgroup may hold sockets of other namespaces */

static __always_inline int agent_hangs(void)
{
	__u64 last = beat_ns; /* read first: a beat between the two reads must not look ancient */

	return bpf_ktime_get_ns() - last > STALE_NS;
}

static __always_inline void release(struct bpf_sock **sk)
{
	if (*sk)
		bpf_sk_release(*sk);
}

SEC("sk_lookup")
int steal_lookup(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *listener __attribute__((cleanup(release))) = NULL;
	struct upstream key = {};
	__u16 port = ctx->local_port;
	__u32 index = 0;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS; /* only TCP can be claimed */
	if (!bpf_map_lookup_elem(&claims, &port))
		return SK_PASS; /* nobody wants it */
	if (agent_hangs())
		return SK_PASS; /* the original still answers */

	if (ctx->family == AF_INET) {
		key.addr[2] = bpf_htonl(0xffff);
		key.addr[3] = ctx->remote_ip4;
		barrier(); /* else clang loads from a computed offset, which the verifier refuses */
	} else {
		index = 1;
		key.addr[0] = ctx->remote_ip6[0];
		key.addr[1] = ctx->remote_ip6[1];
		key.addr[2] = ctx->remote_ip6[2];
		key.addr[3] = ctx->remote_ip6[3];
	}
	key.port = ctx->remote_port;
	key.dialled = port;
	if (bpf_map_lookup_elem(&passed, &key))
		return SK_PASS; /* our own, on its way to the original */

	listener = bpf_map_lookup_elem(&listeners, &index);
	if (!listener)
		return SK_PASS; /* the agent is gone */
	bpf_sk_assign(ctx, listener, 0);
	return SK_PASS; /* to the listener, or to whom an earlier program chose */
}

static __always_inline struct client *find_client(struct bpf_sock_addr *ctx, struct upstream *key)
{
	if (bpf_get_netns_cookie(ctx) != target_netns || !ctx->sk)
		return NULL;
	key->port = ctx->user_port;
	key->dialled = ctx->sk->src_port;
	return bpf_map_lookup_elem(&passed, key);
}

/* accept(2) and getpeername(2); 1 lets the call go on, changed or not. */
SEC("cgroup/getpeername4")
int steal_peer4(struct bpf_sock_addr *ctx)
{
	struct upstream key = {};
	struct client *client;

	key.addr[2] = bpf_htonl(0xffff);
	key.addr[3] = ctx->user_ip4;
	client = find_client(ctx, &key);
	if (client) {
		ctx->user_ip4 = client->addr[3];
		ctx->user_port = client->port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int steal_peer6(struct bpf_sock_addr *ctx)
{
	struct upstream key = {};
	struct client *client;

	key.addr[0] = ctx->user_ip6[0];
	key.addr[1] = ctx->user_ip6[1];
	key.addr[2] = ctx->user_ip6[2];
	key.addr[3] = ctx->user_ip6[3];
	client = find_client(ctx, &key);
	if (client) {
		ctx->user_ip6[0] = client->addr[0];
		ctx->user_ip6[1] = client->addr[1];
		ctx->user_ip6[2] = client->addr[2];
		ctx->user_ip6[3] = client->addr[3];
		ctx->user_port = client->port;
	}
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
