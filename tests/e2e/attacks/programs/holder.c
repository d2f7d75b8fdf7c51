/*
 * A reader of a viewed file that keeps it open: "holder PATH". Prints whether it could read the file, and waits.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char data[4096];
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;

	puts(fd >= 0 && read(fd, data, sizeof(data)) > 0 ? "holds it" : "has nothing");
	fflush(stdout);
	pause();
	return 0;
}
