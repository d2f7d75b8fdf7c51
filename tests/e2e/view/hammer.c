/*
 * One process that reads a viewed file again and again in one way, and says what it saw; the same program is the verified
 * reader and, as a copy of it, the stranger.
 *
 *	read PATH MINE OTHER MS		open and read, pread, mmap(MAP_PRIVATE), O_PATH and again by /proc/self/fd
 *	lend PATH SOCKET OTHER MS	opens it for whoever connects to SOCKET, and sends the descriptor
 *	borrow SOCKET MINE OTHER MS	takes such descriptors, and tries all of that with each
 *	bequeath PATH STRANGER OTHER MS	opens it, and has STRANGER executed with the descriptor: "heir FD OTHER"
 *	heir FD OTHER			exit code 1: it could read OTHER
 *
 * Prints: rounds, how often MINE was seen, how often OTHER was (a wrong view, or a leak), other failures.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 4096 };

static const char *mine = "", *other = "";
static long seen_mine, seen_other, failures, rounds;
static int tube[2], says = 1;

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What went wrong first, for who is no borrower; a borrower has nothing but this. */
static void fail(const char *doing, int error)
{
	if (!failures++ && says)
		fprintf(stderr, "hammer: round %ld: %s: %s\n", rounds, doing, strerror(error));
}

static void judge(const char *doing, const char *data, long length)
{
	int error = length < 0 ? errno : 0;

	if (length > 0 && *mine && memmem(data, length, mine, strlen(mine)))
		seen_mine++;
	else if (length > 0 && memmem(data, length, other, strlen(other)))
		seen_other++;
	else
		fail(doing, error);
}

/* What a mapping holds, by a pipe: a page that the file system refuses is EFAULT then, and no SIGBUS. */
static void look_at_mapping(int fd)
{
	static char copy[BYTES];
	char *map = mmap(0, BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	long length = -1;

	if (map != MAP_FAILED) {
		if (write(tube[1], map, BYTES) > 0)
			length = read(tube[0], copy, BYTES);
		munmap(map, BYTES);
	}
	judge("a mapping", copy, length);
}

static void look_at(int fd)
{
	char data[BYTES];

	judge("read", data, read(fd, data, BYTES));
	judge("pread", data, pread(fd, data, BYTES, 0));
	look_at_mapping(fd);
}

static void look_again(int fd)
{
	char name[64], data[BYTES];
	int again;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	again = open(name, O_RDONLY | O_CLOEXEC);
	judge(again < 0 ? "open by /proc/self/fd" : "read by /proc/self/fd", data, again < 0 ? -1 : read(again, data, BYTES));
	if (again >= 0)
		close(again);
}

static void read_round(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), opened = errno;
	int reference = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		fail("open", opened);
	else
		look_at(fd);
	if (reference >= 0)
		look_again(reference);
	close(fd);
	close(reference);
}

static int unix_socket(const char *path, int listens)
{
	struct sockaddr_un place = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(place.sun_path, path, sizeof(place.sun_path) - 1);
	if (listens ? bind(fd, (void *)&place, sizeof(place)) || listen(fd, 64) :
		      connect(fd, (void *)&place, sizeof(place))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void pass(int connection, int *fd, int sends)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	char byte = 0;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	if (sends) {
		control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.head), fd, sizeof(int));
		sendmsg(connection, &message, MSG_NOSIGNAL);
	} else if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) > 0 && control.head.cmsg_type == SCM_RIGHTS) {
		memcpy(fd, CMSG_DATA(&control.head), sizeof(int));
	}
}

static void lend_round(const char *path, int listener)
{
	int connection = accept(listener, 0, 0);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (connection >= 0 && fd >= 0) {
		look_at(fd);
		pass(connection, &fd, 1);
	}
	close(fd);
	close(connection);
}

static void borrow_round(const char *path)
{
	int connection = unix_socket(path, 0), fd = -1;

	if (connection >= 0) {
		pass(connection, &fd, 0);
		close(connection);
	}
	if (fd < 0)
		return;
	look_at(fd);
	look_again(fd);
	close(fd);
}

static void bequeath_round(const char *path, const char *stranger)
{
	char number[16];
	int fd = open(path, O_RDONLY), status = 0;
	pid_t child;

	if (fd < 0) {
		fail("open", errno);
		return;
	}
	look_at(fd);
	snprintf(number, sizeof(number), "%d", fd);
	child = fork();
	if (!child) {
		execl(stranger, stranger, "heir", number, other, (char *)0);
		_exit(2);
	}
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		seen_other++;
	else if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail("the heir ended otherwise", 0);
	close(fd);
}

int main(int count, char **words)
{
	const char *way = count > 1 ? words[1] : "";
	int listener = -1;
	long end;

	if (pipe2(tube, O_CLOEXEC))
		return 2;
	if (!strcmp(way, "heir") && count == 4) {
		other = words[3];
		says = 0;
		look_at(atoi(words[2]));
		look_again(atoi(words[2]));
		return seen_other > 0;
	}
	if (count != 6)
		return 2;
	end = now_ms() + atol(words[5]);
	if (!strcmp(way, "read") || !strcmp(way, "borrow"))
		mine = words[3];
	else
		mine = "REAL";
	other = words[4];
	says = strcmp(way, "borrow") != 0;
	if (!strcmp(way, "lend")) {
		listener = unix_socket(words[3], 1);
		fcntl(listener, F_SETFL, O_NONBLOCK);
	}
	for (; now_ms() < end; rounds++) {
		if (!strcmp(way, "read"))
			read_round(words[2]);
		else if (!strcmp(way, "lend"))
			lend_round(words[2], listener);
		else if (!strcmp(way, "borrow"))
			borrow_round(words[2]);
		else
			bequeath_round(words[2], words[3]);
	}
	printf("%ld %ld %ld %ld\n", rounds, seen_mine, seen_other, failures);
	return 0;
}
