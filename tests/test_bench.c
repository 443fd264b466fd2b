/* test_bench.c - the benchmark as far as no GPU is needed: cells and their values, how many copies
 * and calls, when to stop, the bound, the file of ceilings, clocks through a stand-in for NVML, and
 * what tables, CSV and JSON say of results that are made up here.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "bench/bench.h"
#include "bench/ceilings.h"
#include "case/cell.h"
#include "case/identity.h"
#include "lib/error.h"
#include "output_fixture.h"
#include "reference/reference.h"
#include "report/json.h"
#include "report/results.h"
#include "report/timings.h"

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

/* ---- values ---------------------------------------------------------------------------------- */

/* Frozen, and worked out apart from this code: results of different machines and commits are on the
 * same inputs. */
Test(values, bits_are_frozen)
{
	static const uint16_t want[] = {0xbf1e, 0x3f89, 0x3fcc, 0x3f98};
	for (int i = 0; i < COUNT(want); i++)
		cr_expect(random_value(1, (uint64_t)i) == want[i], "value %d is 0x%04x", i,
			  random_value(1, (uint64_t)i));
	cr_expect(random_value(1, UINT64_C(1) << 40) == 0xbfad, "indices beyond 32 bits");
}

Test(values, mean_0_deviation_1)
{
	enum { N = 1 << 20 };
	double sum = 0, squares = 0, largest = 0;
	for (int i = 0; i < N; i++) {
		const uint16_t bits = random_value(42, (uint64_t)i);
		const double x = ref_load(&bits, MLA_BF16);
		sum += x;
		squares += x * x;
		largest = fmax(largest, fabs(x));
	}
	cr_expect(fabs(sum / N) < 0.004, "mean %g", sum / N);
	cr_expect(fabs(squares / N - 1) < 0.006, "mean square %g", squares / N);
	cr_expect(largest > 3 && largest < 3.5, "largest %g", largest);
}

Test(values, neighbours_and_seeds_are_independent)
{
	enum { N = 1 << 16 };
	double next = 0, other = 0;
	for (int i = 0; i < N; i++) {
		const uint16_t a = random_value(1, (uint64_t)i),
			       b = random_value(1, (uint64_t)i + 1);
		const uint16_t c = random_value(2, (uint64_t)i);
		next += ref_load(&a, MLA_BF16) * ref_load(&b, MLA_BF16);
		other += ref_load(&a, MLA_BF16) * ref_load(&c, MLA_BF16);
	}
	cr_expect(fabs(next / N) < 0.02 && fabs(other / N) < 0.02, "%g %g", next / N, other / N);
}

/* ---- cells ----------------------------------------------------------------------------------- */

static struct cell cell_of(const char *text)
{
	struct cell cell;
	cr_assert(!cell_parse(text, &cell), "%s", mla_last_error());
	return cell;
}

Test(cells, names_say_the_shape)
{
	const struct cell full = cell_of("b128 8Kv h64 q2 p16");
	cr_expect(full.batch_size == 128 && full.kv_len == 8192 && full.varied);
	cr_expect(full.num_heads == 64 && full.qo_len == 2 && full.page_size == 16);
	cr_expect_str_eq(full.name, "b128_8Kv_h64_q2_p16");
	const struct cell least = cell_of("b3_1000_h7");
	cr_expect(least.batch_size == 3 && least.kv_len == 1000 && !least.varied);
	cr_expect(least.num_heads == 7 && least.qo_len == 1 && least.page_size == 64);
}

Test(cells, wrong_names_get_a_sentence)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{"", "expected requests, keys and heads"},
		{"b4_h16", "expected requests, keys and heads"},
		{"b4_4K", "expected requests, keys and heads"},
		{"b4_4M_h16", "found \"4M\", expected keys such as"},
		{"b4_0_h16", "found \"0\", expected keys"},
		{"b4_99999999999999999999_h16", "expected keys"},
		{"b4_2000000K_h16", "expected keys"},
		{"b0_4K_h16", "found \"b0\", expected b1 to b65536"},
		{"b_4K_h16", "found \"b\", expected b1"},
		{"b-1_4K_h16", "found \"b-1\""},
		{"b4x_4K_h16", "found \"b4x\""},
		{"b4_4K_h16_x9", "found \"x9\", expected parts such as"},
		{"b4_4K_h16_q65537", "expected q1 to q65536"},
		{"b4_4K_h16_________________________________________", "less than 48 characters"},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		struct cell cell;
		cr_expect(cell_parse(cases[i].text, &cell) == MLA_INVALID, "%s", cases[i].text);
		cr_expect(strstr(mla_last_error(), cases[i].sentence), "%s: %s", cases[i].text,
			  mla_last_error());
	}
}

Test(cells, suites_are_sound)
{
	for (int s = 0; s < cell_num_suites; s++) {
		const struct cell_suite *suite = &cell_suites[s];
		for (int i = 0; i < suite->num_cells; i++) {
			const struct cell cell = cell_of(suite->cells[i]);
			struct mla_case c;
			cr_assert(cell_case(&cell, 1, &c) == 0, "%s", cell.name);
			cr_expect(mla_check_pages_host(&c.config, &c.batch, &c.tensors) == MLA_OK,
				  "%s: %s", cell.name, mla_last_error());
			case_free(&c);
			for (int k = 0; k < i; k++)
				cr_expect(strcmp(suite->cells[i], suite->cells[k]) != 0,
					  "%s is there twice", suite->cells[i]);
		}
	}
	cr_expect_str_eq(cell_suites[1].name, "peers");
	cr_expect(cell_suites[1].num_cells == 20);
	cr_expect(cell_suites[2].num_cells == 40);
}

