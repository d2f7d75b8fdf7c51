// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/bpf_prog: a task gets a descriptor of a program, by its number or its pin (enforce tier).
 *
 * Why this hook: through our maps somebody could unmark a file or let a process through. The monitor has its descriptors
 * already; root may look, and is told; an agent's sudo may not.
 */
#include "ours.h"

SEC("lsm/bpf_prog")
int BPF_PROG(on_program_access, struct bpf_prog *program)
{
	return judge_access(OPERATION_PROGRAM, program->aux->id);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
