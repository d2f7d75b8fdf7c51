/*
 * marked PROCESSES PER_SECOND MILLISECONDS MOST PATH...
 *
 * PROCESSES processes open the paths in turn, PER_SECOND times a second in all (0: without a pause), for MILLISECONDS
 * or until MOST opens were done in all, whichever comes first. Prints how many opens succeeded, how many were refused,
 * and how many nanoseconds all took. Whoever is behind its pace goes on without a pause.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "driver.h"

#define PAUSE_US 200

static void work(char **paths, long count, long share, long long per_second, int64_t end, long *counts)
{
    int64_t start = now_ns();
    for (long done = 0; done < share; done++) {
        int64_t now = now_ns();
        while (per_second && now < end && done >= (now - start) * per_second / 1000000000LL) {
            usleep(PAUSE_US);
            now = now_ns();
        }
        if (now >= end)
            break;
        int fd = open(paths[done % count], O_RDONLY | O_CLOEXEC);
        __sync_fetch_and_add(&counts[fd < 0], 1);
        if (fd >= 0)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc < 6)
        fail("usage: marked PROCESSES PER_SECOND MILLISECONDS MOST PATH...");
    long processes = number(argv[1]), per_second = number(argv[2]), most = number(argv[4]);
    long *counts = mmap(NULL, 2 * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED || !processes)
        fail("mmap");
    int64_t start = now_ns(), end = start + number(argv[3]) * 1000000LL;
    for (long i = 0; i < processes; i++) {
        pid_t child = processes > 1 ? fork() : 0;
        if (child < 0)
            fail("fork");
        if (child)
            continue;
        if (processes > 1)
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(argv + 5, argc - 5, most / processes, per_second / processes, end, counts);
        if (processes > 1)
            _exit(0);
    }
    int status = 0, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    if (failed)
        return 1;
    printf("%ld %ld %lld\n", counts[0], counts[1], (long long)(now_ns() - start));
    return 0;
}
