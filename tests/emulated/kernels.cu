/* kernels.cu - runs test kernels, on a GPU or in the emulator: one line per case, PASS or FAIL.
 *
 *     kernels [--seed N] [NAME ...]
 *
 * A test is one file of this folder and one line of the table below.
 */
#include <cuda_runtime_api.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each makes its inputs from the seed, prints its cases and returns how many of them failed. */
int pair_run(uint64_t seed);
int swap_run(uint64_t seed);
int exchange_run(uint64_t seed);
int counter_run(uint64_t seed);
int chain_run(uint64_t seed);
int boxes_run(uint64_t seed);
int plain_run(uint64_t seed);

static const struct {
	const char *name;
	int (*run)(uint64_t seed);
	const char *about;
} tests[] = {
	{"pair", pair_run, "decode for many heads; two blocks share keys by multicast"},
	{"swap", swap_run, "decode for few heads, which are the N of wgmma"},
	{"exchange", exchange_run, "blocks of a cluster merge states in their shared memory"},
	{"counter", counter_run, "the last block of a row merges what the others wrote"},
	{"chain", chain_run, "kernels that start before the one before has ended"},
	{"boxes", boxes_run, "the copy engine's boxes, swizzles and plain copies"},
	{"plain", plain_run, "shuffles, votes, barriers, fragments, reductions, atomics"},
};
enum { TESTS = sizeof(tests) / sizeof(*tests) };

static void help(void)
{
	printf("usage: kernels [--seed N] [NAME ...]\n"
	       "Runs the named test kernels, all if none is named, on inputs made from the seed\n"
	       "(default 1). Exit code: 0 all cases passed, 1 some failed, 2 bad arguments.\n\n");
	for (int i = 0; i < TESTS; i++)
		printf("  %-10s %s\n", tests[i].name, tests[i].about);
}

static int find(const char *name)
{
	int i = 0;

	while (i < TESTS && strcmp(name, tests[i].name))
		i++;
	return i;
}

/* Says what is wrong with a text that is no seed. */
static bool read_seed(const char *text, uint64_t *seed)
{
	char *end = NULL;

	errno = 0;
	if (text)
		*seed = strtoull(text, &end, 10);
	if (text && *text >= '0' && *text <= '9' && !*end && !errno)
		return true;
	fprintf(stderr, "kernels: --seed %s: a number from 0 to %" PRIu64 " was expected\n",
		text ? text : "without a number", UINT64_MAX);
	return false;
}

/* The device has to be of compute capability 9.0. */
static bool is_hopper(void)
{
	int ordinal = 0, major = 0, minor = 0;
	cudaError_t error = cudaGetDevice(&ordinal);

	if (!error)
		error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
	if (!error)
		error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
	if (error)
		fprintf(stderr, "kernels: no usable CUDA device: %s\n", cudaGetErrorString(error));
	else if (major != 9 || minor)
		fprintf(stderr,
			"kernels: the device is of compute capability %d.%d, 9.0 was expected\n",
			major, minor);
	return !error && major == 9 && !minor;
}

int main(int argc, char **argv)
{
	bool wanted[TESTS] = {};
	uint64_t seed = 1;
	int named = 0, failed = 0;

	for (int i = 1; i < argc; i++) {
		const int test = find(argv[i]);

		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help();
			return 0;
		}
		if (!strcmp(argv[i], "--seed")) {
			if (!read_seed(argv[++i], &seed))
				return 2;
		} else if (test == TESTS) {
			fprintf(stderr, "kernels: no test is called \"%s\"; --help lists them\n",
				argv[i]);
			return 2;
		} else {
			wanted[test] = true;
			named++;
		}
	}
	if (!is_hopper())
		return 1;
	for (int i = 0; i < TESTS; i++)
		if (!named || wanted[i])
			failed += tests[i].run(seed);
	if (failed)
		printf("%d cases failed\n", failed);
	return failed != 0;
}
