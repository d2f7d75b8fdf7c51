// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/inode_unlink: a name of a file is removed (enforce tier).
 *
 * Why this hook: a file that is removed and made again is another inode, which nobody has marked yet.
 */
#include "marks.h"

SEC("lsm/inode_unlink")
int BPF_PROG(on_unlink, struct inode *folder, struct dentry *entry)
{
	return judge_change(entry->d_inode, OPERATION_UNLINK);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
