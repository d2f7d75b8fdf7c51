/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * bcc includes this file before anything else, from the one folder that it takes for the kernel's. That is this one, so
 * the folders of the real headers (two trees, on Debian) are what kernel/bcc/headers.py names, in its order.
 */
#include_next <linux/kconfig.h>
#include <linux/compiler_types.h>
