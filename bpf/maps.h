/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps that all objects share, and what every hook does with them. Each object defines them alike; the
 * loader creates them once and hands the same maps to all (kernel/loader.py).
 */
#ifndef AGENT_BROKER_MAPS_H
#define AGENT_BROKER_MAPS_H

#include "kernel_types.h"
#include "events.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* User space is woken when this much waits; below, it comes by itself within the monitor's poll interval, or at
 * once when it attests. A wake-up for each event would cost every exec of the machine a context switch. */
#define WAKE_AT_BYTES (32 * 1024)

#define S_IWGRP_OTH 0022 /* the group or everybody may write */
#define FMODE_NOACCOUNT 0x20000000 /* include/linux/fs.h; of what programs map, only the files of layers have it */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct file_key);
	__type(value, __u32); /* enum use */
} registered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sender);
} senders SEC(".maps");

/* exec_id of the image that user space wants guarded. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} guards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct watchman);
} watchman SEC(".maps");

static __always_inline struct counters *the_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline void begin_event(struct event_header *header, __u32 kind, __u32 size_bytes,
					const struct task_record *record)
{
	header->kind = kind;
	header->size_bytes = size_bytes;
	header->time_ns = bpf_ktime_get_boot_ns();
	header->proc_id = record->proc_id;
	header->exec_id = record->exec_id;
}

static __always_inline void submit_event(void *event)
{
	__u64 flags = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= WAKE_AT_BYTES ? BPF_RB_FORCE_WAKEUP :
										       BPF_RB_NO_WAKEUP;

	bpf_ringbuf_submit(event, flags);
}

static __always_inline void read_times(struct inode *inode, struct file_facts *facts)
{
	struct inode___discrete *discrete = (void *)inode;
	struct inode___underscored *underscored = (void *)inode;
	struct inode___timespec *plain = (void *)inode;

	if (bpf_core_field_exists(discrete->i_ctime_sec)) {
		facts->mtime_ns = BPF_CORE_READ(discrete, i_mtime_sec) * 1000000000LL +
				  BPF_CORE_READ(discrete, i_mtime_nsec);
		/* the top bit of i_ctime_nsec is multigrain's "queried" mark (6.13, I_CTIME_QUERIED) */
		facts->ctime_ns = BPF_CORE_READ(discrete, i_ctime_sec) * 1000000000LL +
				  (BPF_CORE_READ(discrete, i_ctime_nsec) & 0x7fffffff);
		return;
	}
	if (bpf_core_field_exists(underscored->__i_mtime))
		facts->mtime_ns = BPF_CORE_READ(underscored, __i_mtime.tv_sec) * 1000000000LL +
				  BPF_CORE_READ(underscored, __i_mtime.tv_nsec);
	else
		facts->mtime_ns = BPF_CORE_READ(plain, i_mtime.tv_sec) * 1000000000LL +
				  BPF_CORE_READ(plain, i_mtime.tv_nsec);
	if (bpf_core_field_exists(underscored->__i_ctime))
		facts->ctime_ns = BPF_CORE_READ(underscored, __i_ctime.tv_sec) * 1000000000LL +
				  BPF_CORE_READ(underscored, __i_ctime.tv_nsec);
	else
		facts->ctime_ns = BPF_CORE_READ(plain, i_ctime.tv_sec) * 1000000000LL +
				  BPF_CORE_READ(plain, i_ctime.tv_nsec);
}

/* The inode of a mapping's file as its user named it: overlayfs maps the file of its layer instead. */
static __always_inline struct inode *mapped_inode(struct file *file)
{
	struct backing_file *backing = (void *)file;

	if (!(BPF_CORE_READ(file, f_mode) & FMODE_NOACCOUNT))
		return BPF_CORE_READ(file, f_inode);
	if (bpf_core_field_exists(backing->user_path))
		return BPF_CORE_READ(backing, user_path.dentry, d_inode);
	return BPF_CORE_READ(file, f_path.dentry, d_inode);
}

static __always_inline void read_inode(struct inode *inode, struct file_facts *facts)
{
	facts->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	facts->fs_magic = BPF_CORE_READ(inode, i_sb, s_magic);
	facts->ino = BPF_CORE_READ(inode, i_ino);
	facts->size_bytes = BPF_CORE_READ(inode, i_size);
	facts->generation = BPF_CORE_READ(inode, i_generation);
	facts->mode = BPF_CORE_READ(inode, i_mode);
	facts->owner_uid = BPF_CORE_READ(inode, i_uid.val);
	facts->nlink = BPF_CORE_READ(inode, i_nlink);
	read_times(inode, facts);
}

static __always_inline void read_file(struct file *file, struct file_facts *facts)
{
	read_inode(BPF_CORE_READ(file, f_inode), facts);
}

/* Whether somebody else than root can have decided what is in a file. */
static __always_inline bool others_could_make(const struct file_facts *facts)
{
	return facts->owner_uid != 0 || facts->mode & S_IWGRP_OTH || !facts->nlink;
}

/* Give a process that has no record (it is older than our hooks) numbers, and say so: its exec was not seen. */
static __always_inline struct task_record *seed_record(struct task_struct *leader)
{
	struct task_record fresh = {};
	struct counters *count = the_counters();
	struct task_record *record;
	struct seed_event *event;
	struct file *exe;

	if (!count)
		return 0;
	fresh.proc_id = __sync_fetch_and_add(&count->last_proc_id, 1) + 1;
	fresh.exec_id = __sync_fetch_and_add(&count->last_exec_id, 1) + 1;
	fresh.kernel_exec_id = BPF_CORE_READ(leader, self_exec_id);
	record = bpf_task_storage_get(&records, leader, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!record) {
		__sync_fetch_and_add(&count->lost_record, 1);
		return 0;
	}
	if (record->proc_id != fresh.proc_id) /* another CPU was first */
		return record;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&count->lost_seed, 1);
		return record;
	}
	__builtin_memset(event, 0, sizeof(*event));
	begin_event(&event->header, EVENT_SEED, sizeof(*event), &fresh);
	event->start_ns = BPF_CORE_READ(leader, start_boottime);
	event->pid = BPF_CORE_READ(leader, tgid);
	event->parent_pid = BPF_CORE_READ(leader, real_parent, tgid);
	event->uid = BPF_CORE_READ(leader, real_cred, uid.val);
	exe = BPF_CORE_READ(leader, mm, exe_file);
	if (exe)
		read_file(exe, &event->file);
	submit_event(event);
	return record;
}

static __always_inline struct task_record *record_of(struct task_struct *leader)
{
	struct task_record *record = bpf_task_storage_get(&records, leader, 0, 0);

	return record ? record : seed_record(leader);
}

/* Whether nobody but root may take hold of a process (guard.bpf.c). */
static __always_inline bool is_guarded(struct task_struct *leader, const struct task_record *record)
{
	__u64 *exec_id;

	if (record->watched & USE_GUARD)
		return true;
	exec_id = bpf_task_storage_get(&guards, leader, 0, 0);
	return exec_id && *exec_id == record->exec_id;
}

/* A thread shares its group's record. It carries a copy only so that its own exec finds the numbers: an exec by
 * a thread that is not the leader makes it the leader, and the old leader's storage goes with the old task. */
static __always_inline void copy_to_thread(struct task_struct *thread, const struct task_record *group)
{
	struct task_record copy = *group;
	struct counters *count;

	if (bpf_task_storage_get(&records, thread, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return;
	count = the_counters();
	if (count)
		__sync_fetch_and_add(&count->lost_record, 1);
}

#endif
