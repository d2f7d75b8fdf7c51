/*
 * answerer PATH...
 *
 * The least that any listener does: each open of a path waits for an answer, which is "allow", and nothing is looked
 * at. Prints 0 when the marks are set; runs until its standard input is closed.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>

#include "driver.h"

#ifndef FAN_REPORT_PIDFD
#define FAN_REPORT_PIDFD 0x80
#endif

static void answer_all(int group)
{
    char buffer[4096] __attribute__((aligned(8)));
    ssize_t size = read(group, buffer, sizeof buffer);
    for (char *at = buffer; at < buffer + size; at += ((struct fanotify_event_metadata *)at)->event_len) {
        struct fanotify_event_metadata *event = (void *)at;
        struct fanotify_response response = {.fd = event->fd, .response = FAN_ALLOW};
        int pidfd = *(int *)(at + event->metadata_len + 4); /* struct fanotify_event_info_pidfd */
        if (write(group, &response, sizeof response) < 0 && errno != ENOENT)
            fail("answer");
        close(event->fd);
        if (pidfd >= 0)
            close(pidfd);
    }
}

int main(int argc, char **argv)
{
    int group = fanotify_init(FAN_CLOEXEC | FAN_CLASS_CONTENT | FAN_REPORT_PIDFD, O_RDONLY | O_CLOEXEC);
    if (group < 0)
        fail("fanotify_init");
    for (int i = 1; i < argc; i++)
        if (fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, argv[i]))
            fail("fanotify_mark");
    struct pollfd both[] = {{.fd = group, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    printf("0\n");
    fflush(stdout);
    while (poll(both, 2, -1) >= 0 && !both[1].revents)
        if (both[0].revents)
            answer_all(group);
    return 0;
}
