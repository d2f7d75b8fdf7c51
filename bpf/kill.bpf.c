// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/task_kill: a task sends a signal (enforce tier).
 *
 * Why this hook: who stops or kills the monitor or the broker ends what they watch. Root may, an agent's sudo may not.
 * Signal 0 only asks whether a process is there.
 */
#include "denials.h"

struct kernel_siginfo;

SEC("lsm/task_kill")
int BPF_PROG(on_kill, struct task_struct *victim, struct kernel_siginfo *info, int number, const struct cred *as)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_record *record;

	if (!number || victim->tgid == current->tgid || !is_daemon(victim->group_leader))
		return 0;
	record = bpf_task_storage_get(&records, current->group_leader, 0, 0);
	if (current->flags & PF_KTHREAD || is_trusted(current, record))
		return 0;
	tell_attack(victim->tgid, OPERATION_SIGNAL, number, 1);
	return -EPERM;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
