/*
 * loads KIND BATCHES SIZE
 *
 * Does one cheap thing SIZE times a batch; prints a line for each batch: nanoseconds a time, in hundredths.
 *
 * KIND  syscall  getppid(), the cheapest call
 *       switch   a byte to another process and back through two pipes, both on one CPU: four calls, two switches
 *       map      mmap, touch and munmap of a page
 *       send     a byte through a socket pair and out again
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "driver.h"

static int pair[2], back[2];

static void do_syscall(void)
{
    syscall(SYS_getppid);
}

static void do_switch(void)
{
    char byte = 1;
    if (write(pair[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
        fail("pipe");
}

static void do_map(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        fail("mmap");
    *page = 1;
    munmap((void *)page, 4096);
}

static void do_send(void)
{
    char byte = 1;
    if (send(pair[0], &byte, 1, 0) != 1 || recv(pair[1], &byte, 1, 0) != 1)
        fail("socket");
}

static pid_t start_echo(void)
{
    cpu_set_t one;
    char byte;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (pipe(pair) || pipe(back) || sched_setaffinity(0, sizeof one, &one))
        fail("pipe");
    pid_t child = fork();
    if (child)
        return child;
    close(pair[1]);
    while (read(pair[0], &byte, 1) == 1)
        if (write(back[1], &byte, 1) != 1)
            _exit(1);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        fail("usage: loads KIND BATCHES SIZE");
    long batches = number(argv[2]), size = number(argv[3]);
    int64_t *elapsed = allocate((size_t)batches, sizeof *elapsed);
    void (*once)(void) = do_syscall;
    pid_t echo = 0;

    if (!strcmp(argv[1], "switch")) {
        echo = start_echo();
        once = do_switch;
    } else if (!strcmp(argv[1], "map")) {
        once = do_map;
    } else if (!strcmp(argv[1], "send")) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
            fail("socketpair");
        once = do_send;
    } else if (strcmp(argv[1], "syscall")) {
        fail("no such kind: %s", argv[1]);
    }
    for (long batch = 0; batch < batches; batch++) {
        int64_t start = now_ns();
        for (long i = 0; i < size; i++)
            once();
        elapsed[batch] = (now_ns() - start) * 100 / size;
    }
    if (echo)
        kill(echo, SIGKILL);
    for (long batch = 0; batch < batches; batch++)
        printf("%lld\n", (long long)elapsed[batch]);
    return 0;
}