Test(cells, too_large_for_a_page_table)
{
	const struct cell cell = cell_of("b65536_500000K_h1");
	struct mla_case c;
	cr_expect(cell_case(&cell, 1, &c) == MLA_INVALID);
	cr_expect_str_eq(mla_last_error(),
			 "cell \"b65536_500000K_h1\": the batch has more queries or pages than 32 "
			 "bits count: 65536 queries, 524288000000 pages");
	cr_expect(!c.owned, "a refused cell keeps memory");
}

/* The page table is the beginning of a permutation of the pool, and no order that a prefetcher or a
 * cache would guess. */
Test(cells, pages_are_in_random_order)
{
	const struct cell cell = cell_of("b7_5000v_h16");
	struct mla_case c;
	cr_assert(cell_case(&cell, 1, &c) == 0);
	const int64_t entries = c.tensors.num_kv_indices, pages = c.tensors.ckv.extent[0];
	char *seen = calloc((size_t)pages, 1);
	int64_t in_order = 0;
	cr_assert(entries == c.batch.kv_indptr[7] && pages == entries + 1);
	for (int64_t i = 0; i < entries; i++) {
		const int32_t page = c.tensors.kv_indices[i];
		cr_assert(page >= 0 && page < pages && !seen[page], "entry %ld", (long)i);
		seen[page] = 1;
		in_order += i > 0 && page == c.tensors.kv_indices[i - 1] + 1;
	}
	cr_expect(in_order < entries / 20, "%ld of %ld follow each other", (long)in_order,
		  (long)entries);
	free(seen);
	case_free(&c);
}

Test(cells, lengths_vary_as_said)
{
	const struct cell varied = cell_of("b2000_101v_h1"), fixed = cell_of("b9_101_h1");
	struct mla_case c, other;
	int32_t least = 1000, most = 0, differ = 0;
	double sum = 0;
	cr_assert(cell_case(&varied, 1, &c) == 0 && cell_case(&varied, 2, &other) == 0);
	for (int r = 0; r < 2000; r++) {
		least = c.batch.kv_len[r] < least ? c.batch.kv_len[r] : least;
		most = c.batch.kv_len[r] > most ? c.batch.kv_len[r] : most;
		sum += c.batch.kv_len[r];
		differ += c.batch.kv_len[r] != other.batch.kv_len[r];
	}
	cr_expect(least == 51 && most == 151, "%d to %d", least, most);
	cr_expect(fabs(sum / 2000 - 101) < 3, "mean %g", sum / 2000);
	cr_expect(differ > 1900, "another seed gives other lengths: %d", differ);
	case_free(&c);
	case_free(&other);
	cr_assert(cell_case(&fixed, 1, &c) == 0);
	for (int r = 0; r < 9; r++)
		cr_expect(c.batch.kv_len[r] == 101);
	case_free(&c);
}

Test(cells, causal_with_more_than_one_query)
{
	const struct cell one = cell_of("b2_9_h1_q1"), two = cell_of("b2_9_h1_q2");
	struct mla_case c;
	cr_assert(cell_case(&one, 1, &c) == 0);
	cr_expect(c.config.causal == 0 && case_total_q(&c) == 2);
	case_free(&c);
	cr_assert(cell_case(&two, 1, &c) == 0);
	cr_expect(c.config.causal == 1 && case_total_q(&c) == 4);
	case_free(&c);
}

static uint16_t element(const mla_tensor *t, int64_t i, int64_t j, int64_t k)
{
	uint16_t bits;
	memcpy(&bits, (char *)t->data + i * t->stride[0] + j * t->stride[1] + k * t->stride[2],
	       sizeof(bits));
	return bits;
}

/* One pool, ckv in front of kpe; what no key fills is NaN. */
Test(cells, host_values_are_those_of_the_definition)
{
	const struct cell cell = cell_of("b3_40v_h2_q2_p16");
	const uint64_t seed = 11;
	struct mla_case c;
	cr_assert(cell_case(&cell, seed, &c) == 0 && cell_fill(&c, seed) == 0);
	const mla_tensors *t = &c.tensors;
	for (int64_t q = 0; q < 6; q++)
		for (int64_t h = 0; h < 2; h++) {
			cr_assert(element(&t->q_nope, q, h, 511) ==
				  random_value(cell_seed_q_nope(seed),
					       (uint64_t)((q * 2 + h) * 512 + 511)));
			cr_assert(element(&t->q_pe, q, h, 1) ==
				  random_value(cell_seed_q_pe(seed),
					       (uint64_t)((q * 2 + h) * 64 + 1)));
		}
	char *filled = calloc((size_t)(t->ckv.extent[0] * 16), 1);
	for (int r = 0; r < 3; r++)
		for (int key = 0; key < c.batch.kv_len[r]; key++)
			filled[t->kv_indices[c.batch.kv_indptr[r] + key / 16] * 16 + key % 16] = 1;
	for (int64_t slot = 0; slot < t->ckv.extent[0] * 16; slot++) {
		const uint16_t ckv = element(&t->ckv, slot / 16, slot % 16, 3);
		const uint16_t kpe = element(&t->kpe, slot / 16, slot % 16, 63);
		const uint64_t first = (uint64_t)slot * 576;
		cr_assert(ckv == (filled[slot] ? random_value(cell_seed_pool(seed), first + 3)
					       : 0xffff),
			  "slot %ld", (long)slot);
		cr_assert(kpe == (filled[slot] ? random_value(cell_seed_pool(seed), first + 575)
					       : 0xffff));
	}
	free(filled);
	case_free(&c);
}

