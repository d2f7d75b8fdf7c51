// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/bpf_map: a task gets a descriptor of a map, by its number or its pin (enforce tier).
 *
 * Why this hook: through our maps somebody could unmark a file or let a process through. The monitor has its descriptors
 * already; root may look, and is told; an agent's sudo may not.
 */
#include "ours.h"

SEC("lsm/bpf_map")
int BPF_PROG(on_map_access, struct bpf_map *map, unsigned int mode)
{
	return judge_access(OPERATION_MAP, map->id);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
