// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * mmap_lock_acquire_returned: a task holds the lock of an address space.
 *
 * Why this hook: whoever reaches into another process's memory (process_vm_writev, a write to /proc/PID/mem,
 * PTRACE_POKEDATA) takes that process's mmap lock; everybody else takes its own. Which of it is writing is told by
 * the system call that the task is in. So no system call of the machine is slower; taking the lock is, a little.
 *
 * io_uring does on behalf of a task, perhaps in a worker of it, what it was told: reading and writing look alike, and
 * nobody reads another process's memory files by it, so all of it counts.
 */
#include "taint.h"

#define PF_KTHREAD 0x00200000   /* include/linux/sched.h */
#define PF_IO_WORKER 0x00000010
#define COMPAT_BIT 2            /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
#define X32_BIT 0x40000000      /* __X32_SYSCALL_BIT */

struct thread_info {
	__u32 status;
} __attribute__((preserve_access_index));

struct task_struct___x86 {
	struct thread_info thread_info;
} __attribute__((preserve_access_index));

#if defined(__TARGET_ARCH_x86)
struct pt_regs___here {
	unsigned long orig_ax;
} __attribute__((preserve_access_index));

/* arch/x86/entry/syscalls/syscall_64.tbl, syscall_32.tbl */
static __always_inline bool writes(struct task_struct *task, struct pt_regs___here *regs)
{
	struct task_struct___x86 *x86 = (void *)task;
	__u64 number = BPF_CORE_READ(regs, orig_ax) & ~(__u64)X32_BIT;

	if (BPF_CORE_READ(x86, thread_info.status) & COMPAT_BIT)
		/* write ptrace writev pwrite64 sendfile sendfile64 splice io_uring_enter pwritev process_vm_writev
		 * copy_file_range pwritev2 pwritev64v2 */
		return number == 4 || number == 26 || number == 146 || number == 181 || number == 187 || number == 239 ||
		       number == 313 || number == 426 || number == 334 || number == 348 || number == 377 || number == 379;
	/* write pwrite64 writev sendfile ptrace splice vmsplice pwritev process_vm_writev copy_file_range pwritev2
	 * io_uring_enter; 516, 535, 540, 546: writev, pwritev, process_vm_writev, pwritev2 of x32 */
	return number == 1 || number == 18 || number == 20 || number == 40 || number == 101 || number == 275 ||
	       number == 278 || number == 296 || number == 311 || number == 326 || number == 328 || number == 426 ||
	       number == 516 || number == 521 || number == 535 || number == 540 || number == 547;
}
#else
struct pt_regs___here {
	int syscallno;
} __attribute__((preserve_access_index));

/* include/uapi/asm-generic/unistd.h; a 32-bit task's numbers are other ones, so all of its reaching in counts */
static __always_inline bool writes(struct task_struct *task, struct pt_regs___here *regs)
{
	int number = BPF_CORE_READ(regs, syscallno);

	return number == 64 || number == 66 || number == 68 || number == 70 || number == 71 || number == 75 ||
	       number == 76 || number == 117 || number == 271 || number == 285 || number == 287 || number == 426;
}
#endif

/* An exec lets others at the new address space before exec.bpf.c sees it, while the record is the old image's. */
static __always_inline void note_address_space(struct task_struct *leader, struct task_struct *actor,
					       struct mm_struct *mm)
{
	struct task_record *record = bpf_task_storage_get(&records, leader, 0, 0);

	if (record && !is_root(actor))
		record->written_mm = (__u64)mm;
}

/* More arguments follow, which ones depends on the kernel (until 6.13 a cgroup's path comes first). */
SEC("tp_btf/mmap_lock_acquire_returned")
int BPF_PROG(on_mmap_lock, struct mm_struct *mm)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct task_struct *victim;

	if (mm == current->mm || current->flags & PF_KTHREAD)
		return 0;
	victim = mm->owner;
	if (!victim)
		return 0;
	if (!(current->flags & PF_IO_WORKER) && !writes(current, (void *)bpf_task_pt_regs(current)))
		return 0;
	note_address_space(victim->group_leader, current, mm);
	taint_process(victim->group_leader, current->group_leader, TAINT_WRITTEN);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
