/* compare.h - two result files ("mla-results", written by mla bench and the peers' script), time by
 * time: did it become faster?
 *
 * The rule. A ratio is A's median over B's: above 1, B is faster. Each median has an interval from
 * order statistics that holds the true one in 95 of 100 cases (stats.h); the ratio's interval goes
 * from A's low over B's high to A's high over B's low. The floor is the difference that means
 * nothing: the threshold, or one step of the clock where that is more. Then
 *
 *   FASTER  the intervals of the medians are disjoint, and the ratio is above 1 + floor
 *   SLOWER  likewise, the ratio is below 1 / (1 + floor)
 *   SAME    the ratio's whole interval lies between 1 / (1 + floor) and 1 + floor
 *   UNSURE  all else: more samples are needed, or the difference is about the threshold; always
 *           with fewer than STATS_LEAST samples, of which there is no ratio either
 *
 * The same samples are SAME, however noisy they are.
 *
 * Within one file times were taken in one process, and 1 % is a difference. Between two runs
 * clocks, temperature and where memory lies move the times of the same program by about 3 %.
 */
#ifndef MLA_REPORT_COMPARE_H
#define MLA_REPORT_COMPARE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/stats.h"

#define COMPARE_SAME_FILE 0.01
#define COMPARE_TWO_FILES 0.03

/* A measurement is one implementation on one case in one mode ("graph", "launch", "host") and state
 * of the cache ("cold", "hot"). Strings and samples belong to the file. */
struct compare_time {
	const char *name, *sha256; /* of the case; sha256 "" if the file has none */
	const char *implementation, *status, *why;
	const char *mode, *cache; /* "" without times: status is not PASS */
	struct stats stats;       /* n 0 without times */
	double tick;              /* smallest difference of two samples that differ; 0: none do */
	const json_t *samples;    /* as the file has them, or NULL */
	bool unsettled;           /* the file says so */
	double sm_mhz;            /* while it was timed; older files: about then; 0 if not known */
};

struct compare_file {
	const char *path;
	json_t *root;
	const char *gpu, *cpu; /* "" if the file names none */
	int threads;           /* of the CPU's implementations; 0: the file does not say */
	double sm_mhz;         /* of older files, mean of before and after; 0 if not known */
	struct compare_time *times;
	int count;
};
/* What goes wrong is said with the file and the place in it. */
mla_status compare_open(const char *path, struct compare_file *file);
/* Adds another turn of the same program on the same GPU: the samples of a measurement are taken
 * together, and what was not right in one turn was not right. */
mla_status compare_add_turn(const char *path, struct compare_file *file);
void compare_close(struct compare_file *file);

enum compare_verdict {
	COMPARE_FASTER,
	COMPARE_SAME,
	COMPARE_SLOWER,
	COMPARE_UNSURE,
	COMPARE_WRONG, /* A's passed the check, B's does not: no time to compare */
};
/* "FASTER" ... */
const char *compare_verdict_name(enum compare_verdict verdict);
/* What the word says, in a line. */
const char *compare_verdict_meaning(enum compare_verdict verdict);

struct compare_result {
	enum compare_verdict verdict;
	double ratio, low, high; /* 0 if COMPARE_WRONG */
};
/* Enough samples of both for the ratio to say something? */
bool compare_is_enough(const struct compare_time *a, const struct compare_time *b);
/* threshold: 0.01 for 1 %. */
struct compare_result compare_times(const struct compare_time *a, const struct compare_time *b,
				    double threshold);

/* What is compared with what: from of A with to of B. NULL: each with its namesake. */
struct compare_pairing {
	const char *from, *to;
};
/* The index in B of what A's measurement is compared with, or -1. A measurement without times is
 * found by one without and by one with times. */
int compare_partner(const struct compare_time *a, const struct compare_file *b,
		    const struct compare_pairing *pairing);

#endif
