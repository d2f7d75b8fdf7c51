/*
 * opens BATCHES SIZE PATH
 *
 * Opens and closes PATH, SIZE times a batch; prints a line for each batch: nanoseconds a time, in hundredths.
 */
#include <fcntl.h>

#include "driver.h"

int main(int argc, char **argv)
{
    if (argc != 4)
        fail("usage: opens BATCHES SIZE PATH");
    long batches = number(argv[1]), size = number(argv[2]);
    int64_t *elapsed = allocate((size_t)batches, sizeof *elapsed);
    for (long batch = 0; batch < batches; batch++) {
        int64_t start = now_ns();
        for (long i = 0; i < size; i++) {
            int fd = open(argv[3], O_RDONLY | O_CLOEXEC);
            if (fd < 0)
                fail("%s", argv[3]);
            close(fd);
        }
        elapsed[batch] = (now_ns() - start) * 100 / size;
    }
    for (long batch = 0; batch < batches; batch++)
        printf("%lld\n", (long long)elapsed[batch]);
    return 0;
}
