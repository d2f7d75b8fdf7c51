/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * In the place of iterators.h, for a kernel without BTF, which has no iterators: raw tracepoint programs that are
 * attached nowhere. User space runs them itself (BPF_PROG_TEST_RUN, Linux 5.10), in its own task, for one process at a
 * time, which it names by a pidfd of its own.
 *
 * Why it may read so: such a run is under rcu_read_lock and is not preempted. A task that is found by its struct pid, a
 * table of descriptors (fdtable) and the memory of an open file (SLAB_TYPESAFE_BY_RCU) stay what they are until it is
 * over. A descriptor that is closed meanwhile, and a struct files_struct, whose memory may be another's by then, are
 * noticed: both must be where they were, once all was read.
 */
#define LOOK_FDS 128 /* descriptors of one run */
#define OWN 0xffffffff

enum looked {
	LOOKED_ALL,
	LOOKED_MORE,  /* none of these, and there are more */
	LOOKED_FOUND, /* `answer` says which */
	LOOKED_GONE,  /* no such process, or no such descriptor any more */
};

BPF_ARRAY(answer, struct open_file, 1);

static __always_inline const char *table_of(const char *files)
{
	return files ? POINTER(files, files_struct__fdt) : 0;
}

static __always_inline const char *file_at(const char *table, u32 fd)
{
	const char *file = 0;

	if (table && fd < FIELD(u32, table, fdtable__max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), POINTER(table, fdtable__fd) + 8UL * fd);
	return file;
}

/* The leader of the process behind a pidfd of ours. Since 6.9 its struct pid is kept in the inode (cb12fd8e0dab). */
static __always_inline const char *task_behind(u32 pidfd)
{
	const char *own = (const char *)bpf_get_current_task();
	const char *file = file_at(table_of(POINTER(own, task_struct__files)), pidfd), *pid, *node;

	if (!file)
		return 0;
	pid = POINTER(file, file__private_data);
	if (!pid)
		pid = POINTER(POINTER(file, file__f_inode), inode__i_private);
	node = pid ? POINTER(pid, pid__tasks_tgid) : 0;
	return node ? node - OFFSET_task_struct__pid_links_tgid : 0;
}

/* Arguments: pidfd, its pid. Returns 0 if the process has a record now. */
int query_seed(struct bpf_raw_tracepoint_args *ctx)
{
	const char *task = task_behind(ctx->args[0]);

	if (!task || FIELD(u32, task, task_struct__tgid) != (u32)ctx->args[1])
		return 1;
	return record_of(leader_of(task)) ? 0 : 1;
}

/*
 * Arguments: pidfd or OWN, its pid, inode number of a socket or 0, whether to look for its other end, a descriptor.
 * Without an inode number only that descriptor is looked at, else LOOK_FDS from there on. Returns enum looked.
 */
int query_look(struct bpf_raw_tracepoint_args *ctx)
{
	u32 fd = ctx->args[4], highest, zero = 0;
	u64 ino = ctx->args[2], by_other_end = ctx->args[3];
	const char *task, *files, *table, *file = 0;
	struct open_file found = {};

	task = (u32)ctx->args[0] == OWN ? (const char *)bpf_get_current_task() : task_behind(ctx->args[0]);
	if (!task || FIELD(u32, task, task_struct__tgid) != (u32)ctx->args[1])
		return LOOKED_GONE;
	files = POINTER(task, task_struct__files);
	table = table_of(files);
	if (!table)
		return LOOKED_GONE;
	highest = FIELD(u32, table, fdtable__max_fds);
	for (u32 count = 0; count < LOOK_FDS; count++) {
		file = file_at(table, fd);
		if (!ino || (file && is_socket_of(file, ino, by_other_end)))
			break;
		file = 0;
		fd++;
	}
	if (!file)
		return !ino ? LOOKED_GONE : fd < highest ? LOOKED_MORE : LOOKED_ALL;
	describe(&found, task, fd, file, ino != 0);
	if (POINTER(task, task_struct__files) != files || file_at(table_of(files), fd) != file)
		return LOOKED_GONE;
	answer.update(&zero, &found);
	return LOOKED_FOUND;
}
