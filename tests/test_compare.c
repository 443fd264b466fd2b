/* test_compare.c - result files side by side: the rule itself, files that cannot be used, pairs.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/compare.h"

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

/* ---- the rule -------------------------------------------------------------------------------- */

enum { MAX_SAMPLES = 200 };

/* n samples evenly spread over median * (1 - spread) .. median * (1 + spread). */
static struct compare_time timing(double median, double spread, int n)
{
	double samples[MAX_SAMPLES];
	struct compare_time t = {.name = "case", .sha256 = "", .implementation = "x"};
	cr_assert(n <= MAX_SAMPLES);
	for (int i = 0; i < n; i++)
		samples[i] = median * (1 + spread * (n > 1 ? 2.0 * i / (n - 1) - 1 : 0));
	cr_assert(stats_of(samples, n, &t.stats) == 0);
	return t;
}

Test(rule, verdicts)
{
	static const struct {
		double a, a_spread, b, b_spread;
		int n;
		double threshold;
		enum compare_verdict verdict;
	} cases[] = {
		{100, 0.002, 100, 0.002, 100, 0.01, COMPARE_SAME},
		{100, 0.002, 100.5, 0.002, 100, 0.01, COMPARE_SAME},
		{100, 0.002, 102, 0.002, 100, 0.01, COMPARE_SLOWER},
		{100, 0.002, 98, 0.002, 100, 0.01, COMPARE_FASTER},
		/* Disjoint intervals, but a difference that means nothing. */
		{100, 0.002, 102, 0.002, 100, 0.03, COMPARE_SAME},
		{100, 0, 100.9, 0, 100, 0.01, COMPARE_SAME},
		/* A difference, but the medians are not known well enough. */
		{100, 0.3, 104, 0.3, 100, 0.01, COMPARE_UNSURE},
		{100, 0.3, 100, 0.3, 100, 0.01, COMPARE_UNSURE},
		/* Disjoint, but the difference may be on either side of the threshold. */
		{100, 0.02, 100.9, 0.001, 100, 0.01, COMPARE_UNSURE},
		{100, 0.02, 101.1, 0.001, 100, 0.01, COMPARE_SLOWER},
		/* Five samples hold their median in 94 of 100 cases only. */
		{100, 0.001, 200, 0.001, 5, 0.01, COMPARE_UNSURE},
		{100, 0.001, 200, 0.001, 6, 0.01, COMPARE_SLOWER},
		{100, 0, 100, 0, 1, 0.01, COMPARE_UNSURE},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		const struct compare_time a = timing(cases[i].a, cases[i].a_spread, cases[i].n);
		const struct compare_time b = timing(cases[i].b, cases[i].b_spread, cases[i].n);
		const struct compare_result r = compare_times(&a, &b, cases[i].threshold);
		cr_expect(r.verdict == cases[i].verdict, "line %d: %s, expected %s [%g %g %g]", i,
			  compare_verdict_name(r.verdict), compare_verdict_name(cases[i].verdict),
			  r.low, r.ratio, r.high);
		cr_expect_float_eq(r.ratio, cases[i].a / cases[i].b, 1e-9);
		cr_expect(r.low <= r.ratio && r.ratio <= r.high);
	}
}

/* However noisy: a file beside itself says nothing else. */
Test(rule, the_same_samples_are_the_same)
{
	json_t *samples = json_pack("[f, f, f, f, f, f]", 80.0, 90.0, 100.0, 101.0, 120.0, 160.0);
	json_t *others = json_pack("[f, f, f, f, f, f]", 80.0, 90.0, 100.0, 101.0, 120.0, 161.0);
	struct compare_time a = timing(100, 0.5, 6), b = a;
	a.samples = b.samples = samples;
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_SAME);
	b.samples = others;
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_UNSURE);
	a = b = timing(100, 0.5, 5);
	a.samples = b.samples = samples;
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_UNSURE, "too few");
	cr_expect(!compare_is_enough(&a, &b));
	json_decref(samples);
	json_decref(others);
}

