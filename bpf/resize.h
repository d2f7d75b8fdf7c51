/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * lsm/inode_setattr: a file's facts are changed (enforce tier); only its size is looked at.
 *
 * Why this hook beside path_truncate: truncate(2) through an overlay asks that one about the overlay's inode alone, and
 * this one about the layer's too. It sees a descriptor's ftruncate(2) as well,
 * which 6.2 gave a hook of its own (file_truncate).
 *
 * Its arguments differ: 6.9 put an idmap first (resize_idmap.bpf.c). The verifier refuses the program of the other kind:
 * it follows no pointer out of an argument of another type.
 */
#ifndef AGENT_BROKER_RESIZE_H
#define AGENT_BROKER_RESIZE_H

#include "marks.h"

#define ATTR_SIZE (1 << 3) /* include/linux/fs.h */

static __always_inline int judge_facts(const struct dentry *entry, const struct iattr *facts)
{
	return facts->ia_valid & ATTR_SIZE ? judge_change(entry->d_inode, OPERATION_TRUNCATE) : 0;
}

#endif
