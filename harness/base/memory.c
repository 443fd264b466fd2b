/* memory.c - how much memory there is, and sums of sizes that cannot overflow. */
#define _DEFAULT_SOURCE /* _SC_PHYS_PAGES */
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/error.h"

int64_t memory_sum(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t memory_product(int64_t a, int64_t b)
{
	int64_t product;

	return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* The number in a file of the control group that containers are limited by; "max", and a group
 * without the file, limit nothing. */
static int64_t group_limit(const char *path)
{
	FILE *file = fopen(path, "r");
	int64_t limit;

	if (!file)
		return INT64_MAX;
	if (fscanf(file, "%" SCNd64, &limit) != 1 || limit <= 0)
		limit = INT64_MAX;
	fclose(file);
	return limit;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t memory_most(void)
{
	const int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	int64_t most = pages > 0 && page > 0 ? memory_product(pages, page) : INT64_MAX;
	struct rlimit limit;

	most = smaller(most, group_limit("/sys/fs/cgroup/memory.max"));
	most = smaller(most, group_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur < (rlim_t)most)
		most = (int64_t)limit.rlim_cur;
	return most;
}

mla_status memory_ask(int64_t bytes, const char *what)
{
	const int64_t most = memory_most();

	if (bytes <= most)
		return MLA_OK;
	return mla_fail(MLA_INVALID,
			"%s needs %s%" PRId64
			" bytes of memory (%.3g GB), there are at most %" PRId64 " (%.3g GB)",
			what, bytes == INT64_MAX ? "more than " : "", bytes, (double)bytes * 1e-9,
			most, (double)most * 1e-9);
}
