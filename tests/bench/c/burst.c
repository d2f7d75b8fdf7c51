/*
 * burst COUNT PARALLEL SECONDS PROGRAM
 *
 * Runs PROGRAM (no arguments) COUNT times by vfork and exec, PARALLEL at a time; stops early after SECONDS.
 * Prints how many ran, and the nanoseconds that took.
 */
#include <sys/wait.h>

#include "driver.h"

static void start(char *program)
{
    char *const command[] = {program, NULL};
    char *const no_environment[] = {NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(program, command, no_environment);
        _exit(127);
    }
    if (pid < 0)
        fail("vfork");
}

static void wait_for_one(void)
{
    int status;
    if (waitpid(-1, &status, 0) < 0)
        fail("waitpid");
    if (status != 0) {
        errno = 0;
        fail("the program ended with status %d", status);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        fail("usage: burst COUNT PARALLEL SECONDS PROGRAM");
    long count = number(argv[1]), parallel = number(argv[2]), started = 0, running = 0;
    int64_t begin = now_ns(), end = begin + number(argv[3]) * 1000000000LL;
    while (started < count && now_ns() < end) {
        if (running == parallel) {
            wait_for_one();
            running--;
        }
        start(argv[4]);
        started++;
        running++;
    }
    for (; running; running--)
        wait_for_one();
    printf("%ld %lld\n", started, (long long)(now_ns() - begin));
    return 0;
}
