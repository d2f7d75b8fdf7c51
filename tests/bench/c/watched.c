/*
 * watched BATCHES SIZE FOLDER
 *
 * Opens and closes a file, SIZE times a batch, while another one of its file system is watched: in turn not at all (0),
 * by a permission mark (1), by inotify (2), by both (3). Nobody listens, and nobody opens the other one. What is watched
 * changes with every batch, in an order of chance, so that the machine's ups and downs are everybody's. The file system
 * is a tmpfs of this process alone over FOLDER: on the machine's own somebody else may watch something meanwhile.
 * Prints a line for each batch: which, and nanoseconds a time, in hundredths.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "driver.h"

#define STATES 4
#define BY_MARK 1
#define BY_INOTIFY 2
#define WARM_UP 50

static void open_often(const char *path, long times)
{
    for (long i = 0; i < times; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            fail("%s", path);
        close(fd);
    }
}

static void make_file_system(const char *folder)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", folder, "tmpfs", 0, NULL))
        fail("a file system of our own");
    if (chdir(folder) || close(creat("file", 0644)) || close(creat("other", 0644)))
        fail("%s", folder);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        fail("usage: watched BATCHES SIZE FOLDER");
    long batches = number(argv[1]), size = number(argv[2]);
    make_file_system(argv[3]);
    const char *path = "file", *other = "other";
    int group = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);
    int inotify = inotify_init1(IN_CLOEXEC);
    if (group < 0 || inotify < 0)
        fail("fanotify_init, inotify_init1");
    srandom(1);
    for (long batch = 0; batch < batches; batch++) {
        int state = (int)(random() % STATES), watch = -1;
        if (state & BY_MARK && fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, other))
            fail("fanotify_mark");
        if (state & BY_INOTIFY && (watch = inotify_add_watch(inotify, other, IN_MODIFY)) < 0)
            fail("inotify_add_watch");
        open_often(path, WARM_UP);
        int64_t start = now_ns();
        open_often(path, size);
        printf("%d %lld\n", state, (long long)((now_ns() - start) * 100 / size));
        if (state & BY_MARK && fanotify_mark(group, FAN_MARK_REMOVE, FAN_OPEN_PERM, AT_FDCWD, other))
            fail("fanotify_mark");
        if (watch >= 0 && inotify_rm_watch(inotify, watch))
            fail("inotify_rm_watch");
    }
    return 0;
}
