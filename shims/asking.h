/*
 * Asking the broker: what its static programs (client.c, launcher.c) share. A file of static functions, to be included
 * once, after frame.h.
 *
 * What it guarantees: the answer is root's. AGENT_BROKER_ROOT names another root folder (for tests and demonstrations),
 * so whoever sets it chooses the socket; but nothing is sent, and no answer is taken, unless the process that called
 * listen() was root's. It is ignored where the kernel says that the caller is not to be trusted (AT_SECURE).
 */
#ifndef AGENT_BROKER_ASKING_H
#define AGENT_BROKER_ASKING_H

#include <errno.h>
#include <linux/auxvec.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

/* Who must have called listen(); only the tests compile it with another number. */
#ifndef SERVER_UID
#define SERVER_UID 0
#endif

#define WAIT_SECONDS 2 /* what is waited, unless a protocol has other needs */
#define RETRY_NS 5000000 /* between two attempts to connect while the queue of the socket is full */

enum exit_code { FAILED = 1, MISUSE = 2, UNAVAILABLE = 4 };

static const char SOCKET_NAME[] = "/run/agent-broker/agent.sock";

static unsigned char frame[MAX_FRAME_BYTES + 1]; /* one byte more than allowed shows what is too long */
static struct sockaddr_un address;

/* ---- what goes out ---- */

/* Writes all of it; 0 or a negative error. A pipe that its owner made non-blocking is waited for. */
static long write_all(int fd, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    while (size > 0) {
        long written = CALL3(write, fd, at, size);
        if (written == -EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            written = CALL5(ppoll, &writable, 1, NULL, NULL, 0);
            if (written < 0 && written != -EINTR)
                return written;
        } else if (written >= 0) {
            at += written;
            size -= (size_t)written;
        } else if (written != -EINTR) {
            return written;
        }
    }
    return 0;
}

/* Says why there is no answer: one line, one write. Returns the exit code. */
static int fail(enum exit_code code, const char *what, const char *detail, const char *next_step)
{
    const char *parts[] = {"agent-broker: ", what, detail, "; ", next_step, "\n"};
    char line[512];
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strlen(parts[i]);
        if (length > sizeof line - used)
            length = sizeof line - used;
        memcpy(line + used, parts[i], length);
        used += length;
    }
    write_all(2, line, used);
    return code;
}

/* ---- the caller's side: name, arguments, environment ---- */

static _Bool same(const char *a, const char *b)
{
    size_t length = strlen(a);
    return length == strlen(b) && memcmp(a, b, length) == 0;
}

/* The whole `NAME=VALUE` string of a variable; NULL if it is not set. */
static const char *variable(char **envp, const char *name)
{
    size_t length = strlen(name);
    for (; *envp; envp++)
        if (length < strlen(*envp) && memcmp(*envp, name, length) == 0 && (*envp)[length] == '=')
            return *envp;
    return NULL;
}

static _Bool runs_with_privilege(char **envp)
{
    while (*envp)
        envp++;
    for (const unsigned long *entry = (const unsigned long *)(envp + 1); entry[0] != AT_NULL; entry += 2)
        if (entry[0] == AT_SECURE)
            return entry[1] != 0;
    return 1;
}

/* Sets `address`; 0 or an exit code. */
static int choose_socket(char **envp)
{
    const char *root = variable(envp, "AGENT_BROKER_ROOT");
    root = root == NULL || runs_with_privilege(envp) ? "" : root + sizeof "AGENT_BROKER_ROOT=" - 1;
    size_t length = strlen(root);
    if (length > 0 && root[0] != '/')
        return fail(MISUSE, "AGENT_BROKER_ROOT is not an absolute path", "", "set it to one, or unset it");
    while (length > 0 && root[length - 1] == '/')
        length--;
    if (length > sizeof address.sun_path - sizeof SOCKET_NAME)
        return fail(MISUSE, "AGENT_BROKER_ROOT is too long for a socket below it", "", "use a shorter path");
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, root, length);
    memcpy(address.sun_path + length, SOCKET_NAME, sizeof SOCKET_NAME);
    return 0;
}

/* ---- the broker's side ---- */

