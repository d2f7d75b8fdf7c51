/* A process that makes new processes and program images in every way that Linux has, as its arguments say.
 *
 *     torture WORD...       with TORTURE_FD: one end of a SEQPACKET pair, the test holds the other
 *
 * A word that starts a process leaves the rest of the words to the new one; the old one stays, doing nothing, until
 * the test closes its end. `say NAME` sends NAME (the kernel adds who wrote it) and goes on when it is answered.
 * What fails is sent too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int voice;
static char own_path[4096];

static void say(const char *text)
{
	if (send(voice, text, strlen(text), MSG_NOSIGNAL) < 0)
		_exit(1);
}

static void fail(const char *what)
{
	char text[512];

	snprintf(text, sizeof(text), "error: %s: %s", what, strerror(errno));
	say(text);
	_exit(1);
}

static void check(long result, const char *what)
{
	if (result < 0)
		fail(what);
}

static void stay(void)
{
	struct pollfd end = { .fd = voice };

	while (poll(&end, 1, -1) < 0 || !(end.revents & (POLLHUP | POLLERR)))
		;
	_exit(0);
}

static void say_and_wait(const char *name)
{
	char answer[8];

	say(name);
	if (recv(voice, answer, sizeof(answer), 0) <= 0)
		_exit(0);
}

/* Ways to start a process. Each returns in the new one only. */

static void in_child(long pid, const char *what)
{
	check(pid, what);
	if (pid)
		stay();
}

static void fork_and_go(void)
{
	pid_t old = getpid(), pid;
	int alive[2];
	char byte;

	check(pipe2(alive, O_CLOEXEC), "pipe");
	check(pid = fork(), "fork");
	if (pid)
		_exit(0);
	close(alive[1]);
	while (read(alive[0], &byte, 1) > 0 || getppid() == old) /* the old one is gone, and is not the parent */
		sched_yield();
	close(alive[0]);
}

static char **own_arguments(char **words, char *name)
{
	size_t count = 0;
	char **arguments;

	while (words[count])
		count++;
	arguments = calloc(count + 2, sizeof(*arguments));
	if (!arguments)
		fail("memory");
	arguments[0] = name;
	memcpy(arguments + 1, words, count * sizeof(*arguments));
	return arguments;
}

static void with_vfork(char **words)
{
	char **arguments = own_arguments(words, "vforked");
	pid_t pid = vfork();

	if (!pid) {
		execv(own_path, arguments);
		_exit(127);
	}
	in_child(pid, "vfork");
}

static void with_spawn(char **words)
{
	pid_t pid;

	errno = posix_spawn(&pid, own_path, NULL, NULL, own_arguments(words, "spawned"), environ);
	if (errno)
		fail("posix_spawn");
	stay();
}

static void into_cgroup(const char *folder)
{
	struct clone_args how = { .flags = 0, .exit_signal = SIGCHLD };

	if (strcmp(folder, "-")) {
		int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		check(fd, folder);
		how.flags = CLONE_INTO_CGROUP;
		how.cgroup = fd;
	}
	in_child(syscall(SYS_clone3, &how, sizeof(how)), "clone3");
}

/* Threads. */

static void interpret(char **words);

struct start {
	char **words;
	char *path; /* else it goes on with the words */
};

static void *in_thread(void *argument)
{
	struct start *start = argument;

	if (start->path) {
		execv(start->path, start->words);
		fail(start->path);
	}
	interpret(start->words);
	return NULL;
}

/* The words go on in a thread that is not the leader; `leader_ends`: which is a zombie from then on. */
static void go_on_in_thread(char **words, char *path, int leader_ends)
{
	struct start *start = malloc(sizeof(*start));
	pthread_t thread;

	if (!start)
		fail("memory");
	*start = (struct start){ words, path };
	errno = pthread_create(&thread, NULL, in_thread, start);
	if (errno)
		fail("pthread_create");
	if (leader_ends)
		pthread_exit(NULL);
	stay();
}

/* Users and namespaces. */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	check(fd, path);
	check(write(fd, text, strlen(text)), path);
	close(fd);
}

