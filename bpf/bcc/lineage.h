/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * fork, exec and exit: the hooks of bpf/{fork,exec,exit}.bpf.c, where it is said why these, as raw tracepoints.
 */
#define SIGUSR1_BIT (1UL << 9)
#define PIECES (MAX_STRINGS_BYTES / STRINGS_PIECE_BYTES)

int on_sched_process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	const char *parent = (const char *)ctx->args[0], *child = (const char *)ctx->args[1];
	struct process *parent_record, child_record = {};
	struct counters *count = the_counters();
	struct task_key key;
	struct fork_event *event;

	if (FIELD(u32, child, task_struct__pid) != FIELD(u32, child, task_struct__tgid))
		return 0; /* a thread: it shares its group's record */
	parent_record = record_of(leader_of(parent));
	if (!parent_record || !count)
		return 0;
	child_record.proc_id = __sync_fetch_and_add(&count->last_proc_id, 1) + 1;
	child_record.exec_id = parent_record->exec_id;
	*(u64 *)child_record.taints = *(u64 *)parent_record->taints; /* it is a copy of the parent's memory */
	child_record.watched = parent_record->watched;
	child_record.kernel_exec_id = FIELD(u64, child, task_struct__self_exec_id);
	key = key_of(child);
	if (records.update(&key, &child_record) || starts.update(&key.tgid, &key.start_ns)) {
		__sync_fetch_and_add(&count->lost_record, 1);
		return 0;
	}
	event = events.ringbuf_reserve(sizeof(struct fork_event));
	if (!event) {
		__sync_fetch_and_add(&count->lost_fork, 1);
		return 0;
	}
	begin_event(&event->header, EVENT_FORK, sizeof(*event), &child_record);
	event->parent_proc_id = parent_record->proc_id;
	event->child_pid = key.tgid;
	event->parent_pid = FIELD(u32, parent, task_struct__tgid);
	events.ringbuf_submit(event, wake_flags(&event->header));
	return 0;
}

/* Send one piece of the strings; returns 0 when it went well. */
static __always_inline int send_piece(const struct process *record, u64 start, u32 offset, u32 bytes)
{
	struct strings_event *event = events.ringbuf_reserve(sizeof(struct strings_event));
	long failed;

	if (!event)
		return 1;
	if (bytes > STRINGS_PIECE_BYTES)
		bytes = STRINGS_PIECE_BYTES;
	begin_event(&event->header, EVENT_STRINGS, sizeof(*event), record);
	event->offset_bytes = offset;
	event->piece_bytes = bytes;
	if (bytes == STRINGS_PIECE_BYTES) /* two calls: so the verifier sees that each fits */
		failed = bpf_probe_read_user(event->piece, STRINGS_PIECE_BYTES, (void *)(start + offset));
	else
		failed = bpf_probe_read_user(event->piece, bytes & (STRINGS_PIECE_BYTES - 1), (void *)(start + offset));
	events.ringbuf_submit(event, wake_flags(&event->header));
	return failed != 0;
}

/* Send all strings of a registered image; returns the flags that tell how it went. */
static __always_inline u32 send_strings(const char *mm, const struct process *record, struct counters *count)
{
	u64 start = FIELD(u64, mm, mm_struct__arg_start), end = FIELD(u64, mm, mm_struct__env_end);
	u32 bytes = end - start;

	/* the kernel lays the environment right behind the arguments (create_elf_tables) */
	if (end < start || FIELD(u64, mm, mm_struct__arg_end) != FIELD(u64, mm, mm_struct__env_start))
		return EXEC_REGISTERED | EXEC_STRINGS_LOST;
	if (end - start > MAX_STRINGS_BYTES)
		return EXEC_REGISTERED | EXEC_STRINGS_TOO_LONG;
	for (u32 index = 0; index < PIECES; index++) {
		u32 offset = index * STRINGS_PIECE_BYTES;

		if (offset >= bytes)
			break;
		if (send_piece(record, start, offset, bytes - offset)) {
			__sync_fetch_and_add(&count->lost_strings, 1);
			return EXEC_REGISTERED | EXEC_STRINGS_LOST;
		}
	}
	return EXEC_REGISTERED;
}

static __always_inline void read_names(struct exec_event *event, const char *bprm, const char *mm)
{
	const char *filename = POINTER(bprm, linux_binprm__filename), *interp = POINTER(bprm, linux_binprm__interp);
	u64 start = FIELD(u64, mm, mm_struct__arg_start), bytes = FIELD(u64, mm, mm_struct__arg_end) - start;
	long got = bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), filename);

	event->filename_bytes = got > 0 ? got - 1 : 0;
	event->interp_bytes = 0;
	if (interp != filename) {
		event->flags |= EXEC_IS_SCRIPT;
		got = bpf_probe_read_kernel_str(event->interp, sizeof(event->interp), interp);
		event->interp_bytes = got > 0 ? got - 1 : 0;
	}
	event->args_bytes = bytes;
	event->strings_bytes = FIELD(u64, mm, mm_struct__env_end) - start;
	if (bytes > ARGS_HEAD_BYTES)
		bytes = ARGS_HEAD_BYTES;
	event->args_head_bytes = bpf_probe_read_user(event->args_head, bytes, (void *)start) ? 0 : bytes;
}

