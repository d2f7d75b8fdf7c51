/*
 * A reader that keeps a file open: "held PATH". For each line of its input it says what a read of the open file gives, and
 * what a new open and read of the path gives: the first four bytes, or the error. Its first line: that it is open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(int fd)
{
	char data[5] = "";

	if (fd < 0 || pread(fd, data, 4, 0) < 0)
		printf("%s\n", strerrorname_np(errno));
	else
		printf("%s\n", data[0] ? data : "nothing");
}

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1, again;

	say(fd);
	fflush(stdout);
	while (getchar() == '\n') {
		say(fd);
		again = open(argv[1], O_RDONLY);
		say(again);
		if (again >= 0)
			close(again);
		fflush(stdout);
	}
	return 0;
}