Test(rule, every_verdict_has_a_word_and_a_meaning)
{
	for (int v = 0; v <= COMPARE_WRONG; v++)
		cr_expect(*compare_verdict_name((enum compare_verdict)v) &&
			  *compare_verdict_meaning((enum compare_verdict)v));
}

/* What is FASTER one way is SLOWER the other way, and nothing else. */
Test(rule, is_symmetric)
{
	static const enum compare_verdict mirrored[] = {[COMPARE_FASTER] = COMPARE_SLOWER,
							[COMPARE_SAME] = COMPARE_SAME,
							[COMPARE_SLOWER] = COMPARE_FASTER,
							[COMPARE_UNSURE] = COMPARE_UNSURE};
	int seen[COMPARE_WRONG + 1] = {0};
	for (double b = 90; b <= 110; b += 0.25)
		for (double spread = 0; spread < 0.2; spread = 2 * spread + 0.001) {
			const struct compare_time x = timing(100, spread, 50);
			const struct compare_time y = timing(b, 0.004, 50);
			const enum compare_verdict there = compare_times(&x, &y, 0.02).verdict;
			seen[there]++;
			cr_expect(compare_times(&y, &x, 0.02).verdict == mirrored[there],
				  "100 against %g, spread %g", b, spread);
		}
	for (int v = 0; v < COMPARE_WRONG; v++)
		cr_expect(seen[v] > 0, "no %s in the sweep",
			  compare_verdict_name((enum compare_verdict)v));
}

/* The same program twice, as noisy as real runs are: never called slower, seldom unsure. */
Test(rule, noise_alone_is_no_regression)
{
	int unsure = 0;
	srand48(7);
	for (int trial = 0; trial < 500; trial++) {
		struct compare_time t[2];
		for (int side = 0; side < 2; side++) {
			double samples[100];
			for (int i = 0; i < 100; i++) /* skewed, as timings are */
				samples[i] = 50 * (1 - 0.01 * log(1 - drand48()));
			t[side] = (struct compare_time){.name = ""};
			cr_assert(stats_of(samples, 100, &t[side].stats) == 0);
		}
		const enum compare_verdict v = compare_times(&t[0], &t[1], 0.01).verdict;
		cr_expect(v == COMPARE_SAME || v == COMPARE_UNSURE, "trial %d: %s", trial,
			  compare_verdict_name(v));
		unsure += v == COMPARE_UNSURE;
	}
	cr_expect(unsure < 50, "%d of 500 are unsure", unsure);
}

/* A clock of coarse steps: all samples equal, intervals of no width, one step apart. */
Test(rule, one_step_of_the_clock_is_no_difference)
{
	struct compare_time a = timing(10, 0, 100), b = timing(10.5, 0, 100);
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_SLOWER);
	a.tick = 0.512;
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_SAME);
	b = timing(11.5, 0, 100);
	cr_expect(compare_times(&a, &b, 0.01).verdict == COMPARE_SLOWER);
}

/* ---- files ----------------------------------------------------------------------------------- */

static char path[] = "/tmp/mla-compare-XXXXXX";

static void enter(void)
{
	const int descriptor = mkstemp(path);
	cr_assert(descriptor >= 0);
	close(descriptor);
}

static void leave(void)
{
	unlink(path);
}

/* cppcheck-suppress unknownMacro */
TestSuite(file, .init = enter, .fini = leave);

