/*
 * process_vm_writev, or ptrace's attach, by the 32-bit system calls: tamper32 vm-write|attach PID ADDRESS
 * Built without a C library, since a 64-bit system rarely has a 32-bit one. Prints as tamper.c does.
 */
struct piece {
	unsigned long base, bytes;
};

/* The sixth argument is 0. */
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp"
			 : "=a"(result)
			 : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

static unsigned long number_of(const char *text, unsigned base)
{
	unsigned long value = 0;

	for (; *text; text++)
		value = value * base + (*text >= 'a' ? *text - 'a' + 10 : *text - '0');
	return value;
}

static void say(long result)
{
	char text[4] = { '0' + -result / 100 % 10, '0' + -result / 10 % 10, '0' + -result % 10, '\n' };

	call(4, 1, (long)(result < 0 ? text : "done\n"), result < 0 ? 4 : 5, 0, 0);
}

__attribute__((used)) static void begin(long *stack)
{
	char **arguments = (char **)(stack + 1);
	long pid = number_of(arguments[2], 10);
	char byte = 'X';
	struct piece here = { (unsigned long)&byte, 1 }, there = { number_of(arguments[3], 16), 1 };

	if (arguments[1][0] == 'a') { /* ptrace(PTRACE_ATTACH), wait4, ptrace(PTRACE_DETACH) */
		long result = call(26, 16, pid, 0, 0, 0);

		if (!result) {
			call(114, pid, 0, 0x40000000, 0, 0);
			result = call(26, 17, pid, 0, 0, 0);
		}
		say(result);
	} else {
		long result = call(348, pid, (long)&here, 1, (long)&there, 1);

		say(result < 0 ? result : 0);
	}
	call(1, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %esp, %eax; push %eax; call begin");
