/*
 * What every attack in C does once its code runs: note that it does, and try the agent's phantom at the broker's
 * endpoint, over TCP and over the unix socket. What it gets is in ATTACK_LOOT; the environment tells the rest.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S 15
#define SETTLED_US 50000 /* a connection as old as its program, by the kernel's coarse clock, is refused for that alone */

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static void keep(const char *bytes, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/log", setting("ATTACK_LOOT"));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0 && write(fd, bytes, size) >= 0)
        close(fd);
}

static void note(const char *text)
{
    char line[512];
    int size = snprintf(line, sizeof line, "%s\n", text);
    keep(line, size);
}

static int dial(const struct sockaddr *address, socklen_t size)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd >= 0 && connect(fd, address, size) == 0 ? fd : -1;
}

static int dial_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(atoi(setting("ATTACK_PORT")));
    return dial((struct sockaddr *)&address, sizeof address);
}

static int dial_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, setting("ATTACK_SOCKET"), sizeof address.sun_path - 1);
    return dial((struct sockaddr *)&address, sizeof address);
}

static void try_on(const char *way, int fd)
{
    char body[512], request[2048], answer[16384];
    snprintf(body, sizeof body, "{\"model\":\"claude\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
             setting("ATTACK_NONCE"));
    int size = snprintf(request, sizeof request,
                        "POST /v1/messages HTTP/1.1\r\nHost: api\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        setting("ATTACK_TOKEN"), strlen(body), body);
    note(way);
    if (fd < 0 || write(fd, request, size) != size) {
        note("no connection");
        return;
    }
    for (ssize_t got; (got = read(fd, answer, sizeof answer)) > 0;)
        keep(answer, got);
    note("");
    close(fd);
}

static void attack(const char *what)
{
    char line[256];
    snprintf(line, sizeof line, "ran: %s", what);
    note(line);
    usleep(SETTLED_US);
    sleep(atoi(setting("ATTACK_DELAY_S")));
    try_on("tcp:", dial_tcp());
    try_on("unix:", dial_unix());
    note("done");
}

#endif