static void write_text(const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

#define HEAD "{\"schema\": \"mla-results\", \"schema_version\": 1, "
#define CASE "\"case\": {\"name\": \"c\", \"sha256\": \"s\"}, \"implementation\": \"01_naive\", "
#define TIMES(samples)                                                                             \
	"\"status\": \"PASS\", \"timings\": [{\"mode\": \"graph\", \"cache\": \"cold\", "          \
	"\"samples_us\": " samples "}]"

Test(file, what_is_read)
{
	struct compare_file file;
	write_text(HEAD
		   "\"environment\": {\"gpu\": \"G\", \"clocks\": {\"sm_mhz\": [1700, 1800]}}, "
		   "\"measurements\": [{" CASE TIMES(
			   "[3, 1.5, 2, 2]") "},"
					     "{\"case\": {\"name\": \"c\"}, \"implementation\": "
					     "\"p:q\", "
					     "\"status\": \"FAIL\", \"why\": \"it is wrong\"}]}");
	cr_assert(!compare_open(path, &file), "%s", mla_last_error());
	cr_expect_str_eq(file.gpu, "G");
	cr_expect_float_eq(file.sm_mhz, 1750, 1e-9);
	cr_assert(file.count == 2);
	cr_expect_str_eq(file.times[0].name, "c");
	cr_expect_str_eq(file.times[0].sha256, "s");
	cr_expect_str_eq(file.times[0].implementation, "01_naive");
	cr_expect_str_eq(file.times[0].mode, "graph");
	cr_expect_str_eq(file.times[0].cache, "cold");
	cr_expect(file.times[0].stats.n == 4 && file.times[0].stats.median == 2);
	cr_expect(file.times[0].tick == 0.5, "tick %g", file.times[0].tick);
	cr_expect_str_eq(file.times[1].sha256, "");
	cr_expect_str_eq(file.times[1].why, "it is wrong");
	cr_expect(file.times[1].stats.n == 0);
	compare_close(&file);
}

/* Clocks: those of the timing's own samples; of older files one reading before them; else the
 * file's. */
Test(file, whose_clocks_and_signs)
{
	static const struct {
		const char *words;
		double sm_mhz;
		bool unsettled;
	} cases[] = {
		{"\"clocks\": {\"sm_mhz\": {\"median\": 1500}}, \"sm_mhz\": 1980, \"settled\": "
		 "false",
		 1500, true},
		{"\"clocks\": null, \"sm_mhz\": 1980, \"settled\": true", 1980, false},
		{"\"note\": 0", 1750, false},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		char text[1024];
		struct compare_file file;
		snprintf(text, sizeof(text),
			 HEAD "\"environment\": {\"gpu\": \"G\", \"cpu\": \"C\", "
			      "\"clocks\": {\"sm_mhz\": [1700, 1800]}}, \"measurements\": [{" CASE
			      "\"status\": \"PASS\", \"timings\": [{\"mode\": \"graph\", "
			      "\"cache\": \"cold\", %s, \"samples_us\": [1, 2]}]}]}",
			 cases[i].words);
		write_text(text);
		cr_assert(!compare_open(path, &file), "%s", mla_last_error());
		cr_expect_str_eq(file.cpu, "C");
		cr_expect(file.times[0].sm_mhz == cases[i].sm_mhz, "line %d: %g", i,
			  file.times[0].sm_mhz);
		cr_expect(file.times[0].unsettled == cases[i].unsettled, "line %d", i);
		compare_close(&file);
	}
}

Test(file, a_file_without_gpu_and_clocks_is_good)
{
	struct compare_file file;
	write_text(HEAD "\"environment\": {\"gpu\": null, \"clocks\": null}, "
			"\"measurements\": []}");
	cr_assert(!compare_open(path, &file), "%s", mla_last_error());
	cr_expect_str_eq(file.gpu, "");
	cr_expect(file.sm_mhz == 0 && file.count == 0);
	compare_close(&file);
}

Test(file, bad_files_are_refused_in_words)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{"", "file is empty"},
		{"{\"schema\": ", "line 1"},
		{"[]", "\"schema\" is nothing, expected \"mla-results\""},
		{"{\"schema\": \"mla-check\"}", "\"schema\" is \"mla-check\""},
		{"{\"schema\": \"mla-results\", \"schema_version\": 2}",
		 "is 2, this program reads 1"},
		{HEAD "\"measurements\": {}}", "\"measurements\" is an object, expected an array"},
		{HEAD "\"measurements\": [7]}", "measurements[0] is 7, expected an object"},
		{HEAD "\"measurements\": [{}]}", "measurements[0]: \"case\" is nothing"},
		{HEAD "\"measurements\": [{\"case\": {\"name\": 3}}]}",
		 "measurements[0].case.name is 3, expected a string"},
		{HEAD "\"measurements\": [{\"case\": {\"name\": \"\"}}]}", "\"name\" is empty"},
		{HEAD "\"measurements\": [{\"case\": {\"name\": \"c\", \"sha256\": 1}}]}",
		 "measurements[0].case.sha256 is 1, expected a string"},
		{HEAD "\"measurements\": [{\"case\": {\"name\": \"c\"}}]}",
		 "\"implementation\" is nothing"},
		{HEAD "\"measurements\": [{" CASE "\"status\": null}]}", "\"status\" is null"},
		{HEAD "\"measurements\": [{" CASE "\"status\": \"PASS\"}]}",
		 "\"timings\" is nothing"},
		{HEAD "\"measurements\": [{" CASE "\"status\": \"PASS\", \"timings\": []}]}",
		 "\"timings\" is empty"},
		{HEAD "\"measurements\": [{" CASE TIMES("[]") "}]}", "\"samples_us\" is empty"},
		{HEAD "\"measurements\": [{" CASE TIMES("3") "}]}", "\"samples_us\" is a number"},
		{HEAD "\"measurements\": [{" CASE TIMES("[1, \"nan\"]") "}]}",
		 "samples_us[1] is a string"},
		{HEAD "\"measurements\": [{" CASE TIMES("[1, 0]") "}]}",
		 "samples_us[1] is 0, expected a time from"},
		{HEAD "\"measurements\": [{" CASE TIMES("[-1]") "}]}",
		 "samples_us[0] is -1, expected a time from"},
		{HEAD "\"measurements\": [{" CASE TIMES("[1]") "}, {" CASE TIMES("[1]") "}]}",
		 "measurements[1]: case c, 01_naive, graph cold stands in the file twice"},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		struct compare_file file;
		write_text(cases[i].text);
		cr_expect(compare_open(path, &file) == MLA_INVALID, "%s", cases[i].text);
		const char *why = mla_last_error();
		cr_expect(strstr(why, path), "%s: \"%s\" does not name the file", cases[i].text,
			  why);
		cr_expect(strstr(why, cases[i].sentence), "%s: \"%s\" has no \"%s\"", cases[i].text,
			  why, cases[i].sentence);
	}
}

