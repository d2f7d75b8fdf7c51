// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sched_process_fork: a new task exists and has not run yet.
 *
 * Why this hook: kernel_clone() calls it after copy_process() and before wake_up_new_task(), so the child has its
 * record before it can do anything: no race with a child that connects at once. It fires for fork, vfork, clone,
 * posix_spawn and for threads, and `parent` is the task that called clone, also under CLONE_PARENT, where the
 * child's real_parent is somebody else. A forked child runs its parent's image and is still another process.
 */
#include "maps.h"

static __always_inline void tell_fork(const struct task_record *child_record, const struct task_record *parent_record,
				      struct task_struct *parent, struct task_struct *child, struct counters *count)
{
	struct fork_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&count->lost_fork, 1);
		return;
	}
	begin_event(&event->header, EVENT_FORK, sizeof(*event), child_record);
	event->parent_proc_id = parent_record->proc_id;
	event->child_pid = BPF_CORE_READ(child, tgid);
	event->parent_pid = BPF_CORE_READ(parent, tgid);
	submit_event(event);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_record *parent_record = record_of(parent->group_leader);
	struct counters *count = the_counters();
	struct task_record child_record = {};

	if (!parent_record || !count)
		return 0;
	if (child->pid != child->tgid) {
		copy_to_thread(child, parent_record);
		return 0;
	}
	child_record.proc_id = __sync_fetch_and_add(&count->last_proc_id, 1) + 1;
	child_record.exec_id = parent_record->exec_id;
	child_record.taints = parent_record->taints; /* it is a copy of the parent's memory */
	child_record.watched = parent_record->watched;
	child_record.kernel_exec_id = child->self_exec_id;
	child_record.under_agent = parent_record->under_agent || is_guarded(parent->group_leader, parent_record);
	if (!bpf_task_storage_get(&records, child, &child_record, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
		__sync_fetch_and_add(&count->lost_record, 1);
		return 0;
	}
	tell_fork(&child_record, parent_record, parent, child, count);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
