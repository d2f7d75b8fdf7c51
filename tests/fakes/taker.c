/*
 * taker HOW PATH: opens a file and takes its bytes without read(2), or puts a file without a name in its place.
 * Prints 0, or the errno of the call that was refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096

static int sent(int from)
{
	int to = memfd_create("taken", 0);

	return sendfile(to, from, NULL, MOST) > 0 ? 0 : errno;
}

static int spliced(int from)
{
	int ends[2];

	return pipe(ends) || splice(from, NULL, ends[1], NULL, MOST, 0) <= 0 ? errno : 0;
}

static const char *given;

static int copied(int from)
{
	char folder[MOST];
	int to; /* on the same file system, or the kernel copies nothing */

	snprintf(folder, sizeof(folder), "%s", given);
	to = open(dirname(folder), O_TMPFILE | O_RDWR, 0600);
	return to >= 0 && copy_file_range(from, NULL, to, NULL, MOST, 0) > 0 ? 0 : errno;
}

static int vectored(int from)
{
	char bytes[8];
	struct iovec piece = { bytes, sizeof(bytes) };

	return preadv(from, &piece, 1, 0) > 0 ? 0 : errno;
}

static int replaced(const char *path)
{
	char folder[MOST], name[64];
	int fd;

	snprintf(folder, sizeof(folder), "%s", path);
	if (unlink(path))
		return errno;
	fd = open(dirname(folder), O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		return errno;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? errno : 0;
}

int main(int count, char **words)
{
	static const struct {
		const char *name;
		int (*take)(int from);
	} ways[] = { { "sendfile", sent }, { "splice", spliced }, { "copy_file_range", copied }, { "preadv", vectored } };
	int result = -1;

	if (count != 3)
		return 2;
	given = words[2];
	if (!strcmp(words[1], "tmpfile-link"))
		result = replaced(words[2]);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		int from;

		if (strcmp(words[1], ways[i].name))
			continue;
		from = open(words[2], O_RDONLY);
		result = from < 0 ? errno : ways[i].take(from);
	}
	printf("%d\n", result);
	return result < 0 ? 2 : 0;
}
