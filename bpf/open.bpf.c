// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/file_open: a file is being opened (enforce tier).
 *
 * Why this hook: do_dentry_open() asks it for every way of opening: open, openat2, creat, open_by_handle_at, io_uring,
 * execve, a file below an overlay; by whatever name and in whatever mount namespace, since it has the inode. Only O_PATH
 * passes by, which opens nothing; /proc/self/fd makes an open of it, which comes here. What is not marked costs one
 * look-up.
 */
#include "marks.h"

SEC("lsm/file_open")
int BPF_PROG(on_open, struct file *file)
{
	struct mark *mark = mark_of(file->f_inode);
	struct denial_event *event;

	if (!mark)
		return 0;
	if (mark->is_probe)
		return -EPERM;
	if (is_let_through(mark))
		return 0;
	event = begin_denial(file->f_inode->i_sb->s_dev, file->f_inode->i_ino, OPERATION_OPEN);
	if (event) {
		event->flags = file->f_flags;
		if (bpf_d_path(&file->f_path, event->name, sizeof(event->name)) < 0)
			event->name[0] = 0;
		bpf_ringbuf_submit(event, 0);
	}
	return -EPERM;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