Test(file, a_file_that_is_not_there)
{
	struct compare_file file;
	cr_expect(compare_open("/tmp/mla-no-such-file.json", &file) == MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "/tmp/mla-no-such-file.json"), "%s", mla_last_error());
}

/* ---- turns ----------------------------------------------------------------------------------- */

#define GPU(name) HEAD "\"environment\": {\"gpu\": " name "}, \"measurements\": ["
#define OTHER     "{\"case\": {\"name\": \"d\"}, \"implementation\": \"01_naive\", " TIMES("[5]") "}"

/* The file of a first turn with the file of a second one added; a status, and what was said. */
static mla_status add(const char *first, const char *second, struct compare_file *file)
{
	mla_status status;

	write_text(first);
	cr_assert(!compare_open(path, file), "%s", mla_last_error());
	write_text(second);
	status = compare_add_turn(path, file);
	return status;
}

Test(file, samples_of_turns_are_taken_together)
{
	struct compare_file file;

	cr_assert(!add(GPU("\"G\"") "{" CASE TIMES("[3, 1, 2]") "}]}",
		       GPU("\"G\"") OTHER ", {" CASE TIMES("[9, 8]") "}]}", &file),
		  "%s", mla_last_error());
	cr_assert(file.count == 2);
	cr_expect_str_eq(file.times[0].name, "c");
	cr_expect(file.times[0].stats.n == 5 && file.times[0].stats.median == 3);
	cr_expect(file.times[0].tick == 1);
	cr_expect_str_eq(file.times[1].name, "d");
	cr_expect(file.times[1].stats.n == 1);
	compare_close(&file);
}

