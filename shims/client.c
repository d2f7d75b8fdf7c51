/*
 * The shim: one static program with many names that asks the broker on behalf of whoever started it.
 *
 *   claude-api-key-helper [ARGUMENT]...          the protocol is the program's name (a symbolic link)
 *   agent-broker-shim PROTOCOL [ARGUMENT]...     the protocol is the first argument
 *
 * It sends the protocol's name, the arguments, and only what protocols.h lists for this protocol (stdin,
 * single environment variables); it prints what the broker answers and exits with the broker's code.
 * Otherwise: 2 misuse, 4 no usable answer within 2 s, 1 the answer could not be printed; one line on stderr.
 *
 * What it relies on: nothing. It has no privilege, and the broker takes its word for nothing: who is
 * asking is read from the kernel. What it guarantees its caller: the answer is root's. AGENT_BROKER_ROOT
 * names another root folder (for tests and demonstrations), so whoever sets it chooses the socket; but
 * nothing is sent, and no answer is taken, unless the process that called listen() was root's. So the
 * variable can't feed a tool with foreign credentials, unless root serves that folder. It is ignored
 * where the kernel says that the caller is not to be trusted (AT_SECURE).
 *
 * Compile: cc @cc.flags -o agent-broker-shim client.c
 */
#if __STDC_HOSTED__
#error "compile with the flags in cc.flags: this program is its own start-up code"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* struct ucred */
#endif
#include <errno.h>
#include <linux/auxvec.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "linux_start.h"

#include "frame.h"

/* Who must have called listen(); only the tests compile it with another number. */
#ifndef SERVER_UID
#define SERVER_UID 0
#endif

#define WAIT_SECONDS 2 /* for everything between connecting and the answer */
#define RETRY_NS 5000000 /* between two attempts to connect while the queue of the socket is full */

enum exit_code { FAILED = 1, MISUSE = 2, UNAVAILABLE = 4 };

struct protocol {
    const char *name;
    _Bool reads_stdin;
    const char *const *environment; /* names, ended by NULL; NULL: none */
};

#ifndef PROTOCOL_TABLE
#define PROTOCOL_TABLE "protocols.h"
#endif
#include PROTOCOL_TABLE

static const char SOCKET_NAME[] = "/run/agent-broker/agent.sock";
static const char OWN_NAME[] = "agent-broker-shim";

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

static const char *base_name(const char *path)
{
    const char *base = path;
    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
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

/* ---- the request ---- */

/* Appends all of stdin as one field; the new end, 0 if it is too long, or a negative error. */
static long put_stdin(size_t used)
{
    size_t start = used + FIELD_HEADER_BYTES, end = start;
    while (end < sizeof frame) {
        long got = CALL3(read, 0, frame + end, sizeof frame - end);
        if (got == 0)
            break;
        if (got < 0 && got != -EINTR)
            return got;
        if (got > 0)
            end += (size_t)got;
    }
    if (end > MAX_FRAME_BYTES)
        return 0;
    if (end == start)
        return (long)used;
    put_u16(frame + used, TAG_STDIN);
    put_u16(frame + used + 2, (unsigned)(end - start));
    return (long)end;
}

static const struct protocol *look_up(const char *name)
{
    static const struct protocol bare;
    for (size_t i = 0; i < sizeof PROTOCOLS / sizeof *PROTOCOLS; i++)
        if (same(PROTOCOLS[i].name, name))
            return &PROTOCOLS[i];
    return &bare;
}

/* Fills `frame`; its size, 0 if it would be too long, or a negative error of reading stdin. */
static long compose(const char *name, char **arguments, char **envp)
{
    const struct protocol *protocol = look_up(name);
    size_t used = put_field(frame, HEADER_BYTES, TAG_PROTOCOL, name, strlen(name));
    for (; used && *arguments; arguments++)
        used = put_field(frame, used, TAG_ARGUMENT, *arguments, strlen(*arguments));
    if (used && protocol->reads_stdin) {
        long end = put_stdin(used);
        if (end < 0)
            return end;
        used = (size_t)end;
    }
    for (const char *const *wanted = protocol->environment; used && wanted && *wanted; wanted++) {
        const char *found = variable(envp, *wanted);
        if (found)
            used = put_field(frame, used, TAG_ENVIRONMENT, found, strlen(found));
    }
    if (used)
        put_header(frame, REQUEST, used);
    return (long)used;
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
        return fail(UNAVAILABLE, "the broker is too busy: no place for 2 s at ", address.sun_path, "try again later");
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

static int print_answer(size_t size)
{
    struct answer answer;
    int type = frame_type_of(frame, size);
    if (type == VERSIONS)
        return fail(UNAVAILABLE, "this shim and the broker are of different versions", "", "reinstall agent-broker");
    if (type != ANSWER || !take_answer(frame, size, &answer))
        return fail(UNAVAILABLE, "the broker's answer can't be read", "", "reinstall agent-broker");
    if (write_all(2, answer.err, answer.err_bytes) < 0 || write_all(1, answer.out, answer.out_bytes) < 0) {
        fail(FAILED, "the answer could not be written to stdout", "", "check who reads it");
        return answer.exit_code ? answer.exit_code : FAILED;
    }
    return answer.exit_code;
}

static int ask(size_t size)
{
    struct timespec left = {.tv_sec = WAIT_SECONDS};
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
        return fail(UNAVAILABLE, "the broker did not answer within 2 s", "", "see: agent-broker doctor");
    if (got <= 0)
        return fail(UNAVAILABLE, "the broker hung up without an answer", "", "try again, or see: agent-broker doctor");
    int code = print_answer((size_t)got);
    explicit_bzero(frame, (size_t)got);
    return code;
}

static int run(int argc, char **argv, char **envp)
{
    /* Neither a core file nor another process of this user gets to see an answer in our memory. */
    CALL5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    /* A closed pipe is an error that write() returns, not a death with the answer in memory. */
    const struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } ignore = {.handler = (void *)1 /* SIG_IGN */};
    CALL4(rt_sigaction, SIGPIPE, &ignore, NULL, sizeof ignore.mask);

    const char *name = argc > 0 ? base_name(argv[0]) : OWN_NAME;
    char **arguments = argc > 0 ? argv + 1 : argv;
    if (same(name, OWN_NAME)) {
        if (!*arguments)
            return fail(MISUSE, "no protocol", "", "usage: agent-broker-shim PROTOCOL [ARGUMENT]...");
        name = *arguments++;
    }
    int code = choose_socket(envp);
    if (code)
        return code;
    long size = compose(name, arguments, envp);
    if (size < 0)
        return fail(FAILED, "stdin can't be read", "", "check what is connected to it");
    if (size == 0)
        return fail(MISUSE, "the request is longer than 65536 bytes", "", "send less");
    return ask((size_t)size);
}
