// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/file_receive: a task gets a descriptor that it did not open (enforce tier).
 *
 * Why this hook: SCM_RIGHTS and pidfd_getfd end here. An opener that was let through could hand the file on; who may
 * not open it may not receive it either.
 */
#include "marks.h"

SEC("lsm/file_receive")
int BPF_PROG(on_receive, struct file *file)
{
	return judge_change(file->f_inode, OPERATION_RECEIVE);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
