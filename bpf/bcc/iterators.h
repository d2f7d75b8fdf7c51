/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The iterations of bpf/{seed,files,mappings}.bpf.c, where it is said why: for a kernel that tells its types (BTF).
 * Their contexts are 8-byte pointers at fixed places (__bpf_md_ptr).
 */
#define S_IWGRP_OTH 0022
#define VM_EXEC 0x4
#define FMODE_NOACCOUNT 0x20000000

struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	void *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	void *task;
	u32 fd;
	void *file;
};
struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	void *task;
	void *vma;
};

BPF_ARRAY(files_query, struct files_query, 1);

BPF_ITER(task)
{
	const char *task = ctx->task;

	if (task)
		record_of(leader_of(task));
	return 0;
}

static __always_inline bool is_wanted(const struct files_query *query, const char *task, const char *file, u32 fd)
{
	if (query->socket_ino)
		return is_socket_of(file, query->socket_ino, query->pid != 0);
	return FIELD(u32, task, task_struct__tgid) == query->pid &&
	       (query->fd == EVERY_DESCRIPTOR || fd == query->fd);
}

BPF_ITER(task_file)
{
	const char *task = ctx->task, *file = ctx->file;
	struct open_file found = {};
	struct files_query *query;
	int zero = 0;

	query = files_query.lookup(&zero);
	if (!task || !file || !query || !is_wanted(query, task, file, ctx->fd))
		return 0;
	/* 6.1 to 6.6 come back to a thread when they are read to the end (fixed in 6.7) */
	if (FIELD(u32, task, task_struct__pid) != FIELD(u32, task, task_struct__tgid) &&
	    POINTER(task, task_struct__files) == POINTER(leader_of(task), task_struct__files))
		return 0;
	describe(&found, task, ctx->fd, file, query->socket_ino != 0);
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}

/* The inode of a mapping's file as its user named it: overlayfs maps the file of its layer instead. */
static __always_inline const char *mapped_inode(const char *file)
{
	const char *dentry;

	if (!(FIELD(u32, file, file__f_mode) & FMODE_NOACCOUNT))
		return POINTER(file, file__f_inode);
	dentry = POINTER(file, file__named_dentry);
	return POINTER(dentry, dentry__d_inode);
}

BPF_ITER(task_vma)
{
	const char *task = ctx->task, *vma = ctx->vma, *file;
	struct open_file found = {.kind = OPEN_MAPPING};

	if (!task || !vma || !(FIELD(u64, vma, vm_area_struct__vm_flags) & VM_EXEC))
		return 0;
	file = POINTER(vma, vm_area_struct__vm_file);
	if (!file)
		return 0;
	read_inode(mapped_inode(file), &found.file);
	/* who else than root can have decided what is in it: bpf/maps.h, others_could_make */
	if (found.file.owner_uid == 0 && !(found.file.mode & S_IWGRP_OTH) && found.file.nlink)
		return 0;
	found.pid = FIELD(u32, task, task_struct__tgid);
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}
