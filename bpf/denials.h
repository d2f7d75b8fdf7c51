/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How it is told that somebody was denied a file, or did something to us, or was kept from it.
 */
#ifndef AGENT_BROKER_DENIALS_H
#define AGENT_BROKER_DENIALS_H

#include "maps.h"

#define EPERM 1
#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

/* Apart from the other events: whoever opens a mark in a loop can't make lineage be lost. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} opens SEC(".maps");

/* The processes of the monitor and the broker. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64); /* kernel_exec_id */
} daemons SEC(".maps");

static __always_inline bool is_daemon(struct task_struct *leader)
{
	__u64 *kernel_exec_id = bpf_task_storage_get(&daemons, leader, 0, 0);

	return kernel_exec_id && *kernel_exec_id == BPF_CORE_READ(leader, self_exec_id);
}

static __always_inline bool is_initial_root(struct task_struct *task)
{
	return BPF_CORE_READ(task, real_cred, uid.val) == 0 && BPF_CORE_READ(task, real_cred, user_ns, level) == 0;
}

/* Root, unless it is an agent's doing. A process without a record is younger than our hooks' end. */
static __always_inline bool is_trusted(struct task_struct *task, const struct task_record *record)
{
	return is_initial_root(task) && !(record && (record->under_agent || is_guarded(task->group_leader, record)));
}

static __always_inline struct denial_event *begin_denial(__u64 dev, __u64 ino, __u32 operation)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_record *record = bpf_task_storage_get(&records, current->group_leader, 0, 0);
	struct denial_event *event = bpf_ringbuf_reserve(&opens, sizeof(*event), 0);
	struct task_record nobody = {};
	struct counters *count;

	if (!event) {
		count = the_counters();
		if (count)
			__sync_fetch_and_add(&count->lost_denial, 1);
		return 0;
	}
	/* after the monitor's death a record may be of an older image: then it says nothing */
	if (record && record->kernel_exec_id != current->group_leader->self_exec_id)
		record = 0;
	begin_event(&event->header, EVENT_DENIAL, sizeof(*event), record ? record : &nobody);
	event->dev = dev;
	event->ino = ino;
	event->operation = operation;
	event->flags = 0;
	event->denied = 1;
	event->pad = 0;
	event->pid = current->tgid;
	event->uid = BPF_CORE_READ(current, real_cred, uid.val);
	bpf_get_current_comm(event->command, sizeof(event->command));
	event->name[0] = 0;
	return event;
}

/* What was done to us, or tried, by a process that is not trusted; `flags`: see enum operation. */
static __always_inline void tell_attack(__u64 on, __u32 operation, __u32 flags, __u32 denied)
{
	struct denial_event *event = begin_denial(0, on, operation);

	if (!event)
		return;
	event->flags = flags;
	event->denied = denied;
	bpf_ringbuf_submit(event, 0);
}

#endif
