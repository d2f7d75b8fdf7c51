/* Opens and closes a file COUNT times; prints the nanoseconds that one took: open_loop PATH COUNT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char **arguments)
{
	long opens = count == 3 ? atol(arguments[2]) : 0;
	long long begin = now();

	for (long i = 0; i < opens; i++)
		close(open(arguments[1], O_RDONLY));
	return opens ? printf("%lld\n", (now() - begin) / opens) < 0 : 2;
}
