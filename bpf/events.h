/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel side tells user space. Mirrored by broker/agent_broker/kernel/wire.py; a test compares
 * both by the object's BTF. All numbers in the machine's own byte order; every padding is named.
 */
#ifndef AGENT_BROKER_EVENTS_H
#define AGENT_BROKER_EVENTS_H

enum event_kind {
	EVENT_FORK = 1,
	EVENT_EXEC = 2,
	EVENT_EXIT = 3,
	EVENT_SEED = 4,    /* a process older than the monitor */
	EVENT_STRINGS = 5, /* a piece of a registered image's arguments and environment, before its EXEC */
};

enum exec_flag {
	EXEC_IS_SCRIPT = 1 << 0,        /* interp differs from filename */
	EXEC_TRACED = 1 << 1,           /* a tracer was attached at exec */
	EXEC_REGISTERED = 1 << 2,       /* its strings were wanted */
	EXEC_STRINGS_TOO_LONG = 1 << 3, /* more than MAX_STRINGS_BYTES: nothing was sent */
	EXEC_STRINGS_LOST = 1 << 4,     /* a piece could not be read or handed over */
};

/* Paths and arguments for display; longer ones are cut. */
#define FILENAME_BYTES 256
#define INTERP_BYTES 128
#define ARGS_HEAD_BYTES 256
/* Arguments and environment of a registered image are captured whole up to this, else not at all. */
#define STRINGS_PIECE_BYTES 4096
#define MAX_STRINGS_BYTES (128 * 1024)

struct event_header {
	__u32 kind;
	__u32 size_bytes;
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 proc_id;
	__u64 exec_id;
}; /* 32 bytes */

struct file_facts {
	__u64 dev; /* the kernel's s_dev */
	__u64 ino;
	__u64 size_bytes;
	__s64 mtime_ns;
	__s64 ctime_ns;
	__u64 fs_magic;
	__u32 generation;
	__u32 mode;
	__u32 owner_uid;
	__u32 nlink;
}; /* 64 bytes */

/* header.proc_id is the child's; header.exec_id the image that it shares with its parent. */
struct fork_event {
	struct event_header header;
	__u64 parent_proc_id;
	__u32 child_pid;
	__u32 parent_pid;
};

struct exec_event {
	struct event_header header;
	__u64 previous_exec_id;
	struct file_facts file;
	__u32 pid;
	__u32 uid;
	__u32 flags;
	__u32 args_bytes;    /* of the whole argument area */
	__u32 strings_bytes; /* of arguments and environment together */
	__u16 filename_bytes;
	__u16 interp_bytes;
	__u16 args_head_bytes;
	__u16 pad;
	__u32 pad2;
	char filename[FILENAME_BYTES];
	char interp[INTERP_BYTES];
	char args_head[ARGS_HEAD_BYTES];
};

struct exit_event {
	struct event_header header;
};

struct seed_event {
	struct event_header header;
	struct file_facts file; /* all zero for kernel threads */
	__u64 start_ns;         /* CLOCK_BOOTTIME */
	__u32 pid;
	__u32 parent_pid;
	__u32 uid;
	__u32 pad;
};

struct strings_event {
	struct event_header header;
	__u32 offset_bytes;
	__u32 piece_bytes;
	char piece[STRINGS_PIECE_BYTES];
};

/* A process as the kernel side knows it now: looked up by pidfd. One a thread group, on the leader. */
struct task_record {
	__u64 proc_id;
	__u64 exec_id;
	__u64 taint_generation;
};

struct file_key {
	__u64 dev;
	__u64 ino;
};

/* The one element of the `counters` map. */
struct counters {
	__u64 last_proc_id;
	__u64 last_exec_id;
	__u64 lost_fork;
	__u64 lost_exec;
	__u64 lost_exit;
	__u64 lost_seed;
	__u64 lost_strings;
	__u64 lost_record; /* task storage was refused */
};

/* What an iteration over open files looks for: the one element of the `files_query` map. */
struct files_query {
	__u64 socket_ino; /* not 0: holders of this socket */
	__u32 pid;        /* else: this process's descriptor `fd` */
	__u32 fd;
};

struct open_file {
	__u32 pid;
	__u32 fd;
	struct file_facts file;
};

#endif
