/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the programs of the bcc backend share: maps, records, and how a kernel field is read.
 *
 * There is no CO-RE here: the loader passes each field's offset in the running kernel as -DOFFSET_struct__field
 * (kernel/bcc/fields.py), so no definition of a kernel structure is compiled in. There is no task storage either: a
 * record lies in a hash map, under its thread group's number and start time, which no other one ever has.
 */
#include "events.h"

#define WAKE_EACH 64 /* bcc can't ask a ring how full it is (bpf/maps.h, WAKE_AT_BYTES) */
#define MAX_PROCESSES (128 * 1024)

#define FIELD(type, base, name)                                                                                        \
	({                                                                                                             \
		type _value = 0;                                                                                       \
		bpf_probe_read_kernel(&_value, sizeof(_value), (const char *)(base) + OFFSET_##name);                  \
		_value;                                                                                                \
	})
#define POINTER(base, name) ((const char *)FIELD(u64, base, name))

struct task_key {
	u64 start_ns; /* CLOCK_BOOTTIME */
	u32 tgid;
	u32 pad;
};

/* In the place of struct task_record (kernel/bcc/records.py). A taint has a byte of its own, by its bit's number: the
 * instruction set that bcc compiles for can't set a bit that another CPU sees. */
#define TAINTS 8

struct process {
	u64 proc_id;
	u64 exec_id;
	u64 written_mm;
	u64 kernel_exec_id;
	u8 taints[TAINTS];
	u32 watched; /* enum use */
	u32 pad;
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_F_TABLE("hash", struct task_key, struct process, records, MAX_PROCESSES, BPF_F_NO_PREALLOC);
/* Which of the groups that had a number has it now: by this, user space finds a record by pidfd. */
BPF_F_TABLE("hash", u32, u64, starts, MAX_PROCESSES, BPF_F_NO_PREALLOC);
BPF_ARRAY(counters, struct counters, 1);
BPF_HASH(registered, struct file_key, u32, 4096);

static __always_inline struct counters *the_counters(void)
{
	int zero = 0;

	return counters.lookup(&zero);
}

static __always_inline struct task_key key_of(const char *leader)
{
	struct task_key key = {};

	key.start_ns = FIELD(u64, leader, task_struct__start_boottime);
	key.tgid = FIELD(u32, leader, task_struct__tgid);
	return key;
}

static __always_inline const char *leader_of(const char *task)
{
	return POINTER(task, task_struct__group_leader);
}

static __always_inline u32 uid_of(const char *task)
{
	return FIELD(u32, POINTER(task, task_struct__real_cred), cred__uid);
}

static __always_inline void begin_event(struct event_header *header, u32 kind, u32 size_bytes,
					const struct process *record)
{
	header->kind = kind;
	header->size_bytes = size_bytes;
	header->time_ns = bpf_ktime_get_boot_ns();
	header->proc_id = record->proc_id;
	header->exec_id = record->exec_id;
}

static __always_inline u64 wake_flags(const struct event_header *header)
{
	return (header->proc_id + header->exec_id) % WAKE_EACH ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP;
}

static __always_inline void read_inode(const char *inode, struct file_facts *facts)
{
	const char *super = POINTER(inode, inode__i_sb);

	facts->dev = FIELD(u32, super, super_block__s_dev);
	facts->fs_magic = FIELD(u64, super, super_block__s_magic);
	facts->ino = FIELD(u64, inode, inode__i_ino);
	facts->size_bytes = FIELD(u64, inode, inode__i_size);
	facts->generation = FIELD(u32, inode, inode__i_generation);
	facts->mode = FIELD(u16, inode, inode__i_mode);
	facts->owner_uid = FIELD(u32, inode, inode__i_uid);
	facts->nlink = FIELD(u32, inode, inode__i_nlink);
	/* seconds and nanoseconds apart: they are one structure or two members, which one depends on the kernel; the top
	 * bit of the latter is multigrain's mark (6.13, I_CTIME_QUERIED) */
	facts->mtime_ns = FIELD(s64, inode, inode__mtime_s) * 1000000000LL + FIELD(u32, inode, inode__mtime_ns);
	facts->ctime_ns = FIELD(s64, inode, inode__ctime_s) * 1000000000LL +
			  (FIELD(u32, inode, inode__ctime_ns) & 0x7fffffff);
}

static __always_inline const char *executable_of(const char *task)
{
	const char *mm = POINTER(task, task_struct__mm);
	const char *file = mm ? POINTER(mm, mm_struct__exe_file) : 0;

	return file ? POINTER(file, file__f_inode) : 0;
}

static __always_inline void tell_seed(const char *leader, const struct process *record, struct counters *count)
{
	struct seed_event *event = events.ringbuf_reserve(sizeof(struct seed_event));
	const char *inode;

	if (!event) {
		__sync_fetch_and_add(&count->lost_seed, 1);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	begin_event(&event->header, EVENT_SEED, sizeof(*event), record);
	event->start_ns = FIELD(u64, leader, task_struct__start_boottime);
	event->pid = FIELD(u32, leader, task_struct__tgid);
	event->parent_pid = FIELD(u32, POINTER(leader, task_struct__real_parent), task_struct__tgid);
	event->uid = uid_of(leader);
	inode = executable_of(leader);
	if (inode)
		read_inode(inode, &event->file);
	events.ringbuf_submit(event, wake_flags(&event->header));
}

/* Give a process that has no record (it is older than our hooks) numbers, and say so. */
static __always_inline struct process *seed_record(const char *leader, struct task_key *key)
{
	struct counters *count = the_counters();
	struct process fresh = {}, *record;

	if (!count)
		return 0;
	fresh.proc_id = __sync_fetch_and_add(&count->last_proc_id, 1) + 1;
	fresh.exec_id = __sync_fetch_and_add(&count->last_exec_id, 1) + 1;
	fresh.kernel_exec_id = FIELD(u64, leader, task_struct__self_exec_id);
	records.insert(key, &fresh);
	record = records.lookup(key);
	if (!record || starts.update(&key->tgid, &key->start_ns)) {
		__sync_fetch_and_add(&count->lost_record, 1);
		return record;
	}
	if (record->proc_id == fresh.proc_id) /* else another CPU was first */
		tell_seed(leader, &fresh, count);
	return record;
}

static __always_inline struct process *record_of(const char *leader)
{
	struct task_key key = key_of(leader);
	struct process *record = records.lookup(&key);

	return record ? record : seed_record(leader, &key);
}