Test(file, turns_that_were_unsettled_or_slower_stay_so)
{
	static const char turn[] =
		GPU("\"G\"") "{" CASE "\"status\": \"PASS\", \"timings\": [{\"mode\": \"graph\", "
			     "\"cache\": \"cold\", "
			     "\"settled\": %s, \"clocks\": {\"sm_mhz\": {\"median\": %d}}, "
			     "\"samples_us\": [%s]}]}]}";
	struct compare_file file;
	char first[512], second[512];
	snprintf(first, sizeof(first), turn, "true", 1800, "1, 2");
	snprintf(second, sizeof(second), turn, "false", 1500, "3");
	cr_assert(!add(first, second, &file), "%s", mla_last_error());
	cr_expect(file.times[0].unsettled && file.times[0].stats.n == 3);
	cr_expect_float_eq(file.times[0].sm_mhz, 1700, 1e-9);
	compare_close(&file);
}

Test(file, what_was_wrong_in_one_turn_was_wrong)
{
	static const char right[] = GPU("null") "{" CASE TIMES("[1]") "}]}";
	static const char wrong[] =
		GPU("null") "{" CASE "\"status\": \"FAIL\", \"why\": \"it is off\"}]}";

	for (int first = 0; first < 2; first++) {
		struct compare_file file;

		cr_assert(!add(first ? right : wrong, first ? wrong : right, &file));
		cr_assert(file.count == 1);
		cr_expect_str_eq(file.times[0].status, "FAIL");
		cr_expect_str_eq(file.times[0].why, "it is off");
		compare_close(&file);
	}
}

Test(file, a_turn_that_is_no_turn_is_refused)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{GPU("\"H\"") "]}", "ran on \"G\", "},
		{"[]", "\"schema\" is nothing"},
	};

	for (int i = 0; i < COUNT(cases); i++) {
		struct compare_file file;

		cr_expect(add(GPU("\"G\"") "]}", cases[i].text, &file) == MLA_INVALID);
		cr_expect(strstr(mla_last_error(), cases[i].sentence), "%s", mla_last_error());
		compare_close(&file);
	}
}

/* Cut off anywhere, a file is an error and nothing worse. */
Test(file, every_prefix_is_an_error)
{
	static const char text[] = HEAD "\"measurements\": [{" CASE TIMES("[1, 2]") "}]}";
	for (size_t length = 0; length < sizeof(text) - 1; length++) {
		struct compare_file file;
		char *part = strndup(text, length);
		write_text(part);
		cr_expect(compare_open(path, &file) == MLA_INVALID &&
				  strstr(mla_last_error(), path),
			  "%s", part);
		free(part);
	}
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static struct compare_time named(const char *name, const char *sha256, const char *implementation,
				 const char *mode, const char *cache)
{
	struct compare_time t = timing(10, 0, 10);
	t.name = name;
	t.sha256 = sha256;
	t.implementation = implementation;
	t.mode = mode;
	t.cache = cache;
	t.status = "PASS";
	return t;
}

Test(pairs, who_is_compared_with_whom)
{
	struct compare_time list[] = {
		named("c", "s", "x", "launch", "cold"), named("c", "s", "x", "graph", "hot"),
		named("c", "t", "x", "graph", "cold"),  named("d", "s", "x", "graph", "cold"),
		named("c", "s", "y", "graph", "cold"),  named("c", "s", "x", "graph", "cold"),
		named("c", "s", "z", "", ""),
	};
	const struct compare_file file = {.times = list, .count = COUNT(list)};
	const struct compare_time a = named("c", "s", "x", "graph", "cold");
	list[6].stats.n = 0; /* z failed: it has no times */
	const struct {
		struct compare_pairing pairing;
		int partner;
	} cases[] = {{{NULL, NULL}, 5}, {{"x", "x"}, 5}, {{"x", "y"}, 4},
		     {{"y", "x"}, -1},  {{"x", "z"}, 6}, {{"x", "no"}, -1}};
	for (int i = 0; i < COUNT(cases); i++)
		cr_expect(compare_partner(&a, &file, &cases[i].pairing) == cases[i].partner,
			  "line %d", i);
	cr_expect(compare_times(&a, &list[6], 0.01).verdict == COMPARE_WRONG);
}
