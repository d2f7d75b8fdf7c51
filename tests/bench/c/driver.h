/*
 * What all drivers share: a clock, a way to end, and a start of a program that is timed from outside.
 * A driver prints one line of numbers (nanoseconds unless said otherwise) for each round, at its end, so that
 * printing is never part of what is measured.
 */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* CLOCK_MONOTONIC, which Python's time.monotonic_ns() reads too. */
static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (errno)
        fprintf(stderr, ": %s", strerror(errno));
    fputc('\n', stderr);
    exit(1);
}

static inline long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < 0)
        fail("not a number: %s", text);
    return value;
}

static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("no memory");
    return memory;
}

/* Returns the whole file, with its size; not freed. */
static inline char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s", path);
    char *bytes = allocate(1, 1 << 20);
    *size = fread(bytes, 1, 1 << 20, file);
    if (ferror(file) || !feof(file))
        fail("%s can't be read, or is longer than 1 MiB", path);
    fclose(file);
    return bytes;
}

#endif
