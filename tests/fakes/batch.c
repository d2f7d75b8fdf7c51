/*
 * Starts programs one after the other: for each line of standard input "PROGRAM CALL PATH FOLDER IN OUT", separated by
 * tabs, a process of its own that runs `PROGRAM CALL PATH` in FOLDER. IN and OUT number descriptors of ours that become
 * its standard input and output; -1: /dev/null, and the pipe to us. Prints a line for each, when it has ended: its pid,
 * a tab, and what it printed there or on standard error. Exit code 0 unless a line can't be read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 6

static _Noreturn void become(char **words, int report)
{
	int in = atoi(words[4]), out = atoi(words[5]);

	dup2(in < 0 ? open("/dev/null", O_RDONLY) : in, 0); /* none in a chroot: then it has no standard input */
	dup2(out < 0 ? report : out, 1);
	dup2(report, 2);
	if (!chdir(words[3]))
		execl(words[0], words[0], words[1], words[2], (char *)0);
	dprintf(report, "not started: %s", strerror(errno));
	_exit(1);
}

static void run(char **words)
{
	char said[256] = "";
	size_t length = 0;
	ssize_t more;
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) || (child = fork()) < 0)
		exit(1);
	if (child == 0)
		become(words, ends[1]);
	close(ends[1]);
	while ((more = read(ends[0], said + length, sizeof(said) - 1 - length)) > 0)
		length += more;
	close(ends[0]);
	waitpid(child, 0, 0);
	said[strcspn(said, "\n")] = 0;
	printf("%d\t%s\n", child, said);
	fflush(stdout);
}

int main(void)
{
	char *line = 0, *words[WORDS];
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0) {
		char *rest = line;

		line[strcspn(line, "\n")] = 0;
		for (int i = 0; i < WORDS; i++)
			if (!(words[i] = strsep(&rest, "\t")))
				return 2;
		run(words);
	}
	return 0;
}
