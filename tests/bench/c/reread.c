/* reread PATH ROUNDS: opens and reads a file again and again; prints what open(2) and the first read(2) took. */
#include "driver.h"

#include <fcntl.h>

int main(int count, char **words)
{
	char data[4096];
	long rounds = count == 3 ? number(words[2]) : 0;
	int64_t *times = allocate(2 * rounds, sizeof(*times));

	for (long round = 0; round < rounds; round++) {
		int64_t began = now_ns();
		int fd = open(words[1], O_RDONLY | O_CLOEXEC);
		int64_t opened = now_ns();

		if (fd < 0 || read(fd, data, sizeof(data)) <= 0)
			fail("%s", words[1]);
		times[2 * round] = opened - began;
		times[2 * round + 1] = now_ns() - opened;
		close(fd);
	}
	for (long round = 0; round < rounds; round++)
		printf("%ld %ld\n", (long)times[2 * round], (long)times[2 * round + 1]);
	return 0;
}
