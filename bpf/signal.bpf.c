// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * signal_generate: a signal is about to be delivered, or to wait.
 *
 * Why this hook: SIGUSR1 makes a Node program open its debugger on a loopback port, where every process of the machine
 * may have it run code: no ptrace, no write to memory. Whoever sends it needs no more than the same user.
 *
 * And whoever signals one of our daemons, and is not root by its own doing, is told, before the daemon dies of it.
 */
#include "denials.h"
#include "taint.h"

#define SIGUSR1 10
#define SIGCHLD 17
#define SIGCONT 18
#define SI_USER 0   /* include/uapi/asm-generic/siginfo.h: kill() */
#define SI_QUEUE -1 /* sigqueue() */
#define SI_TIMER -2 /* a timer of the process's own, which goes off under whoever runs then */
#define SI_MESGQ -3 /* a message queue on which the process itself asked for it */
#define SI_TKILL -6 /* tkill(), tgkill() */

struct kernel_siginfo {
	int si_code;
} __attribute__((preserve_access_index));

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int number, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_record *record;
	int code = SI_USER;

	if (task->tgid == current->tgid || number == SIGCHLD || number == SIGCONT)
		return 0;
	if (number != SIGUSR1 && !is_daemon(task->group_leader))
		return 0;
	if ((__u64)info > 1) /* not SEND_SIG_NOINFO, SEND_SIG_PRIV */
		code = BPF_CORE_READ(info, si_code);
	if (code == SI_TIMER || code == SI_MESGQ)
		return 0;
	if (is_daemon(task->group_leader)) {
		record = bpf_task_storage_get(&records, current->group_leader, 0, 0);
		if ((code == SI_USER || code == SI_QUEUE || code == SI_TKILL) && !is_trusted(current, record))
			tell_attack(task->tgid, OPERATION_SIGNAL, number, 0);
		return 0;
	}
	/* where the kernel sends it for somebody (F_SETSIG), current may be anybody, root too */
	if ((code == SI_USER || code == SI_QUEUE || code == SI_TKILL) && is_root(current))
		return 0;
	taint_by_anybody(task->group_leader, current->group_leader, TAINT_SIGNALLED);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
