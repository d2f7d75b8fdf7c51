// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Never loaded: one dummy of each struct that crosses to user space, so that this object's BTF holds all their
 * layouts for the test that compares them with kernel/wire.py. (The hooks' own BTF keeps only what their
 * signatures name.)
 */
#include "kernel_types.h"
#include "events.h"

struct event_header dummy_header;
struct file_facts dummy_file_facts;
struct fork_event dummy_fork;
struct exec_event dummy_exec;
struct exit_event dummy_exit;
struct seed_event dummy_seed;
struct strings_event dummy_strings;
struct taint_event dummy_taint;
struct task_record dummy_record;
struct file_key dummy_key;
struct counters dummy_counters;
struct files_query dummy_query;
struct open_file dummy_open_file;
struct endpoints dummy_endpoints;
struct sender dummy_sender;
struct denial_event dummy_denial;
struct mark dummy_mark;
struct opener dummy_opener;
struct object_key dummy_object_key;
struct watchman dummy_watchman;
