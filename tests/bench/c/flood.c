/*
 * flood HOW WHERE REQUEST PROCESSES MILLISECONDS
 *
 * What a process of the same user can do to keep the agent out, as fast as it can, PROCESSES times at once.
 * WHERE: a port of 127.0.0.1, a path of a unix stream socket, or @ and a path of a unix SEQPACKET socket.
 * HOW: ask      connect, send the bytes of the file REQUEST, wait for the answer, close; again
 *      fork     the same, each time by a new process
 *      hide     the same by up to 64 new processes at once, forked twice and in sessions of their own
 *      connect  connect and close; again
 *      hold     keep 200 connections a process with half of REQUEST sent; make each again when it is closed
 *      spin     nothing but use the processor: what a flood costs whoever it is aimed at
 *      pipeline connect, send REQUEST for as long as the socket takes it, never read; again when it is closed
 * Prints how many times that was done in all. Being refused, or turned away, is what it expects.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "driver.h"

#define HELD 200
#define HIDDEN 64
#define PATIENCE_MS 1000

static union {
    struct sockaddr any;
    struct sockaddr_un local;
    struct sockaddr_in tcp;
} address;
static socklen_t address_bytes;
static int kind = SOCK_STREAM;
static char *request;
static size_t request_bytes;
static int64_t end;
static int *hidden; /* askers that live, of one of PROCESSES */

static void find(const char *where)
{
    if (*where != '/' && *where != '@') {
        address.tcp.sin_family = AF_INET;
        address.tcp.sin_port = htons((uint16_t)number(where));
        address.tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address_bytes = sizeof address.tcp;
        return;
    }
    if (*where == '@')
        kind = SOCK_SEQPACKET;
    address.local.sun_family = AF_UNIX;
    snprintf(address.local.sun_path, sizeof address.local.sun_path, "%s", where + (*where == '@'));
    address_bytes = sizeof address.local;
}

/* Returns a connected socket, or -1: the queue is full, or the broker hung up at once. */
static int connected(void)
{
    int fd = socket(address.any.sa_family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, &address.any, address_bytes) == 0)
        return fd;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (errno == EINPROGRESS && poll(&ready, 1, PATIENCE_MS) == 1)
        return fd;
    close(fd);
    sched_yield();
    return -1;
}

static void ask(void)
{
    char answer[65536];
    int fd = connected();
    if (fd < 0)
        return;
    if (send(fd, request, request_bytes, MSG_NOSIGNAL) >= 0) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, PATIENCE_MS) == 1)
            (void)!read(fd, answer, sizeof answer);
    }
    close(fd);
}

static void ask_by_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        ask();
        _exit(0);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

static void ask_by_hidden_child(void)
{
    if (__sync_fetch_and_add(hidden, 1) >= HIDDEN) {
        __sync_fetch_and_sub(hidden, 1);
        usleep(100);
        return;
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ; /* those that ended: no process of the machine's has to */
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        pid_t asker = fork();
        if (asker == 0)
            ask();
        if (asker <= 0)
            __sync_fetch_and_sub(hidden, 1);
        _exit(0);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
    else
        __sync_fetch_and_sub(hidden, 1);
}

static void connect_once(void)
{
    int fd = connected();
    if (fd >= 0)
        close(fd);
}

static void hold(void)
{
    static struct pollfd held[HELD];
    for (int i = 0; i < HELD; i++) {
        if (held[i].fd > 0)
            continue;
        held[i].fd = connected();
        held[i].events = POLLIN;
        if (held[i].fd > 0 && kind == SOCK_STREAM)
            (void)!send(held[i].fd, request, request_bytes / 2, MSG_NOSIGNAL);
    }
    poll(held, HELD, 1);
    for (int i = 0; i < HELD; i++) {
        if (held[i].fd <= 0 || !held[i].revents)
            continue;
        close(held[i].fd);
        held[i].fd = 0;
    }
}

static void pipeline(void)
{
    int fd = connected();
    if (fd < 0)
        return;
    while (now_ns() < end) {
        if (send(fd, request, request_bytes, MSG_NOSIGNAL) >= 0)
            continue;
        if (errno != EAGAIN)
            break;
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        poll(&ready, 1, PATIENCE_MS);
    }
    close(fd);
}

static void spin(void)
{
    for (volatile int i = 0; i < 10000; i++)
        ;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*work)(void);
    } ways[] = {
        {"ask", ask}, {"fork", ask_by_child}, {"hide", ask_by_hidden_child}, {"connect", connect_once},
        {"hold", hold}, {"pipeline", pipeline}, {"spin", spin},
    };
    void (*work)(void) = NULL;
    if (argc != 6)
        fail("usage: flood HOW WHERE REQUEST PROCESSES MILLISECONDS");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, argv[1]) == 0)
            work = ways[i].work;
    if (!work)
        fail("no such way: %s", argv[1]);
    find(argv[2]);
    request = read_file(argv[3], &request_bytes);
    long *times = mmap(NULL, sizeof *times, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (times == MAP_FAILED)
        fail("mmap");
    end = now_ns() + number(argv[5]) * 1000000LL;
    for (long i = number(argv[4]); i > 0; i--) {
        if (fork() != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        hidden = mmap(NULL, sizeof *hidden, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (hidden == MAP_FAILED)
            fail("mmap");
        for (; now_ns() < end; __sync_fetch_and_add(times, 1))
            work();
        _exit(0);
    }
    while (wait(NULL) > 0)
        ;
    printf("%ld\n", *times);
    return 0;
}