Test(cells, cpu_agrees_with_the_truth)
{
	const struct cell cell = cell_of("b3_200v_h5_q3_p16");
	struct mla_case c;
	struct check_truth truth;
	cr_assert(cell_case(&cell, 3, &c) == 0 && cell_fill(&c, 3) == 0);
	cr_assert(check_truth_make(&c, 0, &truth) == 0);
	cr_expect(!truth.low_power, "a wrong scale would not be noticed");
	const struct bench_options options = {.stop = {.samples = 7, .noise = 0.5}};
	const struct variant *const chosen[] = {&variants[0], &variants[1]};
	struct bench_result results[2];
	bench_variants(&c, &truth, chosen, 2, &options, results);
	for (int i = 0; i < 2; i++) {
		struct bench_result *result = &results[i];
		cr_expect(result->verdict.outcome == CHECK_PASS, "%s", result->verdict.why);
		cr_assert(result->num_timings == 1 && result->timings[0].stats.n == 7);
		cr_expect(result->timings[0].mode == BENCH_HOST);
		cr_expect(result->timings[0].samples[6] > 0);
		bench_result_free(result);
		cr_expect(result->num_timings == 0);
	}
	check_truth_free(&truth);
	case_free(&c);
}

/* Right at first, wrong the third time. */
static mla_status run_worse(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	static int runs;
	const mla_status status = mla_reference(config, batch, tensors);
	if (++runs == 3)
		((uint16_t *)tensors->out.data)[0] ^= 0x8000;
	return status;
}

Test(cells, a_variant_that_turns_wrong_has_no_time)
{
	const struct cell cell = cell_of("b1_40_h2_p16");
	const struct bench_options options = {.stop = {.samples = 7, .noise = 0.5}};
	const struct variant worse = {.name = "worse", .run = run_worse};
	const struct variant *const chosen[] = {&worse, &variants[0]};
	struct bench_result results[2];
	struct check_truth truth;
	struct mla_case c;
	cr_assert(cell_case(&cell, 3, &c) == 0 && cell_fill(&c, 3) == 0);
	cr_assert(check_truth_make(&c, 0, &truth) == 0);
	bench_variants(&c, &truth, chosen, 2, &options, results);
	cr_expect(results[0].verdict.outcome == CHECK_FAIL && results[0].num_timings == 0);
	cr_expect(*results[0].verdict.why && results[0].verdict.num_wrong == 1);
	cr_expect(results[1].verdict.outcome == CHECK_PASS && results[1].num_timings == 1);
	bench_result_free(&results[1]);
	check_truth_free(&truth);
	case_free(&c);
}

Test(cells, a_case_is_known_by_its_sha256)
{
	const struct cell cell = cell_of("b2_40_h2_p16");
	const uint64_t one = 1, two = 2;
	char first[SHA256_TEXT], second[SHA256_TEXT];
	struct mla_case c;
	cr_assert(cell_case(&cell, one, &c) == 0 && cell_fill(&c, one) == 0);
	cr_assert(!identity_sha256(&c, &one, first));
	identity_sha256(&c, &one, second);
	cr_expect(strlen(first) == 64);
	cr_expect_str_eq(first, second);
	identity_sha256(&c, &two, second);
	cr_expect_str_neq(first, second, "seeds are told apart");
	identity_sha256(&c, NULL, first);
	((uint16_t *)c.tensors.kpe.data)[5] ^= 1;
	identity_sha256(&c, NULL, second);
	cr_expect_str_neq(first, second, "values are told apart");
	((uint16_t *)c.tensors.kpe.data)[5] ^= 1;
	c.config.sm_scale *= 1.5;
	identity_sha256(&c, NULL, second);
	cr_expect_str_neq(first, second, "scales are told apart");
	case_free(&c);
}

/* ---- decisions ------------------------------------------------------------------------------- */

Test(decisions, copies_exceed_twice_the_cache)
{
	const double l2 = 60e6, room = 100e9;
	static const double sizes[] = {1.4e6, 9e6, 59e6, 119e6, 121e6, 2.4e9};
	for (int i = 0; i < COUNT(sizes); i++) {
		const int copies = bench_copies(sizes[i], 1.1 * sizes[i], l2, room);
		cr_expect((copies - 1) * sizes[i] >= 2 * l2, "%g: %d", sizes[i], copies);
		cr_expect((copies - 2) * sizes[i] < 2 * l2, "%g: %d is more than needed", sizes[i],
			  copies);
		cr_expect(bench_copies_are_cold(copies, sizes[i], l2));
	}
	cr_expect(bench_copies(1, 1, l2, room) == BENCH_MAX_COPIES);
	cr_expect(!bench_copies_are_cold(BENCH_MAX_COPIES, 1, l2));
}

Test(decisions, copies_fit_the_memory)
{
	cr_expect(bench_copies(1e6, 1e6, 60e6, 10e6) == 8, "of ten that fit, eight");
	cr_expect(!bench_copies_are_cold(8, 1e6, 60e6));
	cr_expect(bench_copies(2e9, 2e9, 60e6, 3e9) == 1);
	cr_expect(bench_copies_are_cold(1, 2e9, 60e6), "one is enough if it exceeds the cache");
	cr_expect(bench_copies(0, 0, 0, 0) == 1);
}

Test(decisions, graphs_hold_whole_rounds_of_copies)
{
	static const int copies[] = {1, 2, 3, 7, 90, 1024};
	static const double times[] = {2, 13, 250, 900, 19000};
	for (int i = 0; i < COUNT(copies); i++)
		for (int k = 0; k < COUNT(times); k++) {
			const int calls = bench_calls_per_graph(copies[i], times[k]);
			cr_expect(calls >= 10 && calls % copies[i] == 0, "%d copies, %g us: %d",
				  copies[i], times[k], calls);
			cr_expect(calls * times[k] >= 2000);
			cr_expect(calls <= 1000 + copies[i]);
		}
	cr_expect(bench_calls_per_graph(7, 30000) == 1, "a long call stands alone");
}

