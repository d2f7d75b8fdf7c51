/*
 * The shim: one static program with many names that asks the broker on behalf of whoever started it.
 *
 *   claude-api-key-helper [ARGUMENT]...          the protocol is the program's name (a symbolic link)
 *   agent-broker-shim PROTOCOL [ARGUMENT]...     the protocol is the first argument
 *   pnpm@WHICH [ARGUMENT]...                     what is behind the @ of a link's name is one more argument, the first
 *
 * It sends the protocol's name, the arguments, and only what protocols.h lists for this protocol (stdin,
 * single environment variables); it prints what the broker answers and exits with the broker's code.
 * Otherwise: 2 misuse, 4 no usable answer in time (2 s; protocols.h may say more), 1 the answer could not be printed;
 * one line on stderr. Where a client takes silence for "ask somebody else", protocols.h says what is printed instead
 * (on_failure).
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
#include <signal.h>
#include <string.h>

#include "linux_start.h"

#include "frame.h"

#include "asking.h"

struct protocol {
    const char *name;
    _Bool reads_stdin;
    const char *const *environment; /* names, ended by NULL; NULL: none */
    const char *on_failure; /* printed on stdout if there is no answer; NULL: nothing is */
    const char *greeting; /* printed on stdout first of all, since the client waits for it; NULL: nothing is */
    _Bool reads_line; /* stdin is one line: the client keeps it open until it has the answer */
    _Bool fails_in_words; /* on_failure is an answer of the client's own protocol: the exit code is 0 then */
    unsigned char wait_seconds; /* 1 to 9, where the broker may have to ask somebody else first; 0: WAIT_SECONDS */
};

#ifndef PROTOCOL_TABLE
#define PROTOCOL_TABLE "protocols.h"
#endif
#include PROTOCOL_TABLE

static const char OWN_NAME[] = "agent-broker-shim";

static _Bool printed; /* something of an answer went to stdout */

/* ---- the request ---- */

static const char *base_name(const char *path)
{
    const char *base = path;
    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
}

/* Appends all of stdin, or its first line, as one field; the new end, 0 if it is too long, or a negative error. */
static long put_stdin(size_t used, _Bool one_line)
{
    size_t start = used + FIELD_HEADER_BYTES, end = start;
    while (end < sizeof frame) {
        long got = CALL3(read, 0, frame + end, sizeof frame - end);
        if (got == 0)
            break;
        if (got < 0 && got != -EINTR)
            return got;
        for (; got > 0; got--)
            if (frame[end++] == '\n' && one_line)
                goto whole;
    }
whole:
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
static long compose(const struct protocol *protocol, const char *name, char **arguments, char **envp)
{
    size_t whole = strlen(name), length = 0;
    while (length < whole && name[length] != '@')
        length++;
    size_t used = put_field(frame, HEADER_BYTES, TAG_PROTOCOL, name, length);
    if (used && length < whole)
        used = put_field(frame, used, TAG_ARGUMENT, name + length + 1, whole - length - 1);
    for (; used && *arguments; arguments++)
        used = put_field(frame, used, TAG_ARGUMENT, *arguments, strlen(*arguments));
    if (used && protocol->reads_stdin) {
        long end = put_stdin(used, protocol->reads_line);
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

static int print_answer(size_t size)
{
    struct answer answer;
    int type = frame_type_of(frame, size);
    if (type == VERSIONS)
        return fail(UNAVAILABLE, "this shim and the broker are of different versions", "", "reinstall agent-broker");
    if (type != ANSWER || !take_answer(frame, size, &answer))
        return fail(UNAVAILABLE, "the broker's answer can't be read", "", "reinstall agent-broker");
    printed = answer.out_bytes > 0;
    if (write_all(2, answer.err, answer.err_bytes) < 0 || write_all(1, answer.out, answer.out_bytes) < 0) {
        fail(FAILED, "the answer could not be written to stdout", "", "check who reads it");
        return answer.exit_code ? answer.exit_code : FAILED;
    }
    return answer.exit_code;
}

static int serve(const struct protocol *protocol, const char *name, char **arguments, char **envp)
{
    int code = choose_socket(envp);
    if (code)
        return code;
    long size = compose(protocol, name, arguments, envp);
    if (size < 0)
        return fail(FAILED, "stdin can't be read", "", "check what is connected to it");
    if (size == 0)
        return fail(MISUSE, "the request is longer than 65536 bytes", "", "send less");
    return ask((size_t)size, protocol->wait_seconds ? protocol->wait_seconds : WAIT_SECONDS, print_answer);
}

static int run(int argc, char **argv, char **envp)
{
    hide_memory();
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
    const struct protocol *protocol = look_up(name);
    if (protocol->greeting)
        write_all(1, protocol->greeting, strlen(protocol->greeting));
    int code = serve(protocol, name, arguments, envp);
    if (code && !printed && protocol->on_failure)
        write_all(1, protocol->on_failure, strlen(protocol->on_failure));
    return code && !printed && protocol->fails_in_words ? 0 : code;
}
