/*
 * Takes hold of a process in one of the ways that Linux knows: tamper HOW PID [ADDRESS]
 * Prints "done", or the number of the error that the kernel gave. Writes one byte, 'X', at ADDRESS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int how_is(const char *how, const char *name) { return strcmp(how, name) == 0; }

static int attach(int pid)
{
	if (ptrace(PTRACE_ATTACH, pid, 0, 0))
		return -1;
	return waitpid(pid, 0, __WALL) == pid ? ptrace(PTRACE_DETACH, pid, 0, 0) : -1;
}

static int seize(int pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0))
		return -1;
	return waitpid(pid, 0, __WALL) == pid ? ptrace(PTRACE_DETACH, pid, 0, 0) : -1;
}

static int poke(int pid, char *address)
{
	long word;

	if (ptrace(PTRACE_ATTACH, pid, 0, 0) || waitpid(pid, 0, __WALL) != pid)
		return -1;
	word = ptrace(PTRACE_PEEKDATA, pid, address, 0);
	if (ptrace(PTRACE_POKEDATA, pid, address, (void *)((word & ~0xffL) | 'X')))
		return -1;
	return ptrace(PTRACE_DETACH, pid, 0, 0);
}

static int vm(int pid, char *address, int writes)
{
	char byte = 'X';
	struct iovec here = { &byte, 1 }, there = { address, 1 };

	return (writes ? process_vm_writev(pid, &here, 1, &there, 1, 0) : process_vm_readv(pid, &here, 1, &there, 1, 0)) == 1 ? 0 : -1;
}

static int open_mem(int pid, int flags, int by_task)
{
	char path[64];

	if (by_task)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/mem", pid, pid);
	else
		snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	return open(path, flags);
}

static int mem(int pid, char *address, int writes, int by_task)
{
	int fd = open_mem(pid, writes ? O_RDWR : O_RDONLY, by_task);
	char byte = 'X';

	if (fd < 0)
		return -1;
	return (writes ? pwrite(fd, &byte, 1, (uintptr_t)address) : pread(fd, &byte, 1, (uintptr_t)address)) == 1 ? 0 : -1;
}

static int uring(int pid, char *address)
{
	struct io_uring_params params = { 0 };
	int fd = open_mem(pid, O_RDWR, 0), ring;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *done;
	unsigned *array;
	char *queue, byte = 'X';

	if (fd < 0 || (ring = syscall(SYS_io_uring_setup, 1, &params)) < 0)
		return -1;
	queue = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (queue == MAP_FAILED || entries == MAP_FAILED || !(params.features & IORING_FEAT_SINGLE_MMAP))
		return -1;
	array = (unsigned *)(queue + params.sq_off.array);
	array[0] = 0;
	entries[0] = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = fd, .off = (uintptr_t)address,
					    .addr = (uintptr_t)&byte, .len = 1 };
	__atomic_store_n((unsigned *)(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
		return -1;
	done = (struct io_uring_cqe *)(queue + params.cq_off.cqes);
	if (done->res != 1)
		errno = -done->res;
	return done->res == 1 ? 0 : -1;
}

static int getfd(int pid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);

	return pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0) < 0 ? -1 : 0;
}

static int run(const char *how, int pid, char *address)
{
	if (how_is(how, "attach"))
		return attach(pid);
	if (how_is(how, "seize"))
		return seize(pid);
	if (how_is(how, "poke"))
		return poke(pid, address);
	if (how_is(how, "vm-write") || how_is(how, "vm-read"))
		return vm(pid, address, how_is(how, "vm-write"));
	if (how_is(how, "mem-write") || how_is(how, "mem-read"))
		return mem(pid, address, how_is(how, "mem-write"), 0);
	if (how_is(how, "mem-write-task"))
		return mem(pid, address, 1, 1);
	if (how_is(how, "mem-open-read") || how_is(how, "mem-open-write"))
		return open_mem(pid, how_is(how, "mem-open-read") ? O_RDONLY : O_WRONLY, 0) < 0 ? -1 : 0;
	if (how_is(how, "io-uring-write"))
		return uring(pid, address);
	if (how_is(how, "getfd"))
		return getfd(pid);
	fprintf(stderr, "tamper: no way is called %s\n", how);
	exit(2);
}

int main(int count, char **arguments)
{
	if (count < 4)
		return 2;
	if (run(arguments[1], atoi(arguments[2]), (char *)strtoull(arguments[3], 0, 16)))
		printf("%d\n", errno);
	else
		puts("done");
	return 0;
}