static bool enough(int samples, double seconds, int n, double noise, double elapsed)
{
	const struct bench_stop stop = {.samples = samples, .noise = 0.005, .seconds = seconds};
	const struct stats stats = {.n = n, .median = 100, .q1 = 100, .q3 = 100 + 100 * noise};
	return bench_is_enough(&stop, &stats, elapsed);
}

Test(decisions, when_to_stop)
{
	cr_expect(!enough(0, 1, 19, 0, 0.5), "calm, but too few");
	cr_expect(enough(0, 1, 20, 0.004, 0.5), "calm");
	cr_expect(!enough(0, 1, 20, 0.006, 0.5), "noisy");
	cr_expect(enough(0, 1, 20, 0.006, 1), "noisy, out of time");
	cr_expect(!enough(0, 1, STATS_LEAST - 1, 0, 5), "out of time, but nothing to compare");
	cr_expect(enough(0, 1, STATS_LEAST, 0.5, 5), "slow");
	cr_expect(enough(3, 1, 3, 0.5, 5), "few, as asked for");
	cr_expect(enough(0, 1e9, BENCH_MOST_SAMPLES, 0.5, 5));
	cr_expect(!enough(7, 1, 6, 0, 99), "so many as were asked for");
	cr_expect(enough(7, 1, 7, 0.9, 0));
}

Test(decisions, the_bound_is_the_larger_of_two)
{
	const struct case_work work = {.bytes = 4.5e9, .flop = 0.7e12};
	const struct {
		struct case_ceilings ceilings;
		struct case_bound bound;
	} known[] = {
		{{4500, 700}, {1000, CASE_LIMIT_BYTES}},  {{9000, 700}, {1000, CASE_LIMIT_FLOP}},
		{{4500, 1400}, {1000, CASE_LIMIT_BYTES}}, {{2250, 700}, {2000, CASE_LIMIT_BYTES}},
		{{4500, 350}, {2000, CASE_LIMIT_FLOP}},   {{0, 700}, {1000, CASE_LIMIT_FLOP}},
		{{0, 0}, {0, CASE_LIMIT_UNKNOWN}},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct case_bound bound = case_bound_of(&work, &known[i].ceilings);

		cr_expect_float_eq(bound.us, known[i].bound.us, 1e-9);
		cr_expect_eq(bound.by, known[i].bound.by);
	}
}

/* ---- ceilings -------------------------------------------------------------------------------- */

static char folder[64];

static void enter(void)
{
	snprintf(folder, sizeof(folder), "/tmp/mla-bench-XXXXXX");
	cr_assert(mkdtemp(folder) != NULL && chdir(folder) == 0);
}

static void leave(void)
{
	char command[128];
	cr_assert(chdir("/") == 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert(system(command) == 0);
}

/* cppcheck-suppress unknownMacro */
TestSuite(files, .init = enter, .fini = leave);

static struct ceilings made_up(const char *gpu, double read)
{
	struct ceilings c = {.date = "2026-01-02T03:04:05Z"};
	snprintf(c.gpu, sizeof(c.gpu), "%s", gpu);
	for (int i = 0; i < CEILING_NUM_KINDS; i++)
		c.of[i].stats = (struct stats){.n = 20,
					       .min = read + i - 1,
					       .q1 = read + i,
					       .median = read + i,
					       .q3 = read + i + 0.5,
					       .max = read + i + 1};
	c.of[CEILING_READ].load = (struct nvml_load){.sm_mhz = {.n = 3, .median = 1755},
						     .power_w = {.n = 3, .median = 625}};
	c.of[CEILING_GEMM] = (struct ceiling){.why = "libcublas.so was not found"};
	return c;
}

/* Is there an entry? A file that cannot be read fails the test. */
static bool load(const char *path, const char *gpu, struct ceilings *ceilings)
{
	bool found;
	cr_assert(!ceilings_load(path, gpu, ceilings, &found), "%s", mla_last_error());
	return found;
}

Test(files, ceilings_are_kept_per_gpu)
{
	const struct ceilings first = made_up("NVIDIA One", 1000),
			      again = made_up("NVIDIA One", 1100);
	const struct ceilings second = made_up("NVIDIA Two", 2000);
	struct ceilings back;
	cr_expect(!load("a/b/c.json", "NVIDIA One", &back));
	cr_assert(!put_ceilings("a/b/c.json", &first), "%s", mla_last_error());
	cr_assert(!put_ceilings("a/b/c.json", &second), "%s", mla_last_error());
	cr_assert(!put_ceilings("a/b/c.json", &again), "%s", mla_last_error());
	cr_assert(load("a/b/c.json", "NVIDIA One", &back));
	cr_expect(ceilings_read_gbs(&back) == 1100 &&
		  back.of[CEILING_READ].load.sm_mhz.median == 1755);
	cr_expect_str_eq(back.gpu, "NVIDIA One");
	cr_expect_str_eq(back.date, first.date);
	cr_expect(back.of[CEILING_GEMM].stats.n == 0);
	cr_expect_str_eq(back.of[CEILING_GEMM].why, "libcublas.so was not found");
	cr_expect(ceilings_tflops(&back) == 1100 + CEILING_WGMMA, "the fastest that was measured");
	cr_assert(load("a/b/c.json", "NVIDIA Two", &back));
	cr_expect(ceilings_read_gbs(&back) == 2000);
	cr_expect(!load("a/b/c.json", "NVIDIA Three", &back));
	cr_expect(ceilings_tflops(&back) == 0 && ceilings_read_gbs(&back) == 0);
}

Test(files, all_ceilings_of_a_file)
{
	const struct ceilings made[] = {made_up("NVIDIA One", 1000), made_up("NVIDIA Two", 2000)};
	struct ceilings *all;
	int count;
	cr_assert(!ceilings_load_all("c.json", &all, &count) && count == 0);
	free(all);
	cr_assert(!put_ceilings("c.json", &made[0]) && !put_ceilings("c.json", &made[1]));
	cr_assert(!ceilings_load_all("c.json", &all, &count) && count == 2);
	for (int i = 0; i < count; i++) {
		cr_expect_str_eq(all[i].gpu, made[i].gpu);
		cr_expect(ceilings_read_gbs(&all[i]) == ceilings_read_gbs(&made[i]));
	}
	free(all);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

Test(files, damaged_ceilings_get_a_sentence_and_stay)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{"", "c.json: file is empty"},
		{"[1]", "expected schema \"mla-ceilings\""},
		{"{\"schema\": \"mla-ceilings\", \"schema_version\": 2, \"gpus\": {}}",
		 "version 1"},
		{"{\"schema\": \"mla-ceilings\", \"schema_version\": 1, \"gpus\": 3}", "\"gpus\""},
		{"{\"schema\": \"mla-ceilings\", \"schema_version\": 1, \"gpus\": {\"G\": 7}}",
		 "\"read_gbs\" of \"G\" is no measurement"},
		{"{\"schema\": \"mla-ceilings\", \"schema_version\": 1, \"gpus\": {\"G\": "
		 "{\"read_gbs\": "
		 "{\"n\": 3, \"min\": 1.0, \"q1\": 2.0, \"median\": 1.5, \"q3\": 3.0, \"max\": "
		 "4.0}}}}",
		 "\"read_gbs\" of \"G\" is no measurement"},
	};
	const struct ceilings fresh = made_up("NVIDIA One", 1000);
	struct ceilings back;
	for (int i = 0; i < COUNT(cases); i++) {
		struct ceilings *all;
		bool found = true;
		int count = 1;
		write_file("c.json", cases[i].text);
		cr_expect(ceilings_load_all("c.json", &all, &count) == MLA_INVALID && !all &&
			  !count);
		cr_expect(ceilings_load("c.json", "G", &back, &found) == MLA_INVALID && !found,
			  "%s", cases[i].text);
		cr_expect(strstr(mla_last_error(), cases[i].sentence), "%s: %s", cases[i].text,
			  mla_last_error());
		if (i < 4) /* other people's file is not overwritten */
			cr_expect(put_ceilings("c.json", &fresh));
	}
}

