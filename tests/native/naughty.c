/* Functions that do what they should not, by the first letter of their argument. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

#include "ktask_function.h"

int naughty(void *start, void *end, void *arg)
{
	const char *how = arg ? arg : "";
	volatile char *first = start, *last = end;
	volatile unsigned long spins = 0;

	switch (*how) {
	case 'e': return EDOM;
	case 'n': return -EDOM;
	case 'o': return 12345;
	case 'c': abort();
	case 's': raise(SIGSEGV); break;
	case 'l': for (;;) spins++;
	case 'a': last[4096] = 1; break;	/* after its range, beyond the page */
	case 'b': first[-4096] = 1; break;	/* before it */
	case 'x': exit(0);
	}
	for (; first != last; first++)
		*first += 1;
	return 0;
}

/* Adds 1, and fails at the piece that holds the byte 0xff. */
int add_one(void *start, void *end, void *arg)
{
	unsigned char *at;

	(void)arg;
	for (at = start; at != (unsigned char *)end; at++) {
		if (*at == 0xff) {
			while (at != (unsigned char *)start)
				*--at -= 1;
			return EIO;
		}
		*at += 1;
	}
	return 0;
}

void take_one(void *start, void *end, void *arg)
{
	unsigned char *at;

	(void)arg;
	for (at = start; at != (unsigned char *)end; at++)
		*at -= 1;
}
