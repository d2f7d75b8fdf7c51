// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sock_send_length: a task has sent on a socket (Linux 6.3).
 *
 * Why this hook: a connection of the agent can be borrowed (pidfd_getfd, SCM_RIGHTS, inheritance): the thief
 * writes a request, closes its copy, and by the time anybody looks, only the agent holds the socket. sock_sendmsg()
 * runs in the writer's context for send, write, splice, sendfile and io_uring alike, so here the writer of every
 * message is known. It is called after the data went out and before the call returns, while the writer still
 * holds the descriptor: who asks in between sees a second holder.
 */
#include "maps.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct endpoints);
} endpoints SEC(".maps");

/* 6.2; the hook is younger */
extern void *bpf_rdonly_cast(const void *object, __u32 type_id) __ksym;

static __always_inline struct unix_sock *as_unix_sock(const struct sock *sk)
{
	return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct unix_sock));
}

static __always_inline bool goes_to_the_broker(struct sock *sk, const struct endpoints *to)
{
	__u16 family = sk->__sk_common.skc_family;
	struct unix_sock *peer;
	struct inode *name;

	if (family == AF_INET || family == AF_INET6)
		return to->tcp_port && __builtin_bswap16(sk->__sk_common.skc_dport) == to->tcp_port;
	if (family != AF_UNIX || !(to->unix_ino || to->sign_ino))
		return false;
	/* An accepted socket carries its listener's name. The loads are direct: a null on the way reads as null. */
	peer = as_unix_sock(as_unix_sock(sk)->peer);
	name = peer->path.dentry->d_inode;
	if (!name)
		return false;
	if (name->i_ino == to->unix_ino && name->i_sb->s_dev == to->unix_dev)
		return true;
	return name->i_ino == to->sign_ino && name->i_sb->s_dev == to->sign_dev;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_send, struct sock *sk, int sent, int flags)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct sender first = { .proc_id = NOBODY };
	struct task_record *record;
	struct endpoints *to;
	struct sender *known;
	__u32 zero = 0;

	to = bpf_map_lookup_elem(&endpoints, &zero);
	if (!to || sent <= 0 || !goes_to_the_broker(sk, to))
		return 0;
	record = record_of(current->group_leader);
	if (record) {
		first.proc_id = record->proc_id;
		first.exec_id = record->exec_id;
	}
	known = bpf_sk_storage_get(&senders, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!known || known->other_proc_id || (known->proc_id == first.proc_id && known->exec_id == first.exec_id))
		return 0;
	known->other_exec_id = first.exec_id;
	known->other_proc_id = first.proc_id;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
