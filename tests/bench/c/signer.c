/*
 * signer COUNT REQUEST SOCKET [SOCKET]...
 *
 * Sends the bytes of the file REQUEST, one request for a signature, to the ssh-agent at each SOCKET and reads the whole
 * answer; each in turn, COUNT rounds, on one kept connection each. Prints a line for each round with one number for each
 * socket: nanoseconds from the first byte sent to the last received. Every answer must be a signature.
 */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "driver.h"

#define MAX_SOCKETS 4
#define SIGN_RESPONSE 14
#define MOST_BYTES 16384
#define SETTLE_US 50000 /* the broker refuses connections that may be older than the program, by the kernel's clock tick */

static int connected(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    errno = 0;
    if (strlen(path) >= sizeof address.sun_path)
        fail("too long: %s", path);
    strcpy(address.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("%s", path);
    return fd;
}

static void read_whole(int fd, unsigned char *into, size_t size)
{
    while (size) {
        ssize_t got = recv(fd, into, size, 0);
        if (got <= 0)
            fail("the agent hung up in the middle of an answer");
        into += got;
        size -= (size_t)got;
    }
}

static void read_signature(int fd)
{
    static unsigned char body[MOST_BYTES];
    uint32_t size;
    read_whole(fd, (unsigned char *)&size, sizeof size);
    size = ntohl(size);
    errno = 0;
    if (size == 0 || size > sizeof body)
        fail("an answer of %u bytes", size);
    read_whole(fd, body, size);
    if (body[0] != SIGN_RESPONSE)
        fail("the agent answered %u, and no signature", body[0]);
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 3 + MAX_SOCKETS)
        fail("usage: signer COUNT REQUEST SOCKET [SOCKET]...");
    long count = number(argv[1]);
    int sockets = argc - 3, fd[MAX_SOCKETS];
    size_t size;
    char *request = read_file(argv[2], &size);
    usleep(SETTLE_US);
    for (int i = 0; i < sockets; i++)
        fd[i] = connected(argv[3 + i]);
    int64_t *numbers = allocate((size_t)(count * sockets), sizeof *numbers), *at = numbers;
    for (long round = 0; round < count; round++)
        for (int i = 0; i < sockets; i++) {
            int64_t start = now_ns();
            if (send(fd[i], request, size, MSG_NOSIGNAL) != (ssize_t)size)
                fail("send");
            read_signature(fd[i]);
            *at++ = now_ns() - start;
        }
    for (long i = 0; i < count * sockets; i++)
        printf("%lld%c", (long long)numbers[i], (i + 1) % sockets ? ' ' : '\n');
    return 0;
}
