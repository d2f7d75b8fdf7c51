/*
 * The launcher: becomes a command that the broker gives secrets to, and to nothing else.
 *
 *   agent-broker-run NAME... -- /ABSOLUTE/COMMAND [ARGUMENT]...
 *
 * It asks the broker by the names and the command's path; the broker, who sees from the kernel that this program asks
 * and for whom, answers with what is to be executed and what it is to be given. Then it executes exactly that file: it is
 * opened first, the open file must have the numbers that the broker's has, and it is the open file that is executed.
 *
 * What is guaranteed: no other process of this user can read its memory, and it leaves nothing behind: no child, no file,
 * no descriptor but the sealed memory files that were asked for. What is not: the command has the secret then, whoever
 * it starts inherits it, and programs of the same user can read it there (/proc/PID/environ).
 *
 * Exit codes: the command's own, since this process becomes it. Before that: the broker's, or as the shim's (client.c).
 *
 * Compile: cc @cc.flags -o agent-broker-run launcher.c
 */
#if __STDC_HOSTED__
#error "compile with the flags in cc.flags: this program is its own start-up code"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* struct ucred */
#endif
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "linux_start.h"

#include "frame.h"

#include "asking.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif

#define PATIENCE_S 6 /* the broker hashes a program that it has not seen */

static const char OWN_NAME[] = "agent-broker-run";

/*
 * The items of an answer, each ended by NUL: what broker/agent_broker/transport/launch.py writes. A value follows the item
 * that names it, as an item of its own.
 */
enum item {
    EXECUTE = 'X', /* path of the file to execute */
    NUMBERS = 'N', /* of that file: see numbers_of */
    WORD = 'A', /* of its arguments, before the command's own */
    VARIABLE = 'E', /* NAME=VALUE */
    FILE_VARIABLE = 'F', /* NAME, whose value is the path of a memory file with the next item's text */
    FILE_OPTION = 'O', /* an option, which is followed by such a path */
    TEXT = 'D', /* of a memory file */
};

struct command {
    char **arguments, **environment; /* of the caller */
    char **argv, **envp; /* what is executed; grow at the ends below */
    size_t argc, envc;
    const char *path, *numbers;
    const char *given[64]; /* NAME=... or NAME, of variables that are not the caller's to set */
    size_t given_count;
};

static struct command command;
static char paths[32][32]; /* of memory files, as variables or arguments */
static size_t paths_used;

/* ---- text ---- */

static char *put_text(char *at, const char *text)
{
    size_t length = strlen(text);
    memcpy(at, text, length);
    return at + length;
}

static char *put_decimal(char *at, unsigned long number)
{
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    return at;
}

/* The length of NAME in `NAME=VALUE`, or of the whole. */
static size_t name_length(const char *text)
{
    size_t length = 0;
    while (text[length] && text[length] != '=')
        length++;
    return length;
}

/* ---- the file that is executed ---- */

/* `MAJOR MINOR INODE SIZE SECONDS NANOSECONDS` (of the last change of its entry); 0 or a negative error. */
static long numbers_of(int fd, char *text)
{
    struct statx facts;
    long error = CALL5(statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &facts);
    if (error < 0)
        return error;
    const unsigned long numbers[] = {facts.stx_dev_major,    facts.stx_dev_minor,
                                     facts.stx_ino,          facts.stx_size,
                                     (unsigned long)facts.stx_ctime.tv_sec, facts.stx_ctime.tv_nsec};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (i)
            *text++ = ' ';
        text = put_decimal(text, numbers[i]);
    }
    *text = 0;
    return 0;
}

