/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Files that are denied (enforce tier), and who is let through all the same. The law, for a marked file:
 *
 * 1. Root passes this gate, unless it descends from an agent (sudo in an agent's shell); while the monitor lives,
 *    fanotify behind it decides. So do the kernel's own threads.
 * 2. While the monitor lives: a program whose file user space knows (an enrolled agent's, an allowed tool's) and whose
 *    process is untouched passes this gate only; fanotify holds it up behind, and the monitor decides by who it is.
 * 3. When it does not: a process passes that was identified before, for its own agent's files, until its next exec.
 * 4. Everybody else is denied, and told.
 *
 * Marks are found by device, inode number and generation, not by storage on the inode: that goes when the inode leaves
 * the kernel's memory, and nobody may be there to set it again (docs/adr/0006-denial-outlives-us.md).
 */
#ifndef AGENT_BROKER_MARKS_H
#define AGENT_BROKER_MARKS_H

#include "denials.h"

/* mirrored in kernel/marks.py */
#define FILTER_WORDS 16384
#define FILTER_FACTOR 0x9E3779B97F4A7C15ULL /* 2^64 / golden ratio: spreads neighbours (Knuth, TAOCP 6.4) */
#define FILTER_SHIFT 44

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct mark);
} marks SEC(".maps");

/* Files of programs about which user space wants to be asked, beside those that are registered. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, __u32);
} askers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opener);
} openers SEC(".maps");

/* One bit for each mark's numbers, set by user space: most opens end here (docs/adr/0006-denial-outlives-us.md). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FILTER_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} filter SEC(".maps");

static __always_inline struct mark *mark_of(struct inode *inode)
{
	struct file_key key = { .dev = inode->i_sb->s_dev, .ino = inode->i_ino };
	__u64 bit = ((key.ino ^ key.dev << 32) * FILTER_FACTOR) >> FILTER_SHIFT;
	__u32 word = bit / 64;
	__u64 *bits = bpf_map_lookup_elem(&filter, &word);
	struct mark *mark;

	if (!bits || !(*bits >> bit % 64 & 1))
		return 0;
	mark = bpf_map_lookup_elem(&marks, &key);

	return mark && mark->generation == inode->i_generation ? mark : 0;
}

static __always_inline bool will_be_asked_about(struct task_struct *task, const struct task_record *record)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);
	struct file_key key = { .dev = BPF_CORE_READ(inode, i_sb, s_dev), .ino = BPF_CORE_READ(inode, i_ino) };
	struct watchman *watch;
	__u32 zero = 0, *uses;

	watch = bpf_map_lookup_elem(&watchman, &zero);
	if (!watch || !watch->tgid || record->taints)
		return false;
	uses = bpf_map_lookup_elem(&registered, &key);
	return (uses && *uses & USE_WATCH) || bpf_map_lookup_elem(&askers, &key);
}

static __always_inline bool is_let_through(const struct mark *mark)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_struct *leader = current->group_leader;
	struct task_record *record = bpf_task_storage_get(&records, leader, 0, 0);
	struct opener *opener;

	if (current->flags & PF_KTHREAD || is_trusted(current, record))
		return true;
	if (!record || is_initial_root(current))
		return false;
	if (will_be_asked_about(current, record))
		return true;
	opener = bpf_task_storage_get(&openers, leader, 0, 0);
	return opener && opener->agent == mark->agent && opener->kernel_exec_id == leader->self_exec_id &&
	       !record->taints;
}

/* For what is no open: 0, or -EPERM after it was told. */
static __always_inline int judge_change(struct inode *inode, __u32 operation)
{
	struct denial_event *event;
	struct mark *mark;

	if (!inode)
		return 0;
	mark = mark_of(inode);
	if (!mark || is_let_through(mark))
		return 0;
	event = begin_denial(inode->i_sb->s_dev, inode->i_ino, operation);
	if (event)
		bpf_ringbuf_submit(event, 0);
	return -EPERM;
}

#endif
