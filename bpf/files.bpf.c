// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * iter/task_file: every open file of every process (or of one, by the link's parameters).
 *
 * Why an iterator: it reads the kernel's own file tables. So it tells the kernel's numbers of a descriptor of
 * ours, which stat() hides on btrfs and overlayfs, and all processes that hold a given socket, without a walk
 * over /proc that each of them could race. The kernel visits a table that threads share once.
 */
#include "maps.h"

#define AF_UNIX 1
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define MAX_WAITERS 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct files_query);
} files_query SEC(".maps");

/* References to an open file, without the one that the iteration took. */
static __always_inline __u64 references_of(struct file *file)
{
	struct file___count *counted = (void *)file;
	struct file___ref *referred = (void *)file;

	if (bpf_core_field_exists(referred->f_ref))
		return BPF_CORE_READ(referred, f_ref.refcnt.counter); /* 0 means 1 */
	return BPF_CORE_READ(counted, f_count.counter) - 1;
}

/*
 * Whether who waits is of this process and holds a reference: a task in poll() or select() does (__pollwait), one in
 * recv() or the like if it is not the only one that uses its table of files (fdget); epoll has nobody.
 */
static __always_inline bool waits(void *waiter, __u32 pid, bool is_alone)
{
	if (!waiter)
		return false;
	return (__u32)BPF_CORE_READ((struct poll_wqueues *)waiter, polling_task, tgid) == pid ||
	       (!is_alone && (__u32)BPF_CORE_READ((struct task_struct *)waiter, tgid) == pid);
}

/* Threads of a process that wait in a call for something to come, with a reference each. */
static __always_inline __u32 readers_of(struct task_struct *task, struct socket *socket, __u32 pid)
{
	struct list_head *head = &socket->wq.wait.head, *at = BPF_CORE_READ(socket, wq.wait.head.next);
	struct wait_queue_entry *entry;
	bool is_alone = BPF_CORE_READ(task, files, count.counter) == 1;
	__u32 readers = 0;

	for (int i = 0; i < MAX_WAITERS && at && at != head; i++) {
		entry = (void *)at - bpf_core_field_offset(struct wait_queue_entry, entry);
		readers += waits(BPF_CORE_READ(entry, private), pid, is_alone);
		at = BPF_CORE_READ(at, next);
	}
	return readers;
}

/* How many tasks use a process's table of files and are not its threads (clone with CLONE_FILES alone). */
static __always_inline __u32 sharers_of(struct task_struct *task)
{
	__s32 users = BPF_CORE_READ(task, files, count.counter), threads = BPF_CORE_READ(task, signal, nr_threads);

	return users > threads ? users - threads : 0;
}

static __always_inline void read_socket(struct task_struct *task, struct file *file, struct open_file *found)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct sender *sender;

	if (!socket || !socket->sk)
		return;
	found->kind = OPEN_SOCKET;
	found->readers = readers_of(task, socket, found->pid);
	found->sharers = sharers_of(task);
	sender = bpf_sk_storage_get(&senders, socket->sk, 0, 0);
	if (sender)
		found->sender = *sender;
}

/* The inode number of the socket that a unix socket is connected to; 0: it is none, or has no other end. */
static __always_inline __u64 other_end_of(struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct unix_sock *own;

	if (!socket || !socket->sk || BPF_CORE_READ(socket, sk, __sk_common.skc_family) != AF_UNIX)
		return 0;
	own = (struct unix_sock *)socket->sk;
	return BPF_CORE_READ(own, peer, sk_socket, file, f_inode, i_ino);
}

static __always_inline bool is_wanted_socket(struct file *file, const struct files_query *query)
{
	if ((file->f_inode->i_mode & S_IFMT) != S_IFSOCK)
		return false;
	return (query->pid ? other_end_of(file) : file->f_inode->i_ino) == query->socket_ino;
}

SEC("iter/task_file")
int tell_file(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct open_file found = {};
	struct files_query *query;
	struct inode *inode;
	__u32 zero = 0;

	query = bpf_map_lookup_elem(&files_query, &zero);
	if (!task || !file || !query)
		return 0;
	/* 6.1 to 6.6 come back to a thread when they are read to the end (fixed in 6.7) */
	if (task->pid != task->tgid && task->files == task->group_leader->files)
		return 0;
	inode = file->f_inode;
	if (query->socket_ino) {
		if (!is_wanted_socket(file, query))
			return 0;
	} else if ((__u32)task->tgid != query->pid) {
		return 0;
	} else if (query->fd != EVERY_DESCRIPTOR && context->fd != query->fd) {
		return 0;
	}
	found.pid = task->tgid;
	found.fd = context->fd;
	found.references = references_of(file);
	found.writers = BPF_CORE_READ(inode, i_writecount.counter);
	read_file(file, &found.file);
	if (query->socket_ino)
		read_socket(task, file, &found);
	bpf_seq_write(context->meta->seq, &found, sizeof(found));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
