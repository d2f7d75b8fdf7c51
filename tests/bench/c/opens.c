/*
 * opens BATCHES SIZE PATH [OTHER]
 *
 * Opens and closes PATH, SIZE times a batch; prints a line for each batch: nanoseconds a time, in hundredths. Meanwhile
 * this process watches OTHER by inotify.
 */
#include <fcntl.h>
#include <sys/inotify.h>

#include "driver.h"

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5)
        fail("usage: opens BATCHES SIZE PATH [OTHER]");
    if (argc == 5 && inotify_add_watch(inotify_init1(IN_CLOEXEC), argv[4], IN_MODIFY) < 0)
        fail("%s", argv[4]);
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
