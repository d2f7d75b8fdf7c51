/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel types that our programs read, each cut down to the fields read.
 *
 * With preserve_access_index clang records every access by field name, and libbpf relocates it to the
 * running kernel's layout from its BTF (CO-RE). So no kernel headers are needed, neither to build nor to run.
 * A name after ___ is dropped before matching: that is how a field that changed its shape is spelled twice.
 */
#ifndef AGENT_BROKER_KERNEL_TYPES_H
#define AGENT_BROKER_KERNEL_TYPES_H

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

/* linux/bpf.h (UAPI) */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum {
	BPF_ANY = 0,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_SK_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct user_namespace {
	int level; /* 0: the initial one */
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct user_namespace *s_user_ns;
};

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

struct inode {
	__u16 i_mode;
	kuid_t i_uid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	__s64 i_size;
	__u32 i_generation;
	atomic_t i_writecount;
};

/* 6.11 and newer: d0bd1b4e2f3 "fs: turn inode ctime, mtime, atime fields into discrete values" family */
struct inode___discrete {
	__s64 i_mtime_sec;
	__s64 i_ctime_sec;
	__u32 i_mtime_nsec;
	__u32 i_ctime_nsec;
};

/* 6.6 (ctime) and 6.7 (mtime) renamed the timespec64 members to __i_* */
struct inode___underscored {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
};

struct inode___timespec {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
};

struct dentry {
	struct inode *d_inode;
};

struct iattr {
	unsigned int ia_valid;
};

struct mnt_idmap;

struct path {
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	unsigned int f_flags;
	unsigned int f_mode;
	struct path f_path;
};

/* 6.8: def3ae83da02 "fs: store real path instead of fake path in backing file f_path" */
struct backing_file {
	struct path user_path;
};

/* until 6.12 */
struct file___count {
	atomic64_t f_count;
};

/* 6.13: 90ee6ed776c0 "fs: port files to file_ref"; 0 is one reference */
typedef struct {
	atomic64_t refcnt;
} file_ref_t;

struct file___ref {
	file_ref_t f_ref;
};

struct list_head {
	struct list_head *next;
};

struct wait_queue_head {
	struct list_head head;
};

struct socket_wq {
	struct wait_queue_head wait;
};

/* poll() and select(): fs/select.c, include/linux/poll.h */
struct poll_wqueues {
	struct task_struct *polling_task;
};

struct wait_queue_entry {
	void *private;
	struct list_head entry;
};

struct sock;

struct socket {
	struct file *file;
	struct sock *sk;
	struct socket_wq wq;
};

struct sock_common {
	__u16 skc_family;
	__be16 skc_dport;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
};

struct unix_sock {
	struct path path;
	struct sock *peer;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
	struct task_struct *owner;
};

struct cred {
	kuid_t uid;
	struct user_namespace *user_ns;
};

typedef struct {
	unsigned long sig[1];
} sigset_t;

struct sigpending {
	sigset_t signal;
};

struct files_struct {
	atomic_t count;
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	struct sigpending shared_pending;
};

struct task_struct {
	int pid;
	int tgid;
	unsigned int ptrace;
	unsigned int __state;
	unsigned int flags;
	__u64 self_exec_id; /* counts its execs; a fork copies it */
	__u64 start_boottime;
	struct nsproxy *nsproxy;
	struct task_struct *parent; /* the tracer, if there is one */
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct files_struct *files;
	const struct cred *real_cred;
	struct signal_struct *signal;
	struct sigpending pending;
};

struct linux_binprm {
	const char *filename;
	const char *interp;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

#pragma clang attribute pop

/* Contexts of iterators: fixed layouts (__bpf_md_ptr, 8 bytes each), which the verifier wants read at constant
 * offsets, hence not relocated. */
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
};

#endif