Test(files, ceilings_that_cannot_be_written_get_a_sentence)
{
	const struct ceilings c = made_up("NVIDIA One", 1000);
	write_file("file", "");
	cr_expect(put_ceilings("file/c.json", &c) == MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "file/c.json: cannot be written: Not a directory"), "%s",
		  mla_last_error());
	cr_expect(put_ceilings("/proc/mla/c.json", &c) == MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "/proc/mla/c.json: cannot be written: "), "%s",
		  mla_last_error());
}

Test(ceilings, the_default_file_is_in_the_users_cache)
{
	static const struct {
		const char *cache, *home, *path;
	} cases[] = {
		{"/x/cache", "/home/u", "/x/cache/mla/ceilings.json"},
		{"", "/home/u", "/home/u/.cache/mla/ceilings.json"},
		{"relative", "/home/u", "/home/u/.cache/mla/ceilings.json"},
		{"", "", NULL},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		setenv("XDG_CACHE_HOME", cases[i].cache, 1);
		setenv("HOME", cases[i].home, 1);
		char *path = ceilings_default_path();
		if (cases[i].path)
			cr_expect_str_eq(path, cases[i].path);
		else
			cr_expect(path == NULL);
		free(path);
	}
}

Test(files, a_named_file_of_ceilings_goes_before_the_users)
{
	const struct ceilings named = made_up("G", 1000), own = made_up("G", 2000);
	struct ceilings back;
	bool found;
	char *path;

	setenv("XDG_CACHE_HOME", folder, 1);
	path = ceilings_default_path();
	cr_assert(!put_ceilings("c.json", &named) && !put_ceilings(path, &own));
	cr_expect(!ceilings_find("c.json", "G", &back, &found) && found);
	cr_expect(ceilings_read_gbs(&back) == 1000);
	cr_expect(!ceilings_find(NULL, "G", &back, &found) && found);
	cr_expect(ceilings_read_gbs(&back) == 2000);
	cr_expect(!ceilings_find("c.json", NULL, &back, &found) && !found);
	cr_expect(ceilings_find("d.json", "G", &back, &found) == MLA_INVALID && !found);
	setenv("XDG_CACHE_HOME", "", 1);
	setenv("HOME", "", 1);
	cr_expect(!ceilings_find(NULL, "G", &back, &found) && !found);
	free(path);
}

/* ---- NVML ------------------------------------------------------------------------------------ */

Test(nvml, absence_is_no_error)
{
	struct nvml_reading reading = {.sm_mhz = 1};
	cr_expect(nvml_open("./no-such-library.so", "0000:00:00.0") == NULL);
	cr_expect(!nvml_read(NULL, &reading));
	cr_expect(reading.sm_mhz == 0);
	cr_expect_str_eq(nvml_driver(NULL), "");
	nvml_close(NULL);
}

static const char stand_in[] = "#include <string.h>\n"
			       "int nvmlInit_v2(void) { return 0; }\n"
			       "int nvmlShutdown(void) { return 0; }\n"
			       "int nvmlSystemGetDriverVersion(char *t, unsigned n) { strncpy(t, "
			       "\"580.1\", n); return 0; }\n"
			       "int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **d)\n"
			       "{ *d = (void *)7; return strcmp(id, \"0000:3b:00.0\") != 0; }\n"
			       "int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { *mw = 625500; "
			       "return d != (void *)7; }\n"
			       "static unsigned sm = 1755;\n" /* falls by 15 with each reading */
			       "int nvmlDeviceGetClockInfo(void *d, int c, unsigned *mhz)\n"
			       "{ *mhz = c == 1 ? sm : c == 2 ? 2619 : 3; if (c == 1) sm -= 15;\n"
			       "return d != (void *)7; }\n"
			       "int nvmlDeviceGetMaxClockInfo(void *d, int c, unsigned *mhz)\n"
			       "{ *mhz = c == 1 ? 1980 : 3; return d != (void *)7; }\n";

