/*
 * spawn COUNT PROGRAM [ARGUMENT]... [-- PROGRAM [ARGUMENT]...]...
 *
 * Runs the programs in turn, COUNT rounds, each from posix_spawn() until it was waited for, with its stdout on
 * /dev/null; prints a line for each round with one number for each program. Every program must exit with 0.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "driver.h"

#define MAX_PROGRAMS 4

extern char **environ;

static int64_t run(char **command, const posix_spawn_file_actions_t *quiet)
{
    int64_t start = now_ns();
    pid_t pid;
    int status;
    errno = posix_spawn(&pid, command[0], quiet, NULL, command, environ);
    if (errno)
        fail("%s", command[0]);
    if (waitpid(pid, &status, 0) != pid)
        fail("waitpid");
    int64_t elapsed = now_ns() - start;
    if (status != 0) {
        errno = 0;
        fail("%s ended with status %d", command[0], status);
    }
    return elapsed;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        fail("usage: spawn COUNT PROGRAM [ARGUMENT]... [-- PROGRAM [ARGUMENT]...]...");
    long count = number(argv[1]);
    char **commands[MAX_PROGRAMS] = {argv + 2};
    int programs = 1;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        if (programs == MAX_PROGRAMS || i + 1 == argc)
            fail("too many programs, or none after --");
        argv[i] = NULL;
        commands[programs++] = argv + i + 1;
    }
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);

    int64_t *elapsed = allocate((size_t)count * (size_t)programs, sizeof *elapsed);
    for (long i = 0; i < count; i++)
        for (int each = 0; each < programs; each++)
            elapsed[i * programs + each] = run(commands[each], &quiet);
    for (long i = 0; i < count; i++)
        for (int each = 0; each < programs; each++)
            printf("%lld%c", (long long)elapsed[i * programs + each], each + 1 == programs ? '\n' : ' ');
    return 0;
}
