// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/path_truncate: a file is cut by its name (enforce tier).
 *
 * Why this hook: truncate(2) changes a file without opening it.
 */
#include "marks.h"

SEC("lsm/path_truncate")
int BPF_PROG(on_truncate, const struct path *path)
{
	return judge_change(path->dentry->d_inode, OPERATION_TRUNCATE);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
