// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * iter/task_vma: the mappings of one process (by the link's parameters).
 *
 * Why an iterator: it reads the address space itself, so a library's name in /proc/PID/maps can't be dressed up. Only
 * what counts against a process is written: executable mappings of files that others than root could have made.
 * A mapping that is gone again, or a copy in anonymous memory, is not found: this is evidence against, never for.
 */
#include "maps.h"

#define VM_EXEC 0x4

SEC("iter/task_vma")
int tell_mapping(struct bpf_iter__task_vma *context)
{
	struct task_struct *task = context->task;
	struct vm_area_struct *vma = context->vma;
	struct open_file found = { .kind = OPEN_MAPPING };
	struct file *file;

	if (!task || !vma || !(vma->vm_flags & VM_EXEC))
		return 0;
	file = vma->vm_file;
	if (!file)
		return 0;
	read_inode(mapped_inode(file), &found.file);
	if (!others_could_make(&found.file))
		return 0;
	found.pid = task->tgid;
	bpf_seq_write(context->meta->seq, &found, sizeof(found));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
