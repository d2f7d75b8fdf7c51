/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + ((patch) > 255 ? 255 : (patch)))