/* A sealed memory file with this text, which the command inherits; its descriptor or a negative error. */
static long memory_file(const char *text)
{
    long fd = CALL2(memfd_create, OWN_NAME, MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd == -EINVAL)
        fd = CALL2(memfd_create, OWN_NAME, MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    long error = write_all((int)fd, text, strlen(text));
    if (error == 0)
        error = CALL3(fcntl, fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    if (error == 0)
        error = CALL3(lseek, fd, 0, 0 /* SEEK_SET */);
    return error < 0 ? error : fd;
}

/* ---- the answer ---- */

static _Bool is_given(const char *variable)
{
    size_t length = name_length(variable);
    for (size_t i = 0; i < command.given_count; i++)
        if (name_length(command.given[i]) == length && memcmp(command.given[i], variable, length) == 0)
            return 1;
    return 0;
}

/* Notes one item and, if it has one, the text that belongs to it; 0, or an exit code. */
static int take_item(const char *item, const char *text)
{
    const char *value = item + 1;
    if (*item == EXECUTE)
        command.path = value;
    else if (*item == NUMBERS)
        command.numbers = value;
    else if (*item == WORD)
        command.argv[command.argc++] = (char *)value;
    else if (*item == VARIABLE)
        command.envp[command.envc++] = (char *)value;
    if (*item == VARIABLE || *item == FILE_VARIABLE) {
        if (command.given_count == sizeof command.given / sizeof *command.given)
            return fail(FAILED, "the broker gives too many variables", "", "name fewer secrets");
        command.given[command.given_count++] = value;
    }
    if (*item != FILE_VARIABLE && *item != FILE_OPTION)
        return 0;
    char *path = paths[paths_used];
    if (paths_used++ == sizeof paths / sizeof *paths)
        return fail(FAILED, "the broker gives too many files", "", "name fewer secrets");
    long fd = text ? memory_file(text) : -EINVAL;
    if (fd < 0)
        return fail(FAILED, "no memory file could be made", "", "check the limit of open files: ulimit -n");
    *put_decimal(put_text(path, "/proc/self/fd/"), (unsigned long)fd) = 0;
    if (*item == FILE_OPTION) {
        command.argv[command.argc++] = (char *)value;
        command.argv[command.argc++] = path;
    }
    return 0;
}

/* `NAME=PATH` of each memory file that a variable names: its text needs a place of its own. */
static int put_file_variable(const char *name, const char *path, char **room, const char *end)
{
    if (strlen(name) + strlen(path) + 2 > (size_t)(end - *room))
        return fail(FAILED, "the broker gives too long names", "", "name fewer secrets");
    command.envp[command.envc++] = *room;
    *room = put_text(put_text(put_text(*room, name), "="), path);
    *(*room)++ = 0;
    return 0;
}

static int take_items(const char *at, const char *end)
{
    static char names[4096];
    char *room = names;
    int code = 0;
    while (at < end && !code) {
        const char *next = at + strlen(at) + 1;
        _Bool has_text = next < end && *next == TEXT;
        size_t file = paths_used;
        code = take_item(at, has_text ? next + 1 : NULL);
        if (!code && *at == FILE_VARIABLE)
            code = put_file_variable(at + 1, paths[file], &room, names + sizeof names);
        at = has_text ? next + strlen(next) + 1 : next;
    }
    return code;
}

/* Room for every pointer that may be needed; 0 or an exit code. */
static int make_room(size_t items)
{
    size_t count = 2 * items + 2;
    for (char **each = command.arguments; *each; each++)
        count++;
    size_t variables = items + 2;
    for (char **each = command.environment; *each; each++)
        variables++;
    long room = CALL6(mmap, NULL, (count + variables) * sizeof(char *), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room < 0 && room > -4096)
        return fail(FAILED, "there is no memory", "", "try again");
    command.argv = (char **)room;
    command.envp = command.argv + count;
    return 0;
}

/* Becomes the command; returns only if that can't be. */
static int become(void)
{
    char numbers[128];
    long fd = CALL3(open, command.path, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fail(FAILED, "the command can't be opened: ", command.path, "try again");
    if (numbers_of((int)fd, numbers) < 0 || !same(numbers, command.numbers))
        return fail(FAILED, "another file than the broker's is at ", command.path, "start it outside of containers");
    const struct rlimit none = {0, 0};
    CALL4(prlimit64, 0, RLIMIT_CORE, &none, NULL); /* what it is given is not to be in a core file */
    CALL5(execveat, fd, "", command.argv, command.envp, AT_EMPTY_PATH);
    return fail(FAILED, "this can't be executed: ", command.path, "try it without --with");
}

static int launch(size_t size)
{
    struct answer answer;
    int type = frame_type_of(frame, size);
    if (type == VERSIONS)
        return fail(UNAVAILABLE, "this program and the broker are of different versions", "", "reinstall agent-broker");
    if (type != ANSWER || !take_answer(frame, size, &answer))
        return fail(UNAVAILABLE, "the broker's answer can't be read", "", "reinstall agent-broker");
    write_all(2, answer.err, answer.err_bytes);
    if (answer.exit_code)
        return answer.exit_code;
    const char *items = (const char *)answer.out, *end = items + answer.out_bytes;
    if (!answer.out_bytes || end[-1])
        return fail(UNAVAILABLE, "the broker's answer can't be read", "", "reinstall agent-broker");
    size_t count = 0;
    for (const char *at = items; at < end; at++)
        count += !*at;
    int code = make_room(count);
    if (!code)
        code = take_items(items, end);
    if (code)
        return code;
    if (!command.path || !command.numbers || !command.argc)
        return fail(UNAVAILABLE, "the broker's answer can't be read", "", "reinstall agent-broker");
    for (char **each = command.arguments; *each; each++)
        command.argv[command.argc++] = *each;
    for (char **each = command.environment; *each; each++)
        if (!is_given(*each))
            command.envp[command.envc++] = *each;
    return become();
}

/* The request: the names, "--" and the command's path. Its size, or 0 if it would be too long. */
static size_t compose(char **names, const char *path)
{
    size_t used = put_field(frame, HEADER_BYTES, TAG_PROTOCOL, "run", 3);
    for (; used && !same(*names, "--"); names++)
        used = put_field(frame, used, TAG_ARGUMENT, *names, strlen(*names));
    if (used)
        used = put_field(frame, used, TAG_ARGUMENT, "--", 2);
    if (used)
        used = put_field(frame, used, TAG_ARGUMENT, path, strlen(path));
    if (used)
        put_header(frame, REQUEST, used);
    return used;
}

static int run(int argc, char **argv, char **envp)
{
    hide_memory();
    char **names = argv + (argc > 0), **end = names;
    while (*end && !same(*end, "--"))
        end++;
    if (end == names || !*end || !end[1] || end[1][0] != '/')
        return fail(MISUSE, "no command", "", "usage: agent-broker-run NAME... -- /PATH/OF/COMMAND [ARGUMENT]...");
    int code = choose_socket(envp);
    if (code)
        return code;
    size_t size = compose(names, end[1]);
    if (size == 0)
        return fail(MISUSE, "the request is longer than 65536 bytes", "", "name fewer secrets");
    command.arguments = end + 2;
    command.environment = envp;
    return ask(size, PATIENCE_S, launch);
}
