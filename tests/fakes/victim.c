/*
 * An agent that does what it is told, one word a line on its standard input, and answers each with a line.
 * The first line it prints is the address of a byte of its own, in hexadecimal, below 4 GiB (it is linked -no-pie).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile char byte = 'A';

/* Map a file executable: at once, or readable first and executable later. */
static int map(const char *path, int later)
{
	int fd = open(path, O_RDONLY);
	void *at = mmap(0, 4096, later ? PROT_READ : PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	if (fd < 0 || at == MAP_FAILED || (later && mprotect(at, 4096, PROT_READ | PROT_EXEC)))
		return -1;
	return munmap(at, 4096) | close(fd);
}

/* What every JIT does. */
static int own_code(void)
{
	char *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	at[0] = (char)0xc3;
	return mprotect(at, 4096, PROT_READ | PROT_EXEC) | madvise(at, 4096, MADV_DONTNEED) | munmap(at, 4096);
}

static int child(void)
{
	int pid = fork();

	if (!pid)
		for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
			pause();
	return pid;
}

static int tool(void)
{
	int pid = fork(), status;

	if (!pid)
		_exit(execl("/bin/true", "true", (char *)0));
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static int answer(char *line, char **arguments)
{
	char *path = strchr(line, ' ');

	if (path)
		*path++ = 0;
	if (!strcmp(line, "byte"))
		return byte;
	if (!strcmp(line, "map") || !strcmp(line, "protect"))
		return map(path, !strcmp(line, "protect"));
	if (!strcmp(line, "own-code"))
		return own_code();
	if (!strcmp(line, "child"))
		return child();
	if (!strcmp(line, "tool"))
		return tool();
	if (!strcmp(line, "exec"))
		execv(path ? path : arguments[0], arguments);
	return -1;
}

int main(int count, char **arguments)
{
	char line[4096];

	(void)count;
	printf("%lx\n", (unsigned long)&byte);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		printf("%d\n", answer(line, arguments));
		fflush(stdout);
	}
	return 0;
}