static __always_inline u32 read_surroundings(const char *task, const char *inode)
{
	u32 flags = FIELD(u32, task, task_struct__ptrace) && uid_of(POINTER(task, task_struct__parent)) != 0 ?
			    EXEC_TRACED : 0;
	u64 waiting;

	if (FIELD(s32, POINTER(POINTER(task, task_struct__real_cred), cred__user_ns), user_namespace__level) > 0)
		flags |= EXEC_USER_NAMESPACE;
	if (FIELD(s32, POINTER(POINTER(inode, inode__i_sb), super_block__s_user_ns), user_namespace__level) > 0)
		flags |= EXEC_USER_MOUNTED;
	/* execution itself counts down; before 6.11 and since 6.13 nobody gets here with a writer (ETXTBSY) */
	if (FIELD(s32, inode, inode__i_writecount) > 0)
		flags |= EXEC_OPEN_FOR_WRITING;
	waiting = FIELD(u64, POINTER(task, task_struct__signal), signal_struct__shared_pending) |
		  FIELD(u64, task, task_struct__pending);
	if (waiting & SIGUSR1_BIT)
		flags |= EXEC_SIGNALLED;
	return flags;
}

/* Give the record the new image's number; returns the flags of the exec. */
static __always_inline u32 renew(struct process *record, const char *task, const char *mm, struct file_key *key,
				 struct counters *count)
{
	u32 flags = record->written_mm == (u64)mm ? EXEC_WRITTEN : 0, *uses = registered.lookup(key);

	record->kernel_exec_id = FIELD(u64, task, task_struct__self_exec_id);
	record->exec_id = __sync_fetch_and_add(&count->last_exec_id, 1) + 1;
	record->written_mm = 0;
	*(u64 *)record->taints = 0;
	record->watched = uses ? *uses & (USE_WATCH | USE_GUARD) : 0;
	return record->watched ? flags | send_strings(mm, record, count) : flags;
}

/* de_thread() has given the caller its leader's number and start time by now. */
int on_sched_process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	const char *task = (const char *)ctx->args[0], *bprm = (const char *)ctx->args[2];
	const char *mm = POINTER(task, task_struct__mm), *inode = executable_of(task);
	struct process *record = record_of(task);
	struct counters *count = the_counters();
	struct exec_event *event;
	struct file_key key = {};
	u64 previous_exec_id;
	u32 flags;

	if (!record || !count || !inode)
		return 0;
	key.dev = FIELD(u32, POINTER(inode, inode__i_sb), super_block__s_dev);
	key.ino = FIELD(u64, inode, inode__i_ino);
	previous_exec_id = record->exec_id;
	flags = renew(record, task, mm, &key, count);
	event = events.ringbuf_reserve(sizeof(struct exec_event));
	if (!event) {
		__sync_fetch_and_add(&count->lost_exec, 1);
		return 0;
	}
	begin_event(&event->header, EVENT_EXEC, sizeof(*event), record);
	event->previous_exec_id = previous_exec_id;
	event->pid = FIELD(u32, task, task_struct__tgid);
	event->uid = uid_of(task);
	event->flags = flags | read_surroundings(task, inode);
	event->pad = 0;
	event->mount_ns = FIELD(u32, POINTER(POINTER(task, task_struct__nsproxy), nsproxy__mnt_ns), mnt_namespace__inum);
	read_inode(inode, &event->file);
	read_names(event, bprm, mm);
	events.ringbuf_submit(event, wake_flags(&event->header));
	return 0;
}

int on_sched_process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	const char *task = (const char *)ctx->args[0];
	struct task_key key = key_of(leader_of(task));
	struct process *record;
	struct exit_event *event;
	struct counters *count;

	if (FIELD(s32, POINTER(task, task_struct__signal), signal_struct__live) > 0)
		return 0;
	record = records.lookup(&key);
	if (!record)
		return 0;
	event = events.ringbuf_reserve(sizeof(struct exit_event));
	count = the_counters();
	if (event) {
		begin_event(&event->header, EVENT_EXIT, sizeof(*event), record);
		events.ringbuf_submit(event, wake_flags(&event->header));
	} else if (count) {
		__sync_fetch_and_add(&count->lost_exit, 1);
	}
	return 0;
}

/*
 * A task's memory is freed: what task storage would do by itself. Its number was given away when it was reaped, perhaps
 * to a process that already lives: then `starts` is that one's. The leader that another thread's exec replaced has
 * that thread's number by now (exchange_tids), and the record stays.
 */
int on_sched_process_free(struct bpf_raw_tracepoint_args *ctx)
{
	const char *task = (const char *)ctx->args[0];
	struct task_key key = key_of(task);
	u64 *start;

	if (FIELD(u32, task, task_struct__pid) != key.tgid)
		return 0;
	records.delete(&key);
	start = starts.lookup(&key.tgid);
	if (start && *start == key.start_ns)
		starts.delete(&key.tgid);
	return 0;
}
