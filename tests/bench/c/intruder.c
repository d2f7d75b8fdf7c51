/*
 * intruder ORDINARY DECOY
 *
 * Opens an ordinary file (twice: the first warms the path), then a decoy. Prints when the open of the decoy began
 * (CLOCK_MONOTONIC), how long it took, and how long the ordinary one took.
 */
#include <fcntl.h>

#include "driver.h"

static int64_t timed_open(const char *path, int64_t start)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail("%s", path);
    int64_t elapsed = now_ns() - start;
    close(fd);
    return elapsed;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        fail("usage: intruder ORDINARY DECOY");
    timed_open(argv[1], now_ns());
    int64_t ordinary = timed_open(argv[1], now_ns());
    int64_t start = now_ns();
    int64_t decoy = timed_open(argv[2], start);
    printf("%lld %lld %lld\n", (long long)start, (long long)decoy, (long long)ordinary);
    return 0;
}
