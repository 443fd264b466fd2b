/* fuzz_capture.c - fuzzes the reader of captures: fuzz_capture [COUNT [SEED]]. Exit 1 if anything
 * crashed, hung, or was called good although it changed; such files are kept in the working folder.
 */
#define _GNU_SOURCE
#include "mutate.h"

int main(int argc, char **argv)
{
	const long count = argc > 1 ? strtol(argv[1], NULL, 10) : 3000;
	const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	long ends[NUM_ENDS] = {0};

	make_folder();
	fuzz_all(count, seed, true, ends);
	remove_folder();
	printf("%ld mutations: %ld refused, %ld harmless, %ld silently different, %ld crashed, %ld "
	       "hung\n",
	       count / 3 * 3, ends[END_REFUSED], ends[END_SAME], ends[END_SILENT],
	       ends[END_CRASHED], ends[END_HUNG]);
	return bad_ends(ends) > 0;
}
