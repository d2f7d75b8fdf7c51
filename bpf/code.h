/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a hook does that sees a process make a file's pages executable (enforce tier).
 */
#ifndef AGENT_BROKER_CODE_H
#define AGENT_BROKER_CODE_H

#include "taint.h"

#define PROT_EXEC 0x4     /* include/uapi/asm-generic/mman-common.h */
#define FMODE_EXEC 0x20   /* __FMODE_EXEC, include/linux/fs.h: opened by the kernel for execve; open(2) can't ask for it */

/* Mark the current process if the file may hold code that is not the agent's. An exec's own mappings are no
 * business of the image that it replaces; the new one's file is judged by its hash. */
static __always_inline void judge_code(struct file *file, struct inode *inode)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
	struct task_record *record = bpf_task_storage_get(&records, leader, 0, 0);
	struct file_facts facts = {};
	struct file_key key = {};

	if (!record || !(record->watched & USE_WATCH) || record->taints & TAINT_MAPPED || file->f_flags & FMODE_EXEC)
		return;
	read_inode(inode, &facts);
	key.dev = facts.dev;
	key.ino = facts.ino;
	if (!others_could_make(&facts) || bpf_map_lookup_elem(&registered, &key))
		return;
	if (!(__sync_fetch_and_or(&record->taints, TAINT_MAPPED) & TAINT_MAPPED))
		tell_taint(record, leader, TAINT_MAPPED);
}

#endif
