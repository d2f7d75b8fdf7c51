// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/inode_link: a file gets another name (enforce tier).
 *
 * Why this hook: the mark follows the inode, so the other name does not open it; but it would keep the file when its
 * own name is gone, and nobody makes one in good faith.
 */
#include "marks.h"

SEC("lsm/inode_link")
int BPF_PROG(on_link, struct dentry *old, struct inode *folder, struct dentry *entry)
{
	return judge_change(old->d_inode, OPERATION_LINK);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
