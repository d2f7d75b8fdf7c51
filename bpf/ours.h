/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Our own maps and programs, by the kernel's numbers of them.
 */
#ifndef AGENT_BROKER_OURS_H
#define AGENT_BROKER_OURS_H

#include "denials.h"

struct bpf_map {
	__u32 id;
} __attribute__((preserve_access_index));

struct bpf_prog_aux {
	__u32 id;
} __attribute__((preserve_access_index));

struct bpf_prog {
	struct bpf_prog_aux *aux;
} __attribute__((preserve_access_index));

/* User space fills this in when everything is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct object_key);
	__type(value, __u32);
} ours SEC(".maps");

static __always_inline int judge_access(__u32 operation, __u32 id)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct object_key key = { .operation = operation, .id = id };
	struct task_record *record;
	bool trusted;

	if (!bpf_map_lookup_elem(&ours, &key) || is_daemon(current->group_leader))
		return 0;
	record = bpf_task_storage_get(&records, current->group_leader, 0, 0);
	trusted = is_trusted(current, record);
	tell_attack(id, operation, 0, !trusted);
	return trusted ? 0 : -EPERM;
}

#endif
