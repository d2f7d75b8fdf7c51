// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sched_process_exit: a task is on its way out.
 *
 * Why this hook: do_exit() calls it for every thread, after signal->live was counted down; 0 says that the whole
 * group is gone, whichever thread was the last. The record itself needs no clean-up: task storage dies with the
 * task. A lost exit makes nothing unknown: the store only keeps a dead process longer. The tracepoint comes before
 * the task's files are closed: from here on nobody is let through because our own monitor would be asked about it.
 */
#include "maps.h"

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_record *record;
	struct watchman *watch;
	__u32 zero = 0;
	struct exit_event *event;
	struct counters *count;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	watch = bpf_map_lookup_elem(&watchman, &zero);
	if (watch && watch->tgid == (__u32)task->tgid)
		watch->tgid = 0;
	record = bpf_task_storage_get(&records, task->group_leader, 0, 0);
	if (!record)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count = the_counters();
		if (count)
			__sync_fetch_and_add(&count->lost_exit, 1);
		return 0;
	}
	begin_event(&event->header, EVENT_EXIT, sizeof(*event), record);
	submit_event(event);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
