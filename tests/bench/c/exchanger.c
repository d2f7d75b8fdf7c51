/*
 * exchanger COUNT PORT REQUEST [PORT REQUEST]...
 *
 * Sends the bytes of the file REQUEST to 127.0.0.1:PORT and reads the whole answer; each pair in turn, COUNT rounds, on
 * one kept connection a pair. Prints a line for each round with two numbers for each pair: nanoseconds from the first
 * byte sent to the last received, and the bytes received. Every answer must be 200, with Content-Length or chunked.
 */
#define _GNU_SOURCE /* strcasestr */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "driver.h"

#define MAX_PAIRS 4
#define HEAD_BYTES 16384
#define BODY_BYTES (256 * 1024)
#define SETTLE_US 50000 /* the broker refuses connections that may be older than the program, by the kernel's clock tick */

static const char LAST_CHUNK[] = "\r\n0\r\n\r\n";

struct pair {
    int fd;
    char *request;
    size_t request_bytes;
};

static void connect_to(struct pair *pair, long port, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair->request = read_file(path, &pair->request_bytes);
    pair->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pair->fd < 0 || connect(pair->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("127.0.0.1:%ld", port);
    setsockopt(pair->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static size_t receive(int fd, char *into, size_t room)
{
    ssize_t got = recv(fd, into, room, 0);
    if (got == 0) {
        errno = 0;
        fail("the server hung up in the middle of an answer");
    }
    if (got < 0)
        fail("recv");
    return (size_t)got;
}

/* Reads the head of an answer and what came with it; returns the bytes of both. `body` points behind the head. */
static size_t read_head(int fd, char *head, char **body)
{
    size_t used = 0;
    do {
        if (used == HEAD_BYTES)
            fail("the answer's head is too long");
        used += receive(fd, head + used, HEAD_BYTES - used);
        head[used] = 0;
    } while (!(*body = strstr(head, "\r\n\r\n")));
    *body += 4;
    errno = 0;
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0)
        fail("the server refused: %s", *body);
    return used;
}

/* Reads until a chunked body has ended; `tail` holds its last bytes so far. Returns the bytes read. */
static size_t read_chunks(int fd, char *start, size_t size)
{
    static char buffer[BODY_BYTES];
    const size_t kept = sizeof LAST_CHUNK - 1;
    char tail[2 * sizeof LAST_CHUNK] = {0};
    size_t total = 0;
    for (;;) {
        size_t from_end = size < kept ? size : kept;
        memmove(tail, tail + from_end, kept - from_end);
        memcpy(tail + kept - from_end, start + size - from_end, from_end);
        if (memcmp(tail, LAST_CHUNK, kept) == 0)
            return total;
        start = buffer;
        size = receive(fd, buffer, sizeof buffer);
        total += size;
    }
}

static size_t read_answer(int fd)
{
    static char head[HEAD_BYTES + 1], rest[BODY_BYTES];
    char *body, *length;
    size_t used = read_head(fd, head, &body);
    size_t in_body = used - (size_t)(body - head);
    char first = *body;
    *body = 0;
    length = strcasestr(head, "\r\ncontent-length:");
    *body = first;
    if (!length)
        return used + read_chunks(fd, body, in_body);
    size_t wanted = (size_t)strtoul(length + 17, NULL, 10);
    while (in_body < wanted) {
        size_t got = receive(fd, rest, sizeof rest);
        in_body += got;
        used += got;
    }
    return used;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc % 2 || argc > 2 + 2 * MAX_PAIRS)
        fail("usage: exchanger COUNT PORT REQUEST [PORT REQUEST]...");
    long count = number(argv[1]);
    int pairs = (argc - 2) / 2;
    struct pair pair[MAX_PAIRS];
    usleep(SETTLE_US);
    for (int i = 0; i < pairs; i++)
        connect_to(&pair[i], number(argv[2 + 2 * i]), argv[3 + 2 * i]);
    int64_t *numbers = allocate((size_t)(count * pairs * 2), sizeof *numbers), *at = numbers;
    for (long round = 0; round < count; round++)
        for (int i = 0; i < pairs; i++) {
            int64_t start = now_ns();
            if (send(pair[i].fd, pair[i].request, pair[i].request_bytes, MSG_NOSIGNAL) != (ssize_t)pair[i].request_bytes)
                fail("send");
            int64_t bytes = (int64_t)read_answer(pair[i].fd);
            *at++ = now_ns() - start;
            *at++ = bytes;
        }
    for (long i = 0; i < count * pairs * 2; i++)
        printf("%lld%c", (long long)numbers[i], (i + 1) % (pairs * 2) ? ' ' : '\n');
    return 0;
}
