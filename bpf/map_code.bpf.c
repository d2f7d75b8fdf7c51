// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lsm/mmap_file: a file is mapped (enforce tier).
 *
 * Why this hook: dlopen maps a library's text executable, here, before its first instruction runs; so also a library
 * that is unmapped again before anybody looks is noticed. Code that is read into anonymous memory is not: a JIT does
 * the same all day.
 */
#include "code.h"

SEC("lsm/mmap_file")
int BPF_PROG(on_map, struct file *file, unsigned long wanted, unsigned long given, unsigned long flags)
{
	if (file && given & PROT_EXEC)
		judge_code(file, file->f_inode);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
