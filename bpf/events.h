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
	EVENT_TAINT = 6,   /* somebody took hold of a process that runs a registered image */
	EVENT_DENIAL = 7,  /* somebody was denied something, or did it to us; in a ring of its own */
};

enum exec_flag {
	EXEC_IS_SCRIPT = 1 << 0,        /* interp differs from filename */
	EXEC_TRACED = 1 << 1,           /* a tracer was attached at exec */
	EXEC_REGISTERED = 1 << 2,       /* its strings were wanted */
	EXEC_STRINGS_TOO_LONG = 1 << 3, /* more than MAX_STRINGS_BYTES: nothing was sent */
	EXEC_STRINGS_LOST = 1 << 4,     /* a piece could not be read or handed over */
	EXEC_USER_NAMESPACE = 1 << 5,   /* its user namespace is not the initial one */
	EXEC_USER_MOUNTED = 1 << 6,     /* its file system was mounted in a user namespace */
	EXEC_OPEN_FOR_WRITING = 1 << 7, /* somebody had its file open for writing */
	EXEC_WRITTEN = 1 << 8,          /* another process wrote into its memory before it ran */
	EXEC_SIGNALLED = 1 << 9,        /* SIGUSR1 waits for it (TAINT_SIGNALLED): what waits survives an exec */
};

/* What happened to a process after its exec; bits only come, and go with the next exec. */
enum taint {
	TAINT_TRACED = 1 << 0,  /* it stood still under a tracer that is not root's */
	TAINT_WRITTEN = 1 << 1, /* another process wrote into its memory */
	TAINT_MAPPED = 1 << 2,  /* it mapped, to execute it, a file that is neither root's nor part of the agent */
	TAINT_SIGNALLED = 1 << 4, /* another process sent it SIGUSR1, at which Node opens its debugger */
	TAINT_DENIED = 1 << 3,  /* only in an event: somebody tried to take hold of it, and could not */
};

/* What a file is registered for: the values of the `registered` map; the first two are kept in a record. */
enum use {
	USE_WATCH = 1 << 0, /* capture its strings at exec, mark what happens to its processes */
	USE_GUARD = 1 << 1, /* let nobody but root take hold of its processes */
	USE_PART = 1 << 2,  /* it is part of an agent: may be mapped */
	USE_TOLD = 1 << 3,  /* only in a record: that somebody was denied a hold on the process was told */
};

/* What somebody wanted of a marked file, or of us. */
enum operation {
	OPERATION_OPEN = 1,
	OPERATION_RECEIVE = 2, /* a descriptor that another process sent, or that was taken from it */
	OPERATION_TRUNCATE = 3,
	OPERATION_RENAME = 4, /* it, or something over it */
	OPERATION_UNLINK = 5,
	OPERATION_LINK = 6, /* give it another name */
	OPERATION_SIGNAL = 7, /* send one of our daemons a signal: `flags`; `ino`: its pid */
	OPERATION_HOLD = 8,   /* take hold of one (guard.bpf.c); `ino`: its pid */
	OPERATION_MAP = 9,    /* open a map of ours by its number or its pin; `ino`: the number */
	OPERATION_PROGRAM = 10,
};

/* What the iterations over files and mappings wrote. */
enum open_kind {
	OPEN_FILE = 0,
	OPEN_SOCKET = 1,
	OPEN_MAPPING = 2,
};

/* Paths and arguments for display; longer ones are cut. */
#define FILENAME_BYTES 256
#define INTERP_BYTES 128
#define ARGS_HEAD_BYTES 256
#define COMMAND_BYTES 16 /* TASK_COMM_LEN */
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
	__u32 mount_ns; /* inode number of its mount namespace */
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

/* The header names the victim. */
struct taint_event {
	struct event_header header;
	__u64 actor_proc_id;
	__u64 actor_exec_id;
	__u32 actor_pid;
	__u32 taint;
};

/* The header names who it was; both numbers are 0 for a process without a record. */
struct denial_event {
	struct event_header header;
	__u64 dev; /* of the marked file */
	__u64 ino;
	__u32 operation; /* enum operation */
	__u32 flags;     /* of the open: f_flags */
	__u32 pid;
	__u32 uid;
	__u32 denied; /* 0: it was only seen */
	__u32 pad;
	char command[COMMAND_BYTES];
	char name[FILENAME_BYTES]; /* that it was opened by; empty for other operations */
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
	__u32 taints;  /* enum taint */
	__u32 watched; /* enum use, of its image; USE_WATCH: its taints are told */
	__u64 written_mm; /* the address space that another process wrote into last, whoever it belonged to by then */
	__u64 kernel_exec_id; /* the kernel's own count of the task's execs, when this was written: is it still so? */
	__u32 under_agent;    /* 1: it descends from a guarded process, or was one before an exec */
	__u32 pad;
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
	__u64 lost_taint;
	__u64 lost_denial;
};

/* A file that is denied to everybody who is not let through (bpf/marks.h). */
struct mark {
	__u64 agent; /* user space's number of whose it is */
	__u32 generation; /* of the inode: a number that was given to another file since does not count */
	__u32 is_probe; /* not 0: nobody may open it, and nothing is told; the proof that the kernel asks us */
};

/* A process that may open an agent's marks also when nobody can be asked. */
struct opener {
	__u64 agent;
	__u64 kernel_exec_id; /* of the image that was let through */
};

/* One of our own maps or programs. */
struct object_key {
	__u32 operation; /* OPERATION_MAP or OPERATION_PROGRAM */
	__u32 id;
};

/* Who answers for those who ask: the one element of the `watchman` map; zero: nobody. */
struct watchman {
	__u32 tgid;
	__u32 pad;
};

/* Where the broker listens: the one element of the `endpoints` map; zero: nowhere. */
struct endpoints {
	__u64 unix_dev; /* the listening socket's name in the file system, in the kernel's numbers */
	__u64 unix_ino;
	__u64 sign_dev; /* the same of the ssh-agent's */
	__u64 sign_ino;
	__u32 tcp_port;
	__u32 pad;
};

/* Who wrote on a connection to the broker: the first image that did, and the first other one. */
struct sender {
	__u64 proc_id;
	__u64 exec_id;
	__u64 other_proc_id; /* 0: nobody else; NOBODY: a process without a record */
	__u64 other_exec_id;
};

#define NOBODY (~0ULL)

/* What an iteration over open files looks for: the one element of the `files_query` map. */
struct files_query {
	__u64 socket_ino; /* not 0: holders of this socket, or, with a pid, of the unix socket at its other end */
	__u32 pid;        /* else: this process's descriptor `fd` */
	__u32 fd;	  /* or EVERY_DESCRIPTOR */
};

#define EVERY_DESCRIPTOR (~0U)

struct open_file {
	__u32 pid;
	__u32 fd;
	__u32 kind;       /* enum open_kind */
	__s32 writers;    /* i_writecount: above 0, so many have it open for writing; below, it is executed */
	__u64 references; /* to the open file, the iteration's own not counted: descriptors, calls under way, messages */
	__u32 readers;    /* of a socket: threads of this process that wait in a call for data, a reference each */
	__u32 sharers;    /* of a socket: tasks beside the process's threads that use its table of files */
	struct sender sender; /* of a socket; zero: nobody wrote */
	struct file_facts file;
};

#endif
