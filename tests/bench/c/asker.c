/*
 * asker SOCKET FRAME CLIENTS MILLISECONDS INTERVAL_US
 *
 * CLIENTS forked children of this process, which is the enrolled agent, ask the broker what the file FRAME says, one
 * connection a question as a shim does, for so many milliseconds. INTERVAL_US is the time between two questions of one
 * client, from start to start; 0: without a pause.
 * Prints the nanoseconds that all took, then a line for each answer: nanoseconds from connect to the answer's last byte.
 * Every answer must have exit code 0.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "driver.h"

#define MAX_ANSWERS 20000 /* of one client; it stops there */
#define MAX_FRAME 65536
/* header (12), then the first field's tag (2), length (2) and value: EXIT_CODE comes first (transport/frame.py) */
#define EXIT_CODE_AT 16
#define AFTER_EXIT_CODE 21 /* where the text of a refusal begins: STDERR, if there is no STDOUT */

struct client {
    long answers;
    int64_t elapsed[MAX_ANSWERS];
};

struct shared {
    volatile int ready;
    volatile int64_t start;
    struct client client[];
};

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char *frame;
static size_t frame_bytes;

static void ask(void)
{
    unsigned char answer[MAX_FRAME];
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("%s", address.sun_path);
    if (send(fd, frame, frame_bytes, MSG_NOSIGNAL) < 0)
        fail("send");
    ssize_t got = recv(fd, answer, sizeof answer - 1, 0);
    if (got < 0)
        fail("recv");
    close(fd);
    errno = 0;
    if (got <= EXIT_CODE_AT)
        fail("the broker hung up");
    if (answer[EXIT_CODE_AT] != 0) {
        answer[got] = 0;
        fail("refused: %s", got > AFTER_EXIT_CODE ? (char *)answer + AFTER_EXIT_CODE : "");
    }
}

static void live(struct shared *shared, struct client *own, int64_t duration, int64_t interval, int64_t delay)
{
    __sync_fetch_and_add(&shared->ready, 1);
    while (!shared->start)
        usleep(100);
    int64_t end = shared->start + duration, next = shared->start + delay;
    while (own->answers < MAX_ANSWERS) {
        int64_t begin = now_ns();
        if (begin >= end)
            return;
        if (begin < next) {
            usleep((useconds_t)((next - begin) / 1000 + 1));
            continue;
        }
        ask();
        own->elapsed[own->answers++] = now_ns() - begin;
        next += interval;
    }
}

int main(int argc, char **argv)
{
    if (argc != 6)
        fail("usage: asker SOCKET FRAME CLIENTS MILLISECONDS INTERVAL_US");
    long clients = number(argv[3]), interval = number(argv[5]) * 1000;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    frame = read_file(argv[2], &frame_bytes);
    size_t size = sizeof(struct shared) + (size_t)clients * sizeof(struct client);
    struct shared *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    for (long i = 0; i < clients; i++) {
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            live(shared, &shared->client[i], number(argv[4]) * 1000000LL, interval, interval * i / clients);
            _exit(0);
        }
    }
    while (shared->ready < clients)
        usleep(100);
    shared->start = now_ns();
    int status = 0, worst = 0;
    while (wait(&status) > 0)
        worst |= status;
    int64_t elapsed = now_ns() - shared->start;
    if (worst)
        return 1;
    printf("%lld\n", (long long)elapsed);
    for (long i = 0; i < clients; i++)
        for (long each = 0; each < shared->client[i].answers; each++)
            printf("%lld\n", (long long)shared->client[i].elapsed[each]);
    return 0;
}
