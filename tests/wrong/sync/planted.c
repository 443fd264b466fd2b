/* planted.c - EMULATE_DEFECT, read before main: kernels may not wait for it, and the emulator does
 * not see this file.
 */
#include "planted.h"

#include <stdio.h>
#include <stdlib.h>

static int chosen; /* 0: none */

__attribute__((constructor)) static void read_choice(void)
{
	const char *const word = getenv("EMULATE_DEFECT");
	char *end = NULL;
	long number;

	if (!word)
		return;
	number = strtol(word, &end, 10);
	if (end == word || *end || number < 0 || number > 1000000) {
		fprintf(stderr,
			"EMULATE_DEFECT is \"%s\", expected the number of a defect, or 0 for "
			"none\n",
			word);
		exit(2);
	}
	chosen = (int)number;
}

bool planted(int number)
{
	return number == chosen;
}
