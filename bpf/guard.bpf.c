// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/ptrace_access_check: a task asks for a hold on another one (enforce tier).
 *
 * Why this hook: ptrace_may_access() is the one gate of PTRACE_ATTACH and PTRACE_SEIZE, process_vm_readv and
 * process_vm_writev, /proc/PID/mem and pidfd_getfd. They ask for PTRACE_MODE_ATTACH; who only looks (ps, /proc/PID/status,
 * environ, maps) asks for PTRACE_MODE_READ and passes. A task's own threads are not asked about at all.
 *
 * Guarded is a process by its file (USE_GUARD, from its exec on), or by its number (`guards`, from when it was
 * attested on: an interpreter's file says nothing about who it is), until its next exec. What was held before, a
 * tracer or an open /proc/PID/mem, is not taken away here: its use taints (trace.bpf.c, memory.bpf.c).
 *
 * Our own daemons are guarded too, also from root below an agent.
 *
 * PTRACE_TRACEME asks nobody here: who is traced from before its exec on is told by the exec event.
 */
#include "denials.h"
#include "taint.h"

#define PTRACE_MODE_ATTACH 0x02 /* include/linux/ptrace.h */

SEC("lsm/ptrace_access_check")
int BPF_PROG(on_hold, struct task_struct *victim, unsigned int mode)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_struct *leader = victim->group_leader;
	struct task_record *record;

	if (!(mode & PTRACE_MODE_ATTACH))
		return 0;
	record = bpf_task_storage_get(&records, current->group_leader, 0, 0);
	if (is_daemon(leader) && !is_trusted(current, record)) {
		tell_attack(victim->tgid, OPERATION_HOLD, 0, 1);
		return -EPERM;
	}
	if (is_root(current))
		return 0;
	record = bpf_task_storage_get(&records, leader, 0, 0);
	if (!record || !is_guarded(leader, record))
		return 0;
	if (!(__sync_fetch_and_or(&record->watched, USE_TOLD) & USE_TOLD))
		tell_taint(record, current->group_leader, TAINT_DENIED);
	return -EPERM;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
