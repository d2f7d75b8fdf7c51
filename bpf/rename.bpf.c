// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/inode_rename: a file is moved, or another one over it (enforce tier).
 *
 * Why this hook: moved away, the path is free for a file that nobody has marked; moved over, the mark is gone. For
 * RENAME_EXCHANGE the kernel asks twice, once in each direction.
 */
#include "marks.h"

SEC("lsm/inode_rename")
int BPF_PROG(on_rename, struct inode *old_folder, struct dentry *old, struct inode *new_folder, struct dentry *new)
{
	int denied = judge_change(old->d_inode, OPERATION_RENAME);

	return denied ? denied : judge_change(new->d_inode, OPERATION_RENAME);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
