/* fuzz_capture.c - fuzzes the reader of captures: fuzz_capture [COUNT [SEED [REPAIRED]]], COUNT
 * bytes changed anywhere, then REPAIRED (default: a fifth) in HDF5's metadata with its checksums
 * made right again. Exit 1 if anything crashed, hung, or was called good although it changed; such
 * files are kept in the working folder.
 */
#define _GNU_SOURCE
#include "mutate.h"

static long fuzz(const char *what, long count, uint64_t seed, bool repaired)
{
	long ends[NUM_ENDS] = {0};

	fuzz_all(count, seed, repaired, true, ends);
	printf("%s: %ld mutations, seed %llu: %ld refused, %ld harmless, %ld silently different, "
	       "%ld "
	       "crashed, %ld hung\n",
	       what, count / 3 * 3, (unsigned long long)seed, ends[END_REFUSED], ends[END_SAME],
	       ends[END_SILENT], ends[END_CRASHED], ends[END_HUNG]);
	fflush(stdout);
	return bad_ends(ends);
}

int main(int argc, char **argv)
{
	const long count = argc > 1 ? strtol(argv[1], NULL, 10) : 3000;
	const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	const long repaired = argc > 3 ? strtol(argv[3], NULL, 10) : count / 5;
	long bad;

	make_folder();
	bad = fuzz("anywhere", count, seed, false);
	bad += fuzz("checksums repaired", repaired, seed, true);
	remove_folder();
	return bad > 0;
}
