/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What is read of the kernel's own tables of open files, by whichever way they are walked (iterators.h, queries.h): the
 * reasons are in bpf/files.bpf.c.
 */
#define AF_UNIX 1
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define MAX_WAITERS 16

/* References to an open file, without the one that an iteration took: REFERENCES_BASE (kernel/bcc/fields.py). */
static __always_inline u64 references_of(const char *file)
{
	return FIELD(u64, file, file__references) - REFERENCES_BASE;
}

/* Whether who waits is of this process and holds a reference (bpf/files.bpf.c). */
static __always_inline bool waits(const char *waiter, u32 pid, bool is_alone)
{
	if (!waiter)
		return false;
	return FIELD(u32, POINTER(waiter, poll_wqueues__polling_task), task_struct__tgid) == pid ||
	       (!is_alone && FIELD(u32, waiter, task_struct__tgid) == pid);
}

static __always_inline u32 readers_of(const char *task, const char *socket, u32 pid)
{
	const char *head = socket + OFFSET_socket__waiters, *at = FIELD(const char *, head, list_head__next);
	bool is_alone = FIELD(s32, POINTER(task, task_struct__files), files_struct__count) == 1;
	u32 readers = 0;

	for (int i = 0; i < MAX_WAITERS; i++) {
		if (!at || at == head)
			break;
		readers += waits(POINTER(at - OFFSET_wait_queue_entry__entry, wait_queue_entry__private), pid, is_alone);
		at = FIELD(const char *, at, list_head__next);
	}
	return readers;
}

/* How many tasks use a process's table of files and are not its threads (clone with CLONE_FILES alone). */
static __always_inline u32 sharers_of(const char *task)
{
	s32 users = FIELD(s32, POINTER(task, task_struct__files), files_struct__count);
	s32 threads = FIELD(s32, POINTER(task, task_struct__signal), signal_struct__nr_threads);

	return users > threads ? users - threads : 0;
}

/* An open socket file's struct socket is its private data (sock_alloc_file). */
static __always_inline const char *socket_of(const char *file)
{
	const char *socket = POINTER(file, file__private_data);

	return socket && POINTER(socket, socket__sk) ? socket : 0;
}

static __always_inline u64 other_end_of(const char *file)
{
	const char *socket = socket_of(file), *own, *peer;

	if (!socket)
		return 0;
	own = POINTER(socket, socket__sk);
	if (FIELD(u16, own, sock__family) != AF_UNIX)
		return 0;
	peer = POINTER(POINTER(own, unix_sock__peer), sock__sk_socket);
	return FIELD(u64, POINTER(POINTER(peer, socket__file), file__f_inode), inode__i_ino);
}

/* Say all of an open file of a task; `is_socket`: and who waits at it. */
static __always_inline void describe(struct open_file *found, const char *task, u32 fd, const char *file, bool is_socket)
{
	const char *inode = POINTER(file, file__f_inode), *socket = is_socket ? socket_of(file) : 0;

	found->pid = FIELD(u32, task, task_struct__tgid);
	found->fd = fd;
	found->references = references_of(file);
	found->writers = FIELD(s32, inode, inode__i_writecount);
	read_inode(inode, &found->file);
	if (!socket)
		return;
	found->kind = OPEN_SOCKET;
	found->readers = readers_of(task, socket, found->pid);
	found->sharers = sharers_of(task);
}

/* Whether an open file is the socket with this inode number, or, if `by_other_end`, the one that is connected to it. */
static __always_inline bool is_socket_of(const char *file, u64 ino, bool by_other_end)
{
	const char *inode = POINTER(file, file__f_inode);

	if ((FIELD(u16, inode, inode__i_mode) & S_IFMT) != S_IFSOCK)
		return false;
	return (by_other_end ? other_end_of(file) : FIELD(u64, inode, inode__i_ino)) == ino;
}
