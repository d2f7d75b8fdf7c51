// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/inode_setattr of kernels before 6.9; see resize.h.
 */
#include "resize.h"

SEC("lsm/inode_setattr")
int BPF_PROG(on_resize, struct dentry *entry, struct iattr *facts)
{
	return judge_facts(entry, facts);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
