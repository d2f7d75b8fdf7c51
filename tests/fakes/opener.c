/*
 * Opens a file by one mechanism: opener MECHANISM PATH. Prints the errno of the refusal, 0 if it was opened
 * and a byte was read (or the change was made). Exit code 0 if it printed one, 2 for bad usage.
 *
 * `opener list` prints the mechanisms. `receive` takes a descriptor that was sent on standard input, a unix socket;
 * `send` opens PATH and sends it on standard output. Build: cc -O2 -static -o opener opener.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int outcome(int fd)
{
	char byte;

	if (fd < 0 || (read(fd, &byte, 1) < 0 && errno != EBADF))
		return errno;
	close(fd);
	return 0;
}

static int done(int result)
{
	return result < 0 ? errno : 0;
}

static int folder_of(const char *path, int flags, char *name)
{
	char copy[4096];

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(name, 256, "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", path);
	return open(dirname(copy), flags | O_DIRECTORY);
}

static int by_open(const char *path) { return outcome(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0)); }
static int by_write(const char *path) { return outcome(open(path, O_WRONLY)); }
static int by_append(const char *path) { return outcome(open(path, O_RDWR | O_APPEND)); }
static int by_creat(const char *path) { return outcome(creat(path, 0600)); }
static int by_truncate(const char *path) { return done(truncate(path, 0)); }
static int by_nothing_new(const char *path) { return outcome(open(path, O_RDONLY | O_NOATIME | O_NONBLOCK)); }

#if defined(__x86_64__)
static int by_old_open(const char *path) { return outcome(syscall(SYS_open, path, O_RDONLY, 0)); }

static int compat(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

static long low_copy(const char *path)
{
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	return (long)strncpy(low, path, 4095);
}

static int by_int80(const char *path) { return outcome(compat(5, low_copy(path), O_RDONLY, 0)); }
static int by_int80_openat(const char *path) { return outcome(compat(295, AT_FDCWD, low_copy(path), O_RDONLY)); }
#endif

static int by_dirfd(const char *path)
{
	char name[256];
	int folder = folder_of(path, O_RDONLY, name);

	return outcome(openat(folder, name, O_RDONLY));
}

static int by_chdir(const char *path)
{
	char name[256];
	int folder = folder_of(path, O_PATH, name);

	return fchdir(folder) ? errno : outcome(open(name, O_RDONLY));
}

static int by_openat2(const char *path)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = RESOLVE_NO_MAGICLINKS };

	return outcome(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)));
}

static int by_handle(const char *path)
{
	struct {
		struct file_handle head;
		unsigned char rest[MAX_HANDLE_SZ];
	} handle = { .head = { .handle_bytes = MAX_HANDLE_SZ } };
	char name[256];
	int mount_id, folder = folder_of(path, O_RDONLY, name);

	if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount_id, AT_SYMLINK_FOLLOW))
		return errno;
	return outcome(open_by_handle_at(folder, &handle.head, O_RDONLY));
}

static int ring_open(const char *path, int opcode)
{
	struct io_uring_params params = {};
	struct open_how how = { .flags = O_RDONLY };
	int ring = syscall(SYS_io_uring_setup, 2, &params);
	unsigned char *queue, *done_queue;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;

	if (ring < 0)
		return errno;
	queue = mmap(0, params.sq_off.array + 2 * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	done_queue = mmap(0, params.cq_off.cqes + 4 * sizeof(*cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
			  IORING_OFF_CQ_RING);
	sqe = mmap(0, 2 * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (queue == MAP_FAILED || done_queue == MAP_FAILED || sqe == MAP_FAILED)
		return errno;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->fd = AT_FDCWD;
	sqe->addr = (unsigned long)path;
	sqe->open_flags = opcode == IORING_OP_OPENAT ? O_RDONLY : 0;
	if (opcode == IORING_OP_OPENAT2) {
		sqe->off = (unsigned long)&how;
		sqe->len = sizeof(how);
	}
	*(unsigned *)(queue + params.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		return errno;
	cqe = (struct io_uring_cqe *)(done_queue + params.cq_off.cqes);
	return cqe->res < 0 ? -cqe->res : outcome(cqe->res);
}

static int by_io_uring(const char *path) { return ring_open(path, IORING_OP_OPENAT); }
static int by_io_uring2(const char *path) { return ring_open(path, IORING_OP_OPENAT2); }

static int by_mmap(const char *path)
{
	int fd = open(path, O_RDONLY);
	volatile char *byte;

	if (fd < 0)
		return errno;
	byte = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (byte == MAP_FAILED)
		return errno;
	(void)*byte;
	return 0;
}

static int by_opath(const char *path)
{
	char name[64];
	int fd = open(path, O_PATH);

	if (fd < 0)
		return errno;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return outcome(open(name, O_RDONLY));
}

static int by_proc_root(const char *path)
{
	char name[4096];

	snprintf(name, sizeof(name), "/proc/self/root%s", path);
	return outcome(open(name, O_RDONLY));
}

static void *open_in_thread(void *path)
{
	return (void *)(long)by_open(path);
}

static int by_thread(const char *path)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, 0, open_in_thread, (void *)path) || pthread_join(thread, &result))
		return EAGAIN;
	return (long)result;
}

static int by_child(const char *path)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(by_open(path));
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

static int by_exec(const char *path)
{
	char *argv[] = { "program", 0 };

	execv(path, argv);
	return errno;
}

union room {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr head;
};

static int by_receive(const char *path)
{
	union room room = {};
	char byte;
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof(room) };
	struct cmsghdr *head;

	(void)path;
	if (recvmsg(0, &message, 0) < 0)
		return errno;
	head = CMSG_FIRSTHDR(&message);
	if (!head) /* a refused descriptor is left out of the message */
		return EBADF;
	return outcome(*(int *)CMSG_DATA(head));
}

