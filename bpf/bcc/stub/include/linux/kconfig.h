/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * In the place of the kernel's headers, which bcc includes whether it needs them or not: what bcc's own headers take
 * from them, and nothing of the kernel's structures (their fields' offsets come from BTF).
 */
#define CONFIG_BPF_SYSCALL 1
#include <linux/types.h>