/* Connects, waiting while the socket's queue is full; 0 or a negative error. `left` is what may be waited. */
static long connect_in_time(int fd, struct timespec *left)
{
    struct timespec pause = {.tv_nsec = RETRY_NS};
    long result;
    while ((result = CALL3(connect, fd, &address, sizeof address)) == -EAGAIN) {
        if (left->tv_sec == 0 && left->tv_nsec < RETRY_NS)
            return -ETIMEDOUT;
        CALL2(nanosleep, &pause, NULL);
        if (left->tv_nsec < RETRY_NS) {
            left->tv_sec--;
            left->tv_nsec += 1000000000;
        }
        left->tv_nsec -= RETRY_NS;
    }
    return result;
}

static int fail_to_connect(long error)
{
    const char *start = "is the daemon running? agent-broker doctor";
    if (error == -ENOENT)
        return fail(UNAVAILABLE, "the broker is not there: no socket at ", address.sun_path, start);
    if (error == -ECONNREFUSED)
        return fail(UNAVAILABLE, "the broker is down: nobody listens at ", address.sun_path, start);
    if (error == -ETIMEDOUT)
        return fail(UNAVAILABLE, "the broker is too busy: no place in time at ", address.sun_path, "try again later");
    return fail(UNAVAILABLE, "the broker can't be reached at ", address.sun_path,
                "check that you may enter its folder");
}

/* SO_PEERCRED of a connecting socket names the process that called listen(), at that moment. */
static _Bool is_served_by_root(int fd)
{
    struct ucred server;
    socklen_t size = sizeof server;
    return CALL5(getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &server, &size) == 0 && server.uid == SERVER_UID;
}

/*
 * Waits for one message and returns its size, 0 when the broker hung up, or a negative error. The kernel
 * takes the time waited off `left`. A reset comes before the message that the broker sent ahead of it,
 * once: hence the second read.
 */
static long receive(int fd, struct timespec *left)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    long ready;
    do
        ready = CALL5(ppoll, &readable, 1, left, NULL, 0);
    while (ready == -EINTR);
    if (ready == 0)
        return -ETIMEDOUT;
    if (ready < 0)
        return ready;
    long got = CALL6(recvfrom, fd, frame, sizeof frame, 0, NULL, NULL);
    return got == -ECONNRESET ? CALL6(recvfrom, fd, frame, sizeof frame, 0, NULL, NULL) : got;
}

/*
 * Sends the request and waits for the answer, whose size it returns (see receive). On a kernel that has no
 * pidfds for sockets the broker asks once for its nonce back, to see that we are still who we were.
 */
static long exchange(int fd, size_t size, struct timespec *left)
{
    _Bool confirmed = 0;
    for (;;) {
        long sent = CALL6(sendto, fd, frame, size, MSG_NOSIGNAL, NULL, 0);
        explicit_bzero(frame, size);
        if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET) /* those two: it may have said why */
            return sent;
        long got = receive(fd, left);
        if (got <= 0 || confirmed || frame_type_of(frame, (size_t)got) != CHALLENGE)
            return got;
        size = (size_t)got;
        put_header(frame, CONFIRM, size);
        confirmed = 1;
    }
}

/*
 * Asks what `frame` holds, and gives the answer to `take`, which returns the exit code; it is wiped then. What went wrong
 * before is said on stderr. `patience_s`: 1 to 9, for everything between connecting and the answer.
 */
static int ask(size_t size, int patience_s, int (*take)(size_t size))
{
    char waited[] = {(char)('0' + patience_s), ' ', 's', '\0'};
    struct timespec left = {.tv_sec = patience_s};
    long fd = CALL3(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(UNAVAILABLE, "no socket could be made", "", "check the limit of open files: ulimit -n");
    if (fd <= 2)
        return fail(MISUSE, "stdin, stdout or stderr is closed", "", "open them, on /dev/null if need be");
    long error = connect_in_time((int)fd, &left);
    if (error < 0)
        return fail_to_connect(error);
    if (!is_served_by_root((int)fd))
        return fail(UNAVAILABLE, "nothing was sent, since root does not serve ", address.sun_path,
                    "check AGENT_BROKER_ROOT");
    long got = exchange((int)fd, size, &left);
    if (got == -ETIMEDOUT)
        return fail(UNAVAILABLE, "the broker did not answer within ", waited, "see: agent-broker doctor");
    if (got <= 0)
        return fail(UNAVAILABLE, "the broker hung up without an answer", "", "try again, or see: agent-broker doctor");
    int code = take((size_t)got);
    explicit_bzero(frame, (size_t)got);
    return code;
}

/* Neither a core file nor another process of this user gets to see an answer in our memory. */
static void hide_memory(void)
{
    CALL5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

#endif
