// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/file_mprotect: a mapping gets another protection (enforce tier).
 *
 * Why this hook: a file that was mapped to be read becomes code here; the other half of map_code.bpf.c.
 */
#include "code.h"

SEC("lsm/file_mprotect")
int BPF_PROG(on_protect, struct vm_area_struct *vma, unsigned long wanted, unsigned long given)
{
	struct file *file = vma->vm_file;

	if (file && given & PROT_EXEC)
		judge_code(file, mapped_inode(file));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