static int by_send(const char *path)
{
	union room room = {};
	struct iovec piece = { "x", 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof(room) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return errno;
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(head) = fd;
	return done(sendmsg(1, &message, 0));
}

static int by_unlink(const char *path) { return done(unlink(path)); }
static int by_chmod(const char *path) { return done(chmod(path, 0644)); }
static int by_stat(const char *path)
{
	struct stat facts;

	return done(stat(path, &facts));
}

static int by_rename(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.moved", path);
	return done(rename(path, other));
}

static int by_rename_over(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.new", path);
	close(open(other, O_CREAT | O_WRONLY, 0600));
	return done(rename(other, path));
}

static int by_exchange(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.new", path);
	close(open(other, O_CREAT | O_WRONLY, 0600));
	return done(renameat2(AT_FDCWD, other, AT_FDCWD, path, RENAME_EXCHANGE));
}

static int by_link(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.link", path);
	return done(link(path, other));
}

static const struct {
	const char *name;
	int (*call)(const char *path);
} mechanisms[] = {
	{ "open", by_open },
	{ "open-write", by_write },
	{ "open-append", by_append },
	{ "open-noatime", by_nothing_new },
	{ "creat", by_creat },
	{ "truncate", by_truncate },
#if defined(__x86_64__)
	{ "open-old", by_old_open },
	{ "int80-open", by_int80 },
	{ "int80-openat", by_int80_openat },
#endif
	{ "openat-dirfd", by_dirfd },
	{ "open-chdir", by_chdir },
	{ "openat2", by_openat2 },
	{ "handle", by_handle },
	{ "io_uring", by_io_uring },
	{ "io_uring-openat2", by_io_uring2 },
	{ "mmap", by_mmap },
	{ "opath-proc", by_opath },
	{ "proc-root", by_proc_root },
	{ "thread", by_thread },
	{ "child", by_child },
	{ "exec", by_exec },
	{ "receive", by_receive },
	{ "send", by_send },
	{ "stat", by_stat },
	{ "unlink", by_unlink },
	{ "rename", by_rename },
	{ "rename-over", by_rename_over },
	{ "rename-exchange", by_exchange },
	{ "link", by_link },
	{ "chmod", by_chmod },
};

int main(int count, char **arguments)
{
	int listed = count == 2 && !strcmp(arguments[1], "list");
	FILE *to = count == 3 && !strcmp(arguments[1], "send") ? stderr : stdout;

	for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++) {
		if (listed)
			puts(mechanisms[i].name);
		else if (count == 3 && !strcmp(arguments[1], mechanisms[i].name))
			return fprintf(to, "%d\n", mechanisms[i].call(arguments[2])) < 0;
	}
	return listed ? 0 : 2;
}
