/*
 * A library that is loaded into a program and keeps the files that it was started with: $ATTACK_LOOT/given.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void given(void)
{
	const char *loot = getenv("ATTACK_LOOT");
	char name[4096], data[4096];
	ssize_t length;
	int out;

	snprintf(name, sizeof(name), "%s/given", loot ? loot : ".");
	out = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
	for (int fd = 3; out >= 0 && fd < 10; fd++) {
		length = fd == out ? -1 : pread(fd, data, sizeof(data), 0);
		if (length > 0 && write(out, data, (size_t)length) < 0)
			break;
	}
	if (out >= 0)
		close(out);
}
