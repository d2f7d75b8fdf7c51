// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sched_switch: a CPU goes from one task to another.
 *
 * Why this hook: a tracer can read and write registers and memory of a task only while that task stands in a
 * ptrace-stop, and ptrace_check_attach() waits until it has left its CPU (wait_task_inactive). So whoever is
 * traced in earnest passes here in state TASK_TRACED with its tracer as `parent`, for PTRACE_ATTACH and PTRACE_SEIZE
 * alike. It costs nothing per system call; per switch, two loads.
 */
#include "taint.h"

#define TASK_TRACED_BIT 0x8 /* __TASK_TRACED, include/linux/sched.h */

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *before, struct task_struct *after)
{
	if (!before->ptrace || !(before->__state & TASK_TRACED_BIT))
		return 0;
	taint_process(before->group_leader, before->parent->group_leader, TAINT_TRACED);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