static struct nvml *fake_nvml(void)
{
	struct nvml *nvml;
	write_file("fake.c", stand_in);
	if (system("gcc -shared -fPIC -o fake.so fake.c") != 0)
		cr_skip_test("no gcc here");
	nvml = nvml_open("./fake.so", "0000:3b:00.0");
	cr_assert(nvml != NULL);
	return nvml;
}

Test(files, nvml_reads_clock_and_power)
{
	struct nvml *nvml = fake_nvml();
	struct nvml_reading reading;
	cr_expect(nvml_read(nvml, &reading));
	cr_expect(reading.sm_mhz == 1755 && reading.mem_mhz == 2619);
	cr_expect(nvml_max_sm_mhz(nvml) == 1980 && nvml_max_sm_mhz(NULL) == 0);
	cr_expect_float_eq(reading.power_w, 625.5, 1e-9);
	cr_expect_str_eq(nvml_driver(nvml), "580.1");
	nvml_close(nvml);
	cr_expect(nvml_open("./fake.so", "0000:99:00.0") == NULL, "a device that is not there");
}

/* A call on the CPU that says how long it took: 100, 101, 102 ... us; the third may fail. */
struct host_call {
	double took;
	int calls, failing;
};

static mla_status call_host(void *what, int copy, mla_stream stream)
{
	struct host_call *call = what;
	(void)copy;
	(void)stream;
	call->took = 100 + call->calls++;
	return call->calls == call->failing ? mla_fail(MLA_INVALID, "it broke") : MLA_OK;
}

/* 1755 MHz is gone with the first lane's first sample: lanes take turns, each keeps its own. */
Test(files, a_timing_has_the_clocks_of_its_own_samples)
{
	struct nvml *nvml = fake_nvml();
	const struct bench_clock clock = {
		.mode = BENCH_HOST, .stop = {.samples = 7, .noise = 1}, .nvml = nvml};
	struct host_call calls[3] = {{.calls = 0}, {.calls = 0}, {.failing = 3}};
	struct bench_lane lanes[3] = {{0}};
	for (int i = 0; i < 3; i++)
		lanes[i] = (struct bench_lane){.call = call_host,
					       .what = &calls[i],
					       .copies = 1,
					       .took_us = &calls[i].took};
	bench_time(lanes, 3, &clock);
	for (int i = 0; i < 2; i++) {
		const struct bench_timing *timing = &lanes[i].timing;
		cr_assert(!lanes[i].status && timing->stats.n == 7, "%d: %d samples", i,
			  timing->stats.n);
		cr_expect(timing->mode == BENCH_HOST && timing->calls == 1 && timing->settled);
		cr_expect(timing->samples[0] == 101, "the first call warms up");
		cr_expect(timing->load.sm_mhz.n == 7 && timing->load.mem_mhz.median == 2619);
		cr_expect(timing->load.sm_mhz.max == 1755 - 15 * i, "lane %d: %g MHz", i,
			  timing->load.sm_mhz.max);
		cr_expect(timing->load.sm_mhz.min < timing->load.sm_mhz.median);
		cr_expect_float_eq(timing->load.power_w.median, 625.5, 1e-9);
	}
	cr_expect(lanes[2].status == MLA_INVALID && !lanes[2].timing.samples);
	cr_expect_str_eq(lanes[2].why, "it broke");
	for (int i = 0; i < 3; i++) {
		bench_timing_free(&lanes[i].timing);
		bench_lane_close(&lanes[i]);
	}
	nvml_close(nvml);
}

/* The CPU obeys --samples and --time as a GPU does. */
Test(host, samples_are_as_many_as_asked_for)
{
	static const int asked[] = {3, 6, 12, 100};
	for (int i = 0; i < COUNT(asked); i++) {
		const struct bench_clock clock = {.mode = BENCH_HOST,
						  .stop = {.samples = asked[i]}};
		struct host_call call = {0};
		struct bench_lane lane = {
			.call = call_host, .what = &call, .copies = 1, .took_us = &call.took};
		bench_time(&lane, 1, &clock);
		cr_expect(lane.timing.stats.n == asked[i], "%d: %d", asked[i], lane.timing.stats.n);
		cr_expect(bench_timing_enough(&lane.timing) == (asked[i] >= STATS_LEAST));
		cr_expect(lane.timing.load.sm_mhz.n == 0, "nobody told");
		bench_timing_free(&lane.timing);
		bench_lane_close(&lane);
	}
}

/* ---- without a GPU --------------------------------------------------------------------------- */

static mla_status call_nothing(void *what, int copy, mla_stream stream)
{
	(void)what;
	(void)copy;
	(void)stream;
	return MLA_OK;
}

