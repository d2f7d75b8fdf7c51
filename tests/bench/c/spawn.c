/*
 * spawn [-i FILE] [-n AT_ONCE] COUNT PROGRAM [ARGUMENT]... [-- PROGRAM [ARGUMENT]...]...
 *
 * Runs the programs in turn, COUNT rounds, each from posix_spawn() until it was waited for, with its stdout on
 * /dev/null; prints a line for each round with one number for each program. Every program must exit with 0.
 * -i: its stdin is this file. -n: so many of a program are started, one after another, and then all are waited for.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "driver.h"

#define MAX_PROGRAMS 4

extern char **environ;

static int64_t run(char **command, const posix_spawn_file_actions_t *files, long at_once)
{
    int64_t start = now_ns();
    int status;
    for (long i = 0; i < at_once; i++) {
        pid_t pid;
        errno = posix_spawn(&pid, command[0], files, NULL, command, environ);
        if (errno)
            fail("%s", command[0]);
    }
    for (long i = 0; i < at_once; i++) {
        if (wait(&status) < 0)
            fail("wait");
        if (status != 0) {
            errno = 0;
            fail("%s ended with status %d", command[0], status);
        }
    }
    return now_ns() - start;
}

int main(int argc, char **argv)
{
    long at_once = 1;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    int option;
    while ((option = getopt(argc, argv, "+i:n:")) != -1) {
        if (option == 'i')
            posix_spawn_file_actions_addopen(&files, 0, optarg, O_RDONLY, 0);
        else if (option == 'n')
            at_once = number(optarg);
    }
    if (argc < optind + 2)
        fail("usage: spawn [-i FILE] [-n AT_ONCE] COUNT PROGRAM [ARGUMENT]... [-- PROGRAM [ARGUMENT]...]...");
    long count = number(argv[optind]);
    char **commands[MAX_PROGRAMS] = {argv + optind + 1};
    int programs = 1;
    for (int i = optind + 1; i < argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        if (programs == MAX_PROGRAMS || i + 1 == argc)
            fail("too many programs, or none after --");
        argv[i] = NULL;
        commands[programs++] = argv + i + 1;
    }
    int64_t *elapsed = allocate((size_t)count * (size_t)programs, sizeof *elapsed);
    for (long i = 0; i < count; i++)
        for (int each = 0; each < programs; each++)
            elapsed[i * programs + each] = run(commands[each], &files, at_once);
    for (long i = 0; i < count; i++)
        for (int each = 0; each < programs; each++)
            printf("%lld%c", (long long)elapsed[i * programs + each], each + 1 == programs ? '\n' : ' ');
    return 0;
}
