/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a hook does that sees one process take hold of another: it marks the victim's record, and tells once.
 */
#ifndef AGENT_BROKER_TAINT_H
#define AGENT_BROKER_TAINT_H

#include "maps.h"

/* Root in the initial user namespace may debug whatever it likes; it could switch us off as well. */
static __always_inline bool is_root(struct task_struct *task)
{
	return BPF_CORE_READ(task, real_cred, uid.val) == 0;
}

static __always_inline void tell_taint(const struct task_record *victim, struct task_struct *actor, __u32 taint)
{
	struct task_record *actor_record = record_of(actor);
	struct taint_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	struct counters *count;

	if (!event) {
		count = the_counters();
		if (count)
			__sync_fetch_and_add(&count->lost_taint, 1);
		return;
	}
	begin_event(&event->header, EVENT_TAINT, sizeof(*event), victim);
	event->actor_proc_id = actor_record ? actor_record->proc_id : 0;
	event->actor_exec_id = actor_record ? actor_record->exec_id : 0;
	event->actor_pid = BPF_CORE_READ(actor, tgid);
	event->taint = taint;
	submit_event(event);
}

/* Mark the process of `leader`, for what the process of the leader `actor` did; the bit stays until its next exec. */
static __always_inline void taint_by_anybody(struct task_struct *leader, struct task_struct *actor, __u32 taint)
{
	struct task_record *record = bpf_task_storage_get(&records, leader, 0, 0);

	if (!record || !record->watched || record->taints & taint)
		return;
	__sync_fetch_and_or(&record->taints, taint);
	tell_taint(record, actor, taint);
}

/* The same, unless root did it. */
static __always_inline void taint_process(struct task_struct *leader, struct task_struct *actor, __u32 taint)
{
	if (!is_root(actor))
		taint_by_anybody(leader, actor, taint);
}

#endif
