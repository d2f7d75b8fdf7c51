/*
 * A process that opens files when it is told, and answers each line with the errno, 0 if it could: PATH; child PATH (a
 * forked child opens it); storm PATH (opens it until the input ends; two numbers: tries, successes); exec (itself again).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int try(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int by_child(const char *path)
{
	int status = 0;

	if (!fork())
		_exit(try(path));
	wait(&status);
	return WEXITSTATUS(status);
}

static void storm(const char *path)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	long tries = 0, successes = 0;

	for (; !poll(&input, 1, 1); tries++) /* a pause: an emulated machine must restart a monitor meanwhile */
		successes += !try(path);
	printf("%ld %ld\n", tries, successes);
}

int main(int count, char **arguments)
{
	char line[4096];

	(void)count;
	setvbuf(stdout, 0, _IOLBF, 0);
	puts("0");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "child ", 6))
			printf("%d\n", by_child(line + 6));
		else if (!strncmp(line, "storm ", 6))
			storm(line + 6);
		else if (!strcmp(line, "exec"))
			execv("/proc/self/exe", arguments);
		else
			printf("%d\n", try(line));
	}
	return 0;
}
