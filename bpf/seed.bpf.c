// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * iter/task: every task that lives when user space reads the iterator.
 *
 * Why an iterator: processes older than our hooks have no record. The iterator runs after the hooks are attached,
 * so between both nobody is missed; who already has a record (it forked meanwhile) is left alone. Nothing is
 * written to the reader: the facts go through the ring, in order with everything else.
 */
#include "maps.h"

SEC("iter/task")
int seed_task(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_record *record;

	if (!task)
		return 0;
	record = record_of(task->group_leader);
	if (record && task->pid != task->tgid)
		copy_to_thread(task, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
