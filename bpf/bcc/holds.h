/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One process takes hold of another: the hooks of bpf/{trace,memory,signal}.bpf.c, where it is said why these.
 */
#define TASK_TRACED_BIT 0x8     /* __TASK_TRACED, include/linux/sched.h */
#define PF_KTHREAD 0x00200000   /* include/linux/sched.h */
#define PF_IO_WORKER 0x00000010
#define SIGUSR1 10
#define SI_USER 0   /* include/uapi/asm-generic/siginfo.h */
#define SI_QUEUE -1
#define SI_TIMER -2
#define SI_MESGQ -3
#define SI_TKILL -6

/* enum taint, as numbers of bits */
#define TAINT_TRACED_BIT 0
#define TAINT_WRITTEN_BIT 1
#define TAINT_SIGNALLED_BIT 4

static __always_inline void tell_taint(const struct process *victim, const char *actor, u32 taint)
{
	struct process *actor_record = record_of(actor);
	struct taint_event *event = events.ringbuf_reserve(sizeof(struct taint_event));
	struct counters *count = the_counters();

	if (!event) {
		if (count)
			__sync_fetch_and_add(&count->lost_taint, 1);
		return;
	}
	begin_event(&event->header, EVENT_TAINT, sizeof(*event), victim);
	event->actor_proc_id = actor_record ? actor_record->proc_id : 0;
	event->actor_exec_id = actor_record ? actor_record->exec_id : 0;
	event->actor_pid = FIELD(u32, actor, task_struct__tgid);
	event->taint = taint;
	events.ringbuf_submit(event, wake_flags(&event->header));
}

/* Mark the process of `leader` with the taint of this bit's number, for what the process of the leader `actor` did; the bit stays until its
 * next exec. */
static __always_inline void taint_process(const char *leader, const char *actor, u32 number)
{
	struct task_key key = key_of(leader);
	struct process *record = records.lookup(&key);

	if (!record || !record->watched || record->taints[number % TAINTS])
		return;
	record->taints[number % TAINTS] = 1;
	tell_taint(record, actor, 1 << number);
}

int on_sched_switch(struct bpf_raw_tracepoint_args *ctx)
{
	const char *before = (const char *)ctx->args[1], *tracer;

	if (!FIELD(u32, before, task_struct__ptrace) || !(FIELD(u32, before, task_struct__state) & TASK_TRACED_BIT))
		return 0;
	tracer = leader_of(POINTER(before, task_struct__parent));
	if (uid_of(tracer) != 0)
		taint_process(leader_of(before), tracer, TAINT_TRACED_BIT);
	return 0;
}

/* Without BTF there are no helpers that give or take a typed task: then its registers are at the end of its stack. */
#ifdef REGISTERS_AT
#define CURRENT_TASK() ((void *)bpf_get_current_task())
#define pt_regs_of(task) (POINTER(task, task_struct__stack) + REGISTERS_AT)
#else
#define CURRENT_TASK() bpf_get_current_task_btf()
static long (*pt_regs_of)(void *task) = (void *)BPF_FUNC_task_pt_regs;
#endif

/* What a task is doing is told by its system call's number; the lists are those of bpf/memory.bpf.c. */
static __always_inline bool writes(void *task)
{
	const char *registers = (const char *)pt_regs_of(task);
#if defined(__x86_64__)
	u64 number = FIELD(u64, registers, pt_regs__orig_ax) & ~0x40000000ULL; /* __X32_SYSCALL_BIT */

	if (FIELD(u32, task, task_struct__status) & 2) /* TS_COMPAT */
		return number == 4 || number == 26 || number == 146 || number == 181 || number == 187 || number == 239 ||
		       number == 313 || number == 426 || number == 334 || number == 348 || number == 377 || number == 379;
	return number == 1 || number == 18 || number == 20 || number == 40 || number == 101 || number == 275 ||
	       number == 278 || number == 296 || number == 311 || number == 326 || number == 328 || number == 426 ||
	       number == 516 || number == 521 || number == 535 || number == 540 || number == 547;
#else
	s32 number = FIELD(s32, registers, pt_regs__syscallno);

	return number == 64 || number == 66 || number == 68 || number == 70 || number == 71 || number == 75 ||
	       number == 76 || number == 117 || number == 271 || number == 285 || number == 287 || number == 426;
#endif
}

int on_mmap_lock_acquire_returned(struct bpf_raw_tracepoint_args *ctx)
{
	void *current = CURRENT_TASK();
	const char *mm = (const char *)ctx->args[0], *victim;
	struct process *record;
	struct task_key key;
	u32 flags;

	if (mm == POINTER(current, task_struct__mm))
		return 0;
	flags = FIELD(u32, current, task_struct__flags);
	if (flags & PF_KTHREAD)
		return 0;
	victim = POINTER(mm, mm_struct__owner);
	if (!victim || uid_of(current) == 0)
		return 0;
	if (!(flags & PF_IO_WORKER) && !writes(current))
		return 0;
	victim = leader_of(victim);
	key = key_of(victim);
	record = records.lookup(&key);
	if (!record)
		return 0;
	/* an exec lets others at the new address space before its hook is called, while the record is the old image's */
	record->written_mm = (u64)mm;
	taint_process(victim, leader_of(current), TAINT_WRITTEN_BIT);
	return 0;
}

int on_signal_generate(struct bpf_raw_tracepoint_args *ctx)
{
	const char *current = (const char *)bpf_get_current_task();
	const char *info = (const char *)ctx->args[1], *task = (const char *)ctx->args[2];
	s32 code = SI_USER;

	if (ctx->args[0] != SIGUSR1 || FIELD(u32, task, task_struct__tgid) == FIELD(u32, current, task_struct__tgid))
		return 0;
	if ((u64)info > 1) /* not SEND_SIG_NOINFO, SEND_SIG_PRIV */
		code = FIELD(s32, info, kernel_siginfo__si_code);
	if (code == SI_TIMER || code == SI_MESGQ)
		return 0;
	/* where the kernel sends it for somebody (F_SETSIG), current may be anybody, root too */
	if ((code == SI_USER || code == SI_QUEUE || code == SI_TKILL) && uid_of(current) == 0)
		return 0;
	taint_process(leader_of(task), leader_of(current), TAINT_SIGNALLED_BIT);
	return 0;
}