static void enter_namespaces(const char *letters)
{
	static const struct { char letter; int flag; } known[] = {
		{ 'U', CLONE_NEWUSER }, { 'p', CLONE_NEWPID }, { 'm', CLONE_NEWNS }, { 'n', CLONE_NEWNET },
		{ 'i', CLONE_NEWIPC }, { 'u', CLONE_NEWUTS }, { 'C', CLONE_NEWCGROUP },
	};
	int flags = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strchr(letters, known[i].letter))
			flags |= known[i].flag;
	check(unshare(flags), letters);
}

/* User and group alike; a further user namespace needs both. */
static void map_own_ids(const char *inside, const char *outside)
{
	char line[64];

	snprintf(line, sizeof(line), "%s %s 1", inside, outside);
	write_file("/proc/self/uid_map", line);
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/gid_map", line);
}

static void become(const char *uid)
{
	uid_t id = strtoul(uid, NULL, 10);

	check(setresuid(id, id, id), "setresuid");
}

/* In a pid namespace: a process says `old` and ends, and the next one gets its number and says `new`. */
static void reuse_pid(void)
{
	pid_t first = fork(), second;
	char text[32];

	check(first, "fork");
	if (!first) {
		say_and_wait("old");
		_exit(0);
	}
	waitpid(first, NULL, 0);
	do {
		snprintf(text, sizeof(text), "%d", first - 1);
		write_file("/proc/sys/kernel/ns_last_pid", text);
		check(second = fork(), "fork");
		if (!second) {
			if (getpid() != first)
				_exit(0);
			say_and_wait("new");
			return;
		}
		if (second != first)
			waitpid(second, NULL, 0);
	} while (second != first);
	stay();
}

/* The words. Each step returns how many of them it used. */

static int start_process(char **words)
{
	const char *word = *words;

	if (!strcmp(word, "fork"))
		in_child(fork(), word);
	else if (!strcmp(word, "fork-and-go"))
		fork_and_go();
	else if (!strcmp(word, "vfork"))
		with_vfork(words + 1);
	else if (!strcmp(word, "spawn"))
		with_spawn(words + 1);
	else if (!strcmp(word, "clone-parent"))
		in_child(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0), word);
	else if (!strcmp(word, "cgroup"))
		return into_cgroup(words[1]), 2;
	else if (!strcmp(word, "reuse-pid"))
		reuse_pid();
	else
		return 0;
	return 1;
}

static int change_process(char **words)
{
	const char *word = *words;

	if (!strcmp(word, "thread"))
		go_on_in_thread(words + 1, NULL, 0);
	else if (!strcmp(word, "thread-alone"))
		go_on_in_thread(words + 1, NULL, 1);
	else if (!strcmp(word, "thread-exec")) /* PATH, then all arguments from argv[0] on */
		go_on_in_thread(words + 2, words[1], 0);
	else if (!strcmp(word, "setsid"))
		check(setsid(), word);
	else if (!strcmp(word, "subreaper"))
		check(prctl(PR_SET_CHILD_SUBREAPER, 1), word);
	else if (!strcmp(word, "unshare"))
		return enter_namespaces(words[1]), 2;
	else if (!strcmp(word, "map"))
		return map_own_ids(words[1], words[2]), 3;
	else if (!strcmp(word, "become"))
		return become(words[1]), 2;
	else
		return 0;
	return 1;
}

static void interpret(char **words)
{
	while (*words) {
		int used = start_process(words);

		if (!used)
			used = change_process(words);
		if (!used && !strcmp(*words, "say")) {
			say_and_wait(words[1]);
			used = 2;
		} else if (!used && !strcmp(*words, "exec")) { /* PATH, then all arguments from argv[0] on */
			execv(words[1], words + 2);
			fail(words[1]);
		} else if (!used) {
			errno = EINVAL;
			fail(*words);
		}
		words += used;
	}
	stay();
}

int main(int argc, char **argv)
{
	const char *fd = getenv("TORTURE_FD");

	if (argc < 2 || !fd)
		return 2;
	voice = atoi(fd);
	signal(SIGCHLD, SIG_IGN); /* the dead leave no zombies, and their numbers are free at once */
	check(readlink("/proc/self/exe", own_path, sizeof(own_path) - 1), "own path");
	interpret(argv + 1);
}