Test(without_gpu, everything_ends_with_a_sentence)
{
	if (!gpu_missing())
		cr_skip_test("there is a GPU");
	const struct cell cell = cell_of("b2_100_h4");
	const struct bench_clock clock = {.mode = BENCH_GRAPH, .stop = {.seconds = 1}};
	struct bench_lane lane = {.call = call_nothing, .copies = 1};
	struct bench_problem problem;
	struct ceilings ceilings;
	struct mla_case c;
	bench_time(&lane, 1, &clock);
	cr_expect(lane.status != MLA_OK && *lane.why && lane.timing.stats.n == 0);
	bench_lane_close(&lane);
	cr_assert(cell_case(&cell, 1, &c) == 0);
	cr_expect(bench_problem_fill(&c, 1, &problem) != MLA_OK);
	cr_expect(*mla_last_error() && problem.copies == NULL);
	cr_expect(ceilings_measure(&clock.stop, NULL, NULL, &ceilings) == 0);
	cr_expect(*ceilings.of[CEILING_READ].why && *ceilings.of[CEILING_GEMM].why);
	case_free(&c);
}

/* ---- reports --------------------------------------------------------------------------------- */

/* Two kernels: one timed in two ways, one that refuses. */
struct made_up_case {
	struct mla_case c;
	struct bench_result results[2];
	double samples[4];
	struct timings_shown shown;
};
static const char *const names[] = {"07_fast", "09_hopper"};

static void make_up(struct made_up_case *m, const char *name, double bound)
{
	static const double samples[] = {102, 98, 100, 100};
	const struct cell cell = cell_of("b2_64_h16");
	*m = (struct made_up_case){0};
	cr_assert(cell_case(&cell, 1, &m->c) == 0);
	memcpy(m->samples, samples, sizeof(samples));
	struct bench_result *fast = &m->results[0];
	fast->verdict.worst_element = 0.25;
	fast->copies = 3;
	fast->num_timings = 2;
	for (int t = 0; t < 2; t++) {
		struct bench_timing *timing = &fast->timings[t];
		timing->mode = t == 0 ? BENCH_GRAPH : BENCH_LAUNCH;
		timing->cold = t == 0;
		timing->calls = t == 0 ? 12 : 1;
		timing->samples = m->samples;
		timing->settled = t == 0;
		timing->load.sm_mhz =
			(struct stats){.n = 2, .min = 1740, .median = 1755 + 15 * t, .max = 1800};
		timing->load.power_w = (struct stats){.n = 2, .median = 600 + t};
		cr_assert(stats_of(m->samples, 4, &timing->stats) == 0);
	}
	const double plan[] = {5, 6, 7};
	cr_assert(stats_of(plan, 3, &fast->plan) == 0 && stats_of(plan, 3, &fast->upload) == 0);
	bench_result_end(&m->results[1], MLA_REFUSED, "needs sm_90, \"really\"");
	m->shown = (struct timings_shown){.c = &m->c,
					  .name = name,
					  .sha256 = "abc",
					  .work = {.flop = 4e9, .bytes = 2e8},
					  .bound = {bound, CASE_LIMIT_BYTES},
					  .implementations = names,
					  .results = m->results,
					  .count = 2};
}

static char *text_of(void (*print)(const struct timings_shown *, FILE *),
		     const struct timings_shown *shown)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	cr_assert(out != NULL);
	print(shown, out);
	fclose(out);
	return text;
}

Test(reports, the_table_says_what_was_measured)
{
	struct made_up_case m;
	make_up(&m, "x", 60);
	char *text = text_of(timings_show, &m.shown);
	/* 2e8 bytes and 4e9 FLOP in 100 us, bound 60 us; quartiles 99 and 101 */
	cr_expect(strstr(text, "07_fast    PASS   graph cold  100 us   2.0%  98.0 us"), "%s", text);
	cr_expect(strstr(text, "2000       40  60.0%  6.00 us  6.00 us  1755       4?"), "%s",
		  text);
	cr_expect(strstr(text, "launch hot  100 us  2.0%!"), "%s", text);
	cr_expect(strstr(text, "09_hopper  SKIP   -"), "%s", text);
	cr_expect(strstr(text, "    needs sm_90, \"really\"\n"), "%s", text);
	free(text);
	m.shown.bound.us = 0;
	text = text_of(timings_show, &m.shown);
	cr_expect(strstr(text, "40      -  6.00 us"), "%s", text);
	free(text);
	case_free(&m.c);
}

static void print_matrix(const struct timings_shown *shown, FILE *out)
{
	struct timings_matrix *matrix = timings_matrix_new(names, 2);
	struct timings_shown second = *shown;
	timings_matrix_add(matrix, shown);
	second.name = "y";
	second.bound.us = 0;
	timings_matrix_add(matrix, &second);
	timings_matrix_print(matrix, out);
	timings_matrix_free(matrix);
}

Test(reports, the_matrix_has_a_row_per_case)
{
	struct made_up_case m;
	make_up(&m, "x", 60);
	char *text = text_of(print_matrix, &m.shown);
	cr_expect(strstr(text, "case  bound us       07_fast  09_hopper\n"
			       "x         60.0  100.0? (60%)       SKIP\n"
			       "y            -        100.0?       SKIP\n"),
		  "%s", text);
	free(text);
	case_free(&m.c);
}

Test(reports, csv_quotes_what_it_must)
{
	struct made_up_case m;
	make_up(&m, "a,b", 60);
	char *text = text_of(timings_csv_rows, &m.shown);
	cr_expect_str_eq(
		text, "\"a,b\",07_fast,PASS,graph,cold,100,99,101,98,4,60,4000000000,200000000,6,6,"
		      ",1,0,1755\n"
		      "\"a,b\",07_fast,PASS,launch,hot,100,99,101,98,4,60,4000000000,200000000,6,6,"
		      ",0,0,1770\n"
		      "\"a,b\",09_hopper,SKIP,,,,,,,,60,4000000000,200000000,,,"
		      "\"needs sm_90, \"\"really\"\"\",,,\n");
	free(text);
	case_free(&m.c);
}

static void print_marks(const struct timings_shown *shown, FILE *out)
{
	struct timings_marks marks = {0};
	for (int i = 0; i < shown->count; i++)
		timings_marks_count(&marks, &shown->results[i]);
	timings_marks_explain(&marks, 0.005, out);
	timings_show_clocks(&marks, 1980, out);
}

