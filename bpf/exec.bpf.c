// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sched_process_exec: a new image is in place and has not run its first instruction.
 *
 * Why this hook: exec_binprm() calls it after the last binary format took over (for a script, after the
 * interpreter was loaded), with the new mm active: mm->exe_file is the file that the kernel mapped, and the
 * argument and environment strings lie on the new stack, where nobody has changed them yet. A process can rewrite
 * /proc/PID/environ later; it can't rewrite this. de_thread() has made the caller the group's leader by now.
 */
#include "taint.h"

#define SIGUSR1_BIT (1UL << 9)

struct strings_walk {
	__u64 start;
	__u32 bytes;
	__u32 failed;
	struct task_record record;
};

static long send_piece(__u32 index, void *context)
{
	struct strings_walk *walk = context;
	__u32 offset = index * STRINGS_PIECE_BYTES;
	struct strings_event *event;
	__u32 bytes;

	if (offset >= walk->bytes)
		return 1;
	bytes = walk->bytes - offset;
	if (bytes > STRINGS_PIECE_BYTES)
		bytes = STRINGS_PIECE_BYTES;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		walk->failed = 1;
		return 1;
	}
	begin_event(&event->header, EVENT_STRINGS, sizeof(*event), &walk->record);
	event->offset_bytes = offset;
	event->piece_bytes = bytes;
	if (bpf_probe_read_user(event->piece, bytes, (void *)(walk->start + offset)))
		walk->failed = 1;
	submit_event(event);
	return walk->failed ? 1 : 0;
}

/* Send all strings of a registered image; returns the flags that tell how it went. */
static __always_inline __u32 send_strings(struct mm_struct *mm, const struct task_record *record,
					  struct counters *count)
{
	__u64 start = BPF_CORE_READ(mm, arg_start), end = BPF_CORE_READ(mm, env_end);
	struct strings_walk walk = { .start = start, .record = *record };

	/* the kernel lays the environment right behind the arguments (create_elf_tables) */
	if (end < start || BPF_CORE_READ(mm, arg_end) != BPF_CORE_READ(mm, env_start))
		return EXEC_REGISTERED | EXEC_STRINGS_LOST;
	if (end - start > MAX_STRINGS_BYTES)
		return EXEC_REGISTERED | EXEC_STRINGS_TOO_LONG;
	walk.bytes = end - start;
	bpf_loop(MAX_STRINGS_BYTES / STRINGS_PIECE_BYTES, send_piece, &walk, 0);
	if (!walk.failed)
		return EXEC_REGISTERED;
	__sync_fetch_and_add(&count->lost_strings, 1);
	return EXEC_REGISTERED | EXEC_STRINGS_LOST;
}

static __always_inline void read_names(struct exec_event *event, struct linux_binprm *bprm, struct mm_struct *mm)
{
	const char *filename = BPF_CORE_READ(bprm, filename), *interp = BPF_CORE_READ(bprm, interp);
	__u64 start = BPF_CORE_READ(mm, arg_start), bytes = BPF_CORE_READ(mm, arg_end) - start;
	long got = bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), filename);

	event->filename_bytes = got > 0 ? got - 1 : 0;
	event->interp_bytes = 0;
	if (interp != filename) {
		event->flags |= EXEC_IS_SCRIPT;
		got = bpf_probe_read_kernel_str(event->interp, sizeof(event->interp), interp);
		event->interp_bytes = got > 0 ? got - 1 : 0;
	}
	event->args_bytes = bytes;
	event->strings_bytes = BPF_CORE_READ(mm, env_end) - start;
	if (bytes > ARGS_HEAD_BYTES)
		bytes = ARGS_HEAD_BYTES;
	event->args_head_bytes = bpf_probe_read_user(event->args_head, bytes, (void *)start) ? 0 : bytes;
}

/* What can make a genuine file run foreign code: a tracer, and whoever decides what lies under which path. */
static __always_inline __u32 read_surroundings(struct task_struct *task, struct inode *inode)
{
	__u32 flags = task->ptrace && !is_root(task->parent) ? EXEC_TRACED : 0;

	if (BPF_CORE_READ(task, real_cred, user_ns, level) > 0)
		flags |= EXEC_USER_NAMESPACE;
	if (BPF_CORE_READ(inode, i_sb, s_user_ns, level) > 0)
		flags |= EXEC_USER_MOUNTED;
	/* execution itself counts down; before 6.11 and since 6.13 nobody gets here with a writer (ETXTBSY) */
	if (BPF_CORE_READ(inode, i_writecount.counter) > 0)
		flags |= EXEC_OPEN_FOR_WRITING;
	if ((BPF_CORE_READ(task, signal, shared_pending.signal.sig[0]) | BPF_CORE_READ(task, pending.signal.sig[0])) &
	    SIGUSR1_BIT)
		flags |= EXEC_SIGNALLED;
	return flags;
}

static __always_inline void fill_exec(struct exec_event *event, struct task_struct *task, struct linux_binprm *bprm,
				      const struct task_record *record, __u64 previous_exec_id)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	begin_event(&event->header, EVENT_EXEC, sizeof(*event), record);
	event->previous_exec_id = previous_exec_id;
	event->pid = task->tgid;
	event->uid = BPF_CORE_READ(task, real_cred, uid.val);
	event->flags = read_surroundings(task, BPF_CORE_READ(mm, exe_file, f_inode));
	event->pad = 0;
	event->mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	read_file(BPF_CORE_READ(mm, exe_file), &event->file);
	read_names(event, bprm, mm);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct task_record *record = record_of(task);
	struct counters *count = the_counters();
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct inode *inode = BPF_CORE_READ(mm, exe_file, f_inode);
	struct file_key key = { .dev = BPF_CORE_READ(inode, i_sb, s_dev), .ino = BPF_CORE_READ(inode, i_ino) };
	struct exec_event *event;
	__u64 previous_exec_id;
	__u32 flags = 0, *uses;

	if (!record || !count)
		return 0;
	if (is_guarded(task, record))
		record->under_agent = 1;
	record->kernel_exec_id = task->self_exec_id;
	previous_exec_id = record->exec_id;
	record->exec_id = __sync_fetch_and_add(&count->last_exec_id, 1) + 1;
	if (record->written_mm == (__u64)mm)
		flags |= EXEC_WRITTEN;
	record->written_mm = 0;
	record->taints = 0;
	uses = bpf_map_lookup_elem(&registered, &key);
	record->watched = uses ? *uses & (USE_WATCH | USE_GUARD) : 0;
	if (record->watched)
		flags |= send_strings(mm, record, count);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&count->lost_exec, 1);
		return 0;
	}
	fill_exec(event, task, bprm, record, previous_exec_id);
	event->flags |= flags;
	submit_event(event);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
