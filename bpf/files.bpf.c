// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * iter/task_file: every open file of every process (or of one, by the link's parameters).
 *
 * Why an iterator: it reads the kernel's own file tables. So it tells the kernel's numbers of a descriptor of
 * ours, which stat() hides on btrfs and overlayfs, and all processes that hold a given socket, without a walk
 * over /proc that each of them could race. The kernel visits a table that threads share once.
 */
#include "maps.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct files_query);
} files_query SEC(".maps");

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
	inode = file->f_inode;
	if (query->socket_ino) {
		if (inode->i_ino != query->socket_ino || (inode->i_mode & S_IFMT) != S_IFSOCK)
			return 0;
	} else if ((__u32)task->tgid != query->pid || context->fd != query->fd) {
		return 0;
	}
	found.pid = task->tgid;
	found.fd = context->fd;
	read_file(file, &found.file);
	bpf_seq_write(context->meta->seq, &found, sizeof(found));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