Test(reports, signs_and_clocks_are_explained_once)
{
	struct made_up_case m;
	make_up(&m, "x", 60);
	char *text = text_of(print_marks, &m.shown);
	cr_expect(strstr(text, "! 1 of 2 timings: noisier than 0.5% when"), "%s", text);
	cr_expect(strstr(text, "? 2 of 2 timings: fewer than 6 samples, "), "%s", text);
	cr_expect(strstr(text, "SM clock 1755 to 1770 MHz (at most 1980), power 600 to 601 W; "),
		  "%s", text);
	free(text);
	m.shown.count = 0;
	text = text_of(print_marks, &m.shown);
	cr_expect_str_eq(text, "");
	free(text);
	case_free(&m.c);
}

static double number(const json_t *object, const char *key)
{
	cr_assert(json_is_number(json_object_get(object, key)), "no %s", key);
	return json_number_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
	cr_assert(json_is_string(json_object_get(object, key)), "no %s", key);
	return json_string_value(json_object_get(object, key));
}

Test(reports, json_holds_every_sample_and_where_it_is_from)
{
	char *const argv[] = {"mla bench", "--suite", "peers"};
	const struct ceilings ceilings = made_up("G", 1000);
	struct made_up_case m;
	make_up(&m, "x", 60);
	json_t *root = results_new(3, argv, &ceilings, NULL);
	results_add(root, &m.shown);
	cr_expect_str_eq(string(root, "schema"), "mla-results");
	cr_expect(number(root, "schema_version") == 1);
	cr_expect_str_eq(string(root, "command"), "mla bench --suite peers");
	const json_t *environment = json_object_get(root, "environment");
	cr_expect(*string(environment, "commit") && *string(environment, "os"));
	cr_expect(strlen(string(environment, "date_utc")) == 20);
	cr_expect(number(json_object_get(root, "ceilings"), "read_gbs") == 1000);
	cr_expect(json_is_null(json_object_get(json_object_get(root, "ceilings"), "gemm_tflops")));
	cr_expect(number(json_object_get(root, "ceilings"), "tensor_tflops") ==
		  1000 + CEILING_WGMMA);
	const json_t *fast = json_array_get(json_object_get(root, "measurements"), 0);
	const json_t *c = json_object_get(fast, "case");
	cr_expect_str_eq(string(c, "name"), "x");
	cr_expect_str_eq(string(c, "sha256"), "abc");
	cr_expect_str_eq(string(c, "dtype"), "bf16");
	cr_expect(number(c, "kv_tokens") == 128 && number(c, "kv_len_max") == 64);
	cr_expect(number(c, "flop") == 4e9 && number(c, "bytes") == 2e8);
	cr_expect(number(c, "bound_us") == 60);
	cr_expect_str_eq(string(c, "bound_by"), "bytes");
	cr_expect(json_array_size(json_object_get(c, "kv_len")) == 2);
	cr_expect_str_eq(string(fast, "implementation"), "07_fast");
	cr_expect_str_eq(string(fast, "status"), "PASS");
	cr_expect(number(json_object_get(fast, "errors"), "element") == 0.25);
	cr_expect(number(json_object_get(fast, "plan_us"), "median") == 6);
	const json_t *timing = json_array_get(json_object_get(fast, "timings"), 0);
	cr_expect_str_eq(string(timing, "mode"), "graph");
	cr_expect_str_eq(string(timing, "cache"), "cold");
	cr_expect(number(timing, "median_us") == 100 && number(timing, "min_us") == 98);
	cr_expect(json_is_true(json_object_get(timing, "settled")));
	cr_expect(json_is_false(json_object_get(timing, "enough_samples")));
	const json_t *clocks = json_object_get(timing, "clocks");
	const json_t *mhz = json_object_get(clocks, "sm_mhz");
	cr_expect(number(mhz, "min") == 1740 && number(mhz, "median") == 1755);
	cr_expect(number(mhz, "max") == 1800 && number(mhz, "n") == 2);
	cr_expect(json_is_null(json_object_get(clocks, "mem_mhz")), "not told");
	cr_expect(number(json_object_get(clocks, "power_w"), "median") == 600);
	const json_t *samples = json_object_get(timing, "samples_us");
	cr_assert(json_array_size(samples) == 4);
	cr_expect(json_number_value(json_array_get(samples, 0)) == 102,
		  "in the order of measuring");
	const json_t *refused = json_array_get(json_object_get(root, "measurements"), 1);
	cr_expect_str_eq(string(refused, "status"), "SKIP");
	cr_expect(json_is_null(json_object_get(refused, "errors")));
	cr_expect(json_is_null(json_object_get(refused, "plan_us")));
	cr_expect(json_array_size(json_object_get(refused, "timings")) == 0);
	json_decref(root);
	case_free(&m.c);
}

Test(reports, a_refusal_says_nothing_about_a_kernel)
{
	static const struct {
		mla_status status;
		enum check_outcome outcome;
	} cases[] = {{MLA_REFUSED, CHECK_SKIP},   {MLA_NO_CUDA, CHECK_SKIP},
		     {MLA_NO_MEMORY, CHECK_SKIP}, {MLA_CUDA, CHECK_FAIL},
		     {MLA_INVALID, CHECK_FAIL},   {MLA_CAPACITY, CHECK_FAIL}};
	for (int i = 0; i < COUNT(cases); i++) {
		struct bench_result result = {0};
		bench_result_end(&result, cases[i].status, "why");
		cr_expect(result.verdict.outcome == cases[i].outcome, "%d", cases[i].status);
		cr_expect_str_eq(result.verdict.why, "why");
	}
}
