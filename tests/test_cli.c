/* test_cli.c - the program as its users meet it: exit codes, what goes to which stream, JSON, and a
 * case's way through make, verify, info, check, cut; and the reports of failures, which a right
 * program never shows by itself.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <pty.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "capture/capture.h"
#include "case/cell.h"
#include "case/generate.h"
#include "case/work.h"
#include "check/variants.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/source.h"
#include "cli_fixture.h"
#include "device/gpu.h"
#include "device/known.h"
#include "lib/error.h"
#include "output_fixture.h"
#include "report/json.h"
#include "report/table.h"
#include "report/tally.h"

/* cppcheck-suppress unknownMacro */
TestSuite(files, .init = enter, .fini = leave);

/* ---- help, version, usage -------------------------------------------------------------------- */

static const char *const verbs[] = {"list", "info",  "verify", "make",     "cut",
				    "plan", "check", "bench",  "ceilings", "cases"};

/* What is written in the help is what is taken. */
Test(cli, plan_helps_with_the_figures_of_its_gpu)
{
	const mla_device *device = &known_gpus[0].device;
	const struct {
		const char *what;
		int32_t figure;
	} figures[] = {{"Multiprocessors", device->sm_count},
		       {"Compute capability times ten", device->arch},
		       {"Shared memory a block can have", device->smem_per_block}};
	struct result r = mla("plan --help");
	for (int i = 0; i < COUNT(figures); i++) {
		char words[96];
		snprintf(words, sizeof(words), "%s (default %d)", figures[i].what,
			 figures[i].figure);
		cr_expect(strstr(r.out, words), "no \"%s\" in\n%s", words, r.out);
	}
	done(&r);
}

Test(cli, every_verb_helps)
{
	struct result top = mla("--help");
	for (int i = 0; i < COUNT(verbs); i++) {
		char words[64], usage[64];
		snprintf(words, sizeof(words), "%s --help", verbs[i]);
		snprintf(usage, sizeof(usage), "Usage: mla %s", verbs[i]);
		expect(words, 0, usage, NULL);
		snprintf(usage, sizeof(usage), "Example:\n  mla %s", verbs[i]);
		expect(words, 0, usage, NULL);
		expect(words, 0, "Exit codes: 0", NULL);
		snprintf(usage, sizeof(usage), "\n  %s ", verbs[i]);
		cr_expect(strstr(top.out, usage), "mla --help does not list %s", verbs[i]);
	}
	cr_expect(top.code == 0);
	done(&top);
}

Test(cli, version)
{
	expect("--version", 0, "mla " MLA_VERSION, NULL);
}

Test(cli, wrong_usage_is_2_and_a_sentence)
{
	static const struct {
		const char *words, *sentence;
	} cases[] = {
		{"", "a verb is missing"},
		{"bensh", "unknown verb \"bensh\"; did you mean \"bench\"?"},
		{"xyzzyplugh", "unknown verb \"xyzzyplugh\"; \"mla --help\""},
		{"list 3", "takes no arguments"},
		{"info", "a FILE is missing"},
		{"verify", "a FILE is missing"},
		{"make", "-o FILE is missing"},
		{"make -o x.h5 --heads 0", "--heads: 0 is out of range, expected 1 to 65536"},
		{"make -o x.h5 --heads 12x", "--heads: found \"12x\", expected a whole number"},
		{"make -o x.h5 --heads 99999999999999999999", "is out of range"},
		{"make -o x.h5 --kv-len 1,,2", "--kv-len: found \",2\""},
		{"make -o x.h5 --kv-len 5-3", "the range 5-3 is empty"},
		{"make -o x.h5 --kv-len 0-99999999",
		 "with 0-99999999 there are 100000000 numbers, expected at most 1048576"},
		{"make -o x.h5 --kv-len uniform:9", "expected uniform:LOW-HIGH"},
		{"make -o x.h5 --kv-len uniform:9-3", "--kv-len: 3 is out of range, expected 9"},
		{"make -o x.h5 --batch 3 --kv-len 1,2",
		 "--kv-len names 2 requests, the batch has 3"},
		{"make -o x.h5 --q-pos0 3", "--q-pos0 has a meaning only with --causal"},
		{"make -o x.h5 --dtype fp8", "expected one of: bf16, fp16, f32"},
		{"make -o x.h5 --scale nan", "--scale is nan, expected a number of either sign"},
		{"make -o x.h5 --scale 0", "--scale is 0, expected a number of either sign"},
		{"make -o x.h5 --scale=-inf", "--scale is -inf, expected a number of either sign"},
		{"plan --scale 1e39", "--scale is 1e+39, expected a number of either sign"},
		{"bench --scale 3e38", "--scale is 3e+38, expected a number of either sign"},
		{"profile --scale 1e-39", "--scale is 1e-39, expected a number of either sign"},
		{"make -o x.h5 --scale 0.1x", "--scale: found \"0.1x\", expected a number"},
		{"make -o x.h5 extra", "unexpected argument \"extra\""},
		{"cut in.h5", "IN and OUT are needed"},
		{"cut --heads 0,2 in.h5 out.h5", "heads must be neighbours, found 2 after 0"},
		{"cut --steps -1 in.h5 out.h5", "--steps: -1 is out of range"},
		{"plan --kernel 01 --tile-rows 3", "--kernel has its own traits"},
		{"plan --kernel nosuch --kv-len 9", "nosuch"},
		{"plan --kv-len 9 x.h5", "exclude each other"},
		{"plan -c 0/0", "FILE, which is missing"},
		{"check", "a FILE, --random or --suite is missing"},
		{"check --suite nope",
		 "--suite: found \"nope\", expected one of: gpu, host, smoke"},
		{"check --random 1 -k onlin", "unknown implementation \"onlin\"; did you mean"},
		{"check --random 1 --emulate=0",
		 "--emulate: 0 is out of range, expected 1 to 1000000"},
		{"check --random 1 --emulate=-1", "--emulate: -1 is out of range"},
		{"check --random 1 --emulate=1-1000001", "--emulate: 1000001 is out of range"},
		{"check --random 1 --emulate=5-3", "--emulate: the range 5-3 is empty"},
		{"check --random 1 --emulate=1-", "--emulate: found \"\", expected a list"},
		{"check --random 1 --emulate=", "--emulate: found \"\", expected a list"},
		{"check --random 1 --emulate=abc", "--emulate: found \"abc\", expected a list"},
		{"check --random 1 --emulate=1x", "--emulate: found \"1x\", expected a list"},
		{"check --random 1 --emulate --emulate=2",
		 "--emulate is given twice; several seeds are --emulate=1-20"},
		{"check --emulate=3", "a FILE, --random or --suite is missing"},
		{"check --suite host --emulate",
		 "--suite host runs no kernel, and only those are emulated"},
		{"check --random 1 --emulate=1-3 --json x.json",
		 "--json names one file, and --emulate 3 seeds that would each write it"},
		{"check --random 3 -c random:1.7", "no case \"random:1.7\""},
		{"bench", "a FILE or the flags of a shape are needed"},
		{"bench --samples 1 --heads 4", "--samples: 1 is out of range, expected 3"},
		{"bench --suite smoke x.h5", "exactly one of them"},
		{"bench --suite nope",
		 "--suite: found \"nope\", expected one of: smoke, peers, sweep"},
		{"bench --cells b4_h16", "cell \"b4_h16\": found \"too little\""},
		{"bench --suite smoke --mode grap",
		 "--mode: found \"grap\", expected one of: graph"},
		{"bench --suite smoke --cache warm", "expected one of: cold, hot"},
		{"bench --list --heads 4", "--list is for --suite and --cells"},
		{"ceilings 3", "takes no arguments"},
		{"cases --suite smoke x.h5", "exclude each other"},
		{"cases --suite smoke --cells b1_9_h1", "exclude each other"},
		{"cases --cells b4_h16", "cell \"b4_h16\": found \"too little\""},
		{"cases --cells b1_9_h1 -c b2_*", "no case \"b2_*\""},
		{"list --nope", "unrecognized option"},
	};
	for (int i = 0; i < COUNT(cases); i++)
		expect(cases[i].words, 2, NULL, cases[i].sentence);
}

Test(files, a_bad_file_is_3_and_a_sentence)
{
	static const char *const commands[] = {"info %s",       "verify %s", "check %s",
					       "cut %s out.h5", "plan %s",   "bench %s"};
	FILE *text = fopen("text.h5", "w");
	cr_assert(text && fputs("this is no HDF5 file\n", text) >= 0 && fclose(text) == 0);
	for (int i = 0; i < COUNT(commands); i++) {
		char words[64];
		snprintf(words, sizeof(words), commands[i], "missing.h5");
		expect(words, 3, NULL, "missing.h5: ");
		snprintf(words, sizeof(words), commands[i], "text.h5");
		expect(words, 3, NULL, "text.h5: ");
	}
	expect("check --random 1 -k cpu --json no/such/folder.json", 3, NULL,
	       "no/such/folder.json: cannot be written");
}

Test(cli, a_full_disk_is_no_success)
{
	char command[PATH_MAX + 32];
	snprintf(command, sizeof(command), "'%s' list >/dev/full", binary());
	struct result r = shell(command);
	cr_expect(r.code == 1, "exit code %d", r.code);
	cr_expect(strstr(r.err, "standard output cannot be written"), "%s", r.err);
	done(&r);
}

/* ---- without a GPU --------------------------------------------------------------------------- */

Test(cli, nothing_to_run_is_77_and_says_why)
{
	const char *missing = gpu_missing();
	if (!missing)
		cr_skip_test("there is a GPU");
	char sentence[128];
	snprintf(sentence, sizeof(sentence), "SKIPPED, %s\n", missing);
	expect("check --suite gpu", 77, sentence, NULL);
	expect("check -k 01 --random 2", 77, "0 passed, 0 failed, 2 skipped", NULL);
	expect("check -k gpu --random 1", 77, missing, NULL);
	expect("bench -k naive --heads 2 --kv-len 70", 77, "SKIP", NULL);
	expect("bench --suite smoke", 77, "SKIP", NULL);
	expect("ceilings", 77, sentence, NULL);
	expect("list", 0, missing, NULL);
}

/* How often a sentence stands in a text. */
static int times_in(const char *text, const char *sentence)
{
	int times = 0;
	for (const char *p = text; (p = strstr(p, sentence)); p++)
		times++;
	return times;
}

/* Why no kernel runs is one fact: said once, with a count, however many cases and files there are.
 */
Test(cli, no_gpu_is_said_once)
{
	static const char *const words[] = {"check --random 3", "check --random 3 -v",
					    "check --suite smoke --random 2 -k 01,online",
					    "bench --suite smoke -k gpu,online --samples 3"};
	const char *missing = gpu_missing();
	if (!missing)
		cr_skip_test("there is a GPU");
	for (int i = 0; i < COUNT(words); i++) {
		struct result r = mla(words[i]);
		cr_expect(r.code == 0, "%s: %d", words[i], r.code);
		cr_expect(times_in(r.out, missing) == 1, "%s:\n%s", words[i], r.out);
		cr_expect(strstr(r.out, " runs of kernels skipped: "), "%s", r.out);
		cr_expect_str_empty(r.err);
		done(&r);
	}
	expect("check -k cpu --random 2", 0, "0 skipped", NULL);
	expect("check -k 01,cpu --random 2", 0, "2 runs of kernels skipped: ", NULL);
}

Test(cli, list_shows_kernels_and_variants)
{
	struct result r = mla("list");
	cr_assert(r.code == 0);
	for (int i = 0; i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};
		cr_assert(mla_kernel_get(i, &info) == MLA_OK);
		cr_expect(strstr(r.out, info.name), "no %s in\n%s", info.name, r.out);
	}
	for (int i = 0; i < variants_count; i++)
		cr_expect(strstr(r.out, variants[i].name), "no %s in\n%s", variants[i].name, r.out);
	done(&r);
}

/* ---- checks and JSON ------------------------------------------------------------------------- */

Test(cli, random_cases_pass_on_the_cpu)
{
	expect("check --random 6 --seed 3 -k cpu", 0, "18 passed, 0 failed, 0 skipped", NULL);
	expect("check -c random:3.2 -k online", 0, "1 passed, 0 failed, 0 skipped", NULL);
	expect("check --random 6 --seed 3 -k online -v", 0, "random:3.5", NULL);
	expect("check --random 3 -k split-k --fixed-split 64", 0, "3 passed", NULL);
}

/* The shipped capture of a model carries all that is judged, each in a row of its own. */
Test(cli, every_kind_of_fact_has_its_row)
{
	static const char *const kinds[] = {"\nunabsorbed ", "\nout_model ", "\nout_ref ",
					    "\nlse_ref "};
	struct result r =
		mla("check -k online,unabsorbed -c 000/* data/captures/tiny_model_forward.h5");
	cr_assert_eq(r.code, 0, "exit code %d\n%s%s", r.code, r.out, r.err);
	for (int i = 0; i < COUNT(kinds); i++)
		cr_expect(strstr(r.out, kinds[i]), "no row \"%s\" in\n%s", kinds[i] + 1, r.out);
	cr_expect_eq(COUNT(kinds), FACTS_KINDS);
	done(&r);
}

Test(cli, a_suite_prints_a_line_per_test)
{
	struct result r = mla("check --suite smoke -k cpu");
	cr_expect(r.code == 0 && *r.err == '\0', "%s", r.err);
	for (int i = 0; i < variants_count; i++) {
		char line[64];
		snprintf(line, sizeof(line), "\nPASS %s ", variants[i].name);
		cr_expect(strstr(r.out, line), "no \"%s\" in\n%s", line + 1, r.out);
	}
	done(&r);
}

static json_t *load_json(const char *path, const char *schema)
{
	json_error_t error;
	json_t *root = json_load_file(path, 0, &error);
	cr_assert(root != NULL, "%s:%d: %s", path, error.line, error.text);
	cr_expect_str_eq(json_string_value(json_object_get(root, "schema")), schema);
	cr_expect(json_integer_value(json_object_get(root, "schema_version")) == 1);
	const json_t *program = json_object_get(root, "program");
	cr_expect_str_eq(json_string_value(json_object_get(program, "version")), MLA_VERSION);
	const json_t *environment = json_object_get(root, "environment");
	cr_expect(json_is_string(json_object_get(environment, "hdf5")));
	cr_expect(gpu_missing() ? json_is_null(json_object_get(environment, "gpu"))
				: json_is_object(json_object_get(environment, "gpu")));
	return root;
}

Test(files, a_report_spares_captures)
{
	static const char *const commands[] = {"check --json spared.h5 --random 1",
					       "bench --csv spared.h5 --suite smoke",
					       "ceilings --ceilings spared.h5"};

	expect("make -B 1 --heads 2 --kv-len 9 -o spared.h5", 0, "wrote", NULL);
	for (int i = 0; i < COUNT(commands); i++)
		expect(commands[i], 2, NULL,
		       "spared.h5: cannot be written: it holds a capture and would be lost");
	expect("verify spared.h5", 0, "good", NULL);
}

/* A pipe is written to once, and never read from. */
Test(files, a_report_goes_through_a_pipe)
{
	char command[PATH_MAX + 128];
	snprintf(command, sizeof(command),
		 "mkfifo pipe; timeout 60 cat pipe >got.json & timeout 60 '%s' check --random 1 -k "
		 "cpu --json pipe && "
		 "test -p pipe; code=$?; wait; exit $code",
		 binary());
	struct result r = shell(command);
	cr_expect(r.code == 0, "exit code %d\n%s%s", r.code, r.out, r.err);
	json_decref(load_json("got.json", "mla-check"));
	done(&r);
}

Test(files, check_json)
{
	expect("check --random 2 -k cpu,01 --json check.json", 0, "passed", NULL);
	json_t *root = load_json("check.json", "mla-check");
	const json_t *cases = json_object_get(root, "cases");
	cr_assert(json_array_size(cases) == 2);
	const json_t *first = json_array_get(cases, 0);
	cr_expect_str_eq(json_string_value(json_object_get(first, "id")), "random:1.0");
	cr_expect(json_integer_value(json_object_get(first, "rows_checked")) > 0);
	const json_t *shape = json_object_get(first, "shape");
	cr_expect(json_array_size(json_object_get(shape, "kv_len")) ==
		  (size_t)json_integer_value(json_object_get(shape, "batch_size")));
	const json_t *verdicts = json_object_get(first, "verdicts");
	cr_assert(json_array_size(verdicts) == (size_t)variants_count + 1);
	const json_t *absorbed = json_array_get(verdicts, 0);
	cr_expect_str_eq(json_string_value(json_object_get(absorbed, "name")), "absorbed");
	cr_expect_str_eq(json_string_value(json_object_get(absorbed, "outcome")), "PASS");
	const double worst = json_number_value(json_object_get(absorbed, "worst_element"));
	cr_expect(worst > 0 && worst <= 1, "worst_element %g", worst);
	const json_t *kernel = json_array_get(verdicts, (size_t)variants_count);
	cr_expect_str_eq(json_string_value(json_object_get(kernel, "name")), "01_naive");
	if (gpu_missing())
		cr_expect_str_eq(json_string_value(json_object_get(kernel, "outcome")), "SKIP");
	json_decref(root);
}

Test(files, bench_json)
{
	expect("bench -k online --heads 3 --qo-len 2 --kv-len 100,20 --causal --samples 3 "
	       "--json bench.json",
	       0, "online", NULL);
	json_t *root = load_json("bench.json", "mla-results");
	const json_t *result = json_array_get(json_object_get(root, "measurements"), 0);
	const json_t *c = json_object_get(result, "case");
	/* Causal: 99 + 100 and 19 + 20 visible keys, 3 heads, 2 * (512 + 64 + 512). */
	cr_expect(json_number_value(json_object_get(c, "flop")) == 238.0 * 3 * 2 * 1088);
	/* 120 cache slots of 1152 bytes; 12 rows of q 1152, out 1024 and lse 4 bytes. */
	cr_expect(json_number_value(json_object_get(c, "bytes")) ==
		  120.0 * 1152 + 12.0 * (1152 + 1024 + 4));
	cr_expect_str_eq(json_string_value(json_object_get(result, "implementation")), "online");
	const json_t *timing = json_array_get(json_object_get(result, "timings"), 0);
	const json_t *samples = json_object_get(timing, "samples_us");
	cr_assert(json_array_size(samples) == 3);
	double values[3];
	for (size_t i = 0; i < 3; i++)
		values[i] = json_number_value(json_array_get(samples, i));
	struct stats stats;
	cr_assert(stats_of(values, 3, &stats) == 0);
	cr_expect(stats.min > 0);
	cr_expect_float_eq(json_number_value(json_object_get(timing, "median_us")), stats.median,
			   1e-9);
	json_decref(root);
}

/* As many samples as are asked for; without that, at least what mla compare needs. */
Test(files, the_cpu_is_timed_as_a_gpu_is)
{
	static const struct {
		const char *words;
		int least, most;
	} cases[] = {{"--samples 12", 12, 12},
		     {"--samples 3", 3, 3},
		     {"--time 0.0001", 6, 6},
		     {"--time 0.05", 6, 1000}};
	for (int i = 0; i < COUNT(cases); i++) {
		char words[256];
		snprintf(words, sizeof(words),
			 "bench -k absorbed,online --heads 2 --kv-len 30 --json t%d.json %s", i,
			 cases[i].words);
		expect(words, 0, "online", NULL);
		snprintf(words, sizeof(words), "t%d.json", i);
		json_t *root = load_json(words, "mla-results");
		for (size_t m = 0; m < 2; m++) {
			const json_t *one =
				json_array_get(json_object_get(root, "measurements"), m);
			const json_t *t = json_array_get(json_object_get(one, "timings"), 0);
			const int n = (int)json_array_size(json_object_get(t, "samples_us"));
			cr_expect(n >= cases[i].least && n <= cases[i].most, "%s: %d",
				  cases[i].words, n);
			cr_expect(json_is_true(json_object_get(t, "enough_samples")) == (n >= 6));
			cr_expect_str_eq(json_string_value(json_object_get(t, "mode")), "host");
		}
		json_decref(root);
	}
	expect("compare t0.json t0.json", 0, "2 SAME", NULL);
	expect("compare t1.json t1.json", 0, "3 and 3 samples, at least 6 are needed: no ratio",
	       NULL);
	expect("bench -k online --heads 2 --kv-len 30 --mode host --samples 3", 0, "host", NULL);
	expect("bench --heads 2 --kv-len 30 --mode host --samples 3", 0, "split-k", "");
	expect("bench --cells b1_9_h2 --mode host --samples 3", 0, "online", "");
	expect("bench -k online --heads 2 --kv-len 30 --mode graph", 77, "--mode lacks host", NULL);
}

static void expect_lines(const char *path, int expected)
{
	FILE *file = fopen(path, "r");
	char line[512];
	int lines = 0;
	cr_assert(file != NULL);
	while (fgets(line, sizeof(line), file))
		lines++;
	fclose(file);
	cr_expect(lines == expected, "%s: %d lines", path, lines);
}

Test(files, bench_suites_and_cells)
{
	expect("bench --suite smoke -k online --samples 3 --csv smoke.csv", 0,
	       "microseconds per call", NULL);
	expect_lines("smoke.csv", 4);
	expect("bench --suite peers --list", 0, "b128_8Kv_h128_q2", NULL);
	expect("bench --suite peers --list -c b1_*", 0, "b1_128K_h16_q1", NULL);
	expect("bench --suite smoke -k online -c nothing --csv smoke.csv", 2, NULL,
	       "no cell \"nothing\"");
	expect_lines("smoke.csv", 4); /* nothing was measured */
	expect("bench --cells b1_9_h2,b2_9v_h3_q2_p4 -k split-k --samples 3", 0, "b2_9v_h3_q2_p4",
	       NULL);
	expect("bench --cells b65536_500000K_h1 --list", 2, "case",
	       "mla bench: cell \"b65536_500000K_h1\": the batch has more queries or pages than 32 "
	       "bits count");
	expect("bench --explain", 0, "of the samples, per call", NULL);
	expect("bench --suite smoke -k online --csv no/such/folder.csv", 3, NULL,
	       "no/such/folder.csv: cannot be written: No such file or directory");
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

/* What `mla VERB --json WORDS` prints. */
static json_t *printed_json(const char *verb, const char *words, const char *schema)
{
	char command[512];

	snprintf(command, sizeof(command), "'%s' %s --json %s >printed.json", binary(), verb,
		 words);

	struct result r = shell(command);

	cr_assert(r.code == 0, "%s\n%s", words, r.err);
	done(&r);
	return load_json("printed.json", schema);
}

static json_t *cases_json(const char *words)
{
	return printed_json("cases", words, "mla-cases");
}

/* A kernel's answer for a device is that of the library. */
static void expect_answer(const char *kernel, const json_t *answer, const json_t *device)
{
	const mla_config config = {.struct_size = sizeof(config),
				   .num_heads = 128,
				   .head_dim_ckv = 512,
				   .head_dim_kpe = 64,
				   .page_size = 64,
				   .causal = 1,
				   .sm_scale = 0.1352};
	const mla_device asked = {.struct_size = sizeof(asked),
				  .arch = (int32_t)number(device, "arch"),
				  .sm_count = (int32_t)number(device, "sm_count"),
				  .smem_per_block = (int32_t)number(device, "smem_per_block")};
	mla_traits traits = {.struct_size = sizeof(traits)};
	const mla_status status = mla_kernel_traits(kernel, &config, &asked, &traits);

	cr_expect_str_eq(string(answer, "device"), string(device, "name"));
	if (status) {
		cr_expect_str_eq(string(answer, "refusal"), mla_last_error());
		cr_expect(json_is_null(json_object_get(answer, "traits")));
		return;
	}
	cr_expect(json_is_null(json_object_get(answer, "refusal")));
	answer = json_object_get(answer, "traits");
	cr_expect(number(answer, "tile_rows") == traits.tile_rows);
	cr_expect(number(answer, "kv_granule") == traits.kv_granule);
	cr_expect(number(answer, "threads") == traits.threads);
	cr_expect(number(answer, "align") == traits.align);
}

Test(files, list_json)
{
	json_t *root = printed_json("list", "", "mla-list");
	const json_t *devices = json_object_get(root, "devices");
	const json_t *kernels = json_object_get(root, "kernels");

	cr_assert(json_array_size(kernels) == (size_t)mla_kernel_count());
	cr_assert(json_array_size(devices) == (size_t)known_num_gpus + !gpu_missing());
	cr_expect(json_array_size(json_object_get(root, "cpu")) == (size_t)variants_count);
	for (int i = 0; i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};
		const json_t *kernel = json_array_get(kernels, (size_t)i);
		const json_t *on = json_object_get(kernel, "on");

		cr_assert(!mla_kernel_get(i, &info));
		cr_expect_str_eq(string(kernel, "name"), info.name);
		cr_expect_str_eq(string(kernel, "ideas"), info.ideas);
		cr_expect(json_is_true(json_object_get(kernel, "built")) == !!info.built);
		cr_assert(json_array_size(on) == json_array_size(devices));
		for (size_t d = 0; d < json_array_size(on); d++)
			expect_answer(info.name, json_array_get(on, d), json_array_get(devices, d));
	}
	json_decref(root);
}

/* Every cell of every suite, in their order, each by its suite. */
Test(files, cases_of_all_suites)
{
	json_t *root = cases_json("--cell-seed 3");
	const json_t *list = json_object_get(root, "cases");
	size_t n = 0;

	cr_expect(number(root, "seed") == 3);
	for (int s = 0; s < cell_num_suites; s++)
		for (int i = 0; i < cell_suites[s].num_cells; i++) {
			const json_t *c = json_array_get(list, n++);

			cr_assert_str_eq(string(c, "name"), cell_suites[s].cells[i]);
			cr_assert_str_eq(string(c, "suite"), cell_suites[s].name);
		}
	cr_expect(json_array_size(list) == n);
	json_decref(root);
	expect("cases --suite peers -c b1_*", 0, "b1_128K_h16_q1", NULL);
}

/* The shape that a cell's name says, and the work and lengths with which mla bench makes it. */
Test(files, cases_of_cells)
{
	json_t *root = cases_json("--cells b3_300v_h128_q2_p16");
	const json_t *c = json_array_get(json_object_get(root, "cases"), 0);
	const json_t *shape = json_object_get(c, "cell"), *keys = json_object_get(c, "kv_len");
	struct mla_case made;
	struct case_work work;
	struct cell cell;

	cr_assert(!cell_parse("b3_300v_h128_q2_p16", &cell));
	cr_assert(!cell_case(&cell, 1, &made) && !case_work_of(&made, &work));
	cr_expect(number(root, "seed") == 1);
	cr_expect(number(c, "multiply_adds") == work.multiply_adds);
	cr_expect(number(c, "flop") == work.flop && number(c, "bytes") == work.bytes);
	cr_assert(json_array_size(keys) == 3);
	for (int i = 0; i < 3; i++)
		cr_expect(json_integer_value(json_array_get(keys, (size_t)i)) ==
			  made.batch.kv_len[i]);
	cr_expect(number(shape, "batch_size") == 3 && number(shape, "kv_len") == 300);
	cr_expect(number(shape, "num_heads") == 128 && number(shape, "qo_len") == 2);
	cr_expect(number(shape, "page_size") == 16);
	cr_expect(json_is_true(json_object_get(shape, "varied")));
	cr_expect(json_is_null(json_object_get(c, "suite")));
	case_free(&made);
	json_decref(root);
}

Test(files, cases_come_with_the_tolerances_of_check)
{
	json_t *root = cases_json("--cells b1_9_h1");
	const json_t *allowed = json_object_get(root, "tolerances");

	cr_expect(number(allowed, "element_factor") == CHECK_ELEMENT_FACTOR);
	cr_expect(number(allowed, "element_floor") == CHECK_ELEMENT_FLOOR);
	cr_expect(number(json_object_get(allowed, "eps"), "bf16") == CHECK_EPS_BF16);
	cr_expect(number(json_object_get(allowed, "eps"), "fp16") == CHECK_EPS_F16);
	cr_expect(number(allowed, "row_rms") == CHECK_ROW_RMS);
	cr_expect(number(allowed, "lse_abs") == CHECK_LSE_ABS);
	cr_expect(number(allowed, "lse_rel") == CHECK_LSE_REL);
	cr_expect(number(allowed, "lse_cancel") == CHECK_LSE_CANCEL);
	cr_expect(number(allowed, "lse_sum") == CHECK_LSE_SUM);
	json_decref(root);
}

Test(files, cases_of_captures)
{
	expect("make -o a.h5 --heads 3 --qo-len 2 --kv-len 100,20 --causal", 0, "wrote", NULL);
	expect("cases a.h5", 0, "a.h5:000/000", NULL);
	expect("cases missing.h5", 3, NULL, "missing.h5");

	json_t *root = cases_json("-c 0/0 a.h5");
	const json_t *c = json_array_get(json_object_get(root, "cases"), 0);

	/* As of bench_json. */
	cr_expect(number(c, "flop") == 238.0 * 3 * 2 * 1088);
	cr_expect(number(c, "bytes") == 120.0 * 1152 + 12.0 * (1152 + 1024 + 4));
	cr_expect(json_is_null(json_object_get(c, "cell")));
	cr_expect(json_is_null(json_object_get(root, "seed")));
	json_decref(root);
}

/* c.json: what mla ceilings keeps, of one GPU. */
static void write_ceilings(const char *gpu)
{
	static const struct {
		const char *key;
		double rate;
	} rates[] = {
		{"read_gbs", 4000}, {"copy_gbs", 3000}, {"mma_tflops", 500}, {"wgmma_tflops", 800}};
	FILE *file = fopen("c.json", "w");

	cr_assert(file != NULL);
	fprintf(file,
		"{\"schema\": \"mla-ceilings\", \"schema_version\": 1, \"gpus\": {\"%s\": {"
		"\"gemm_tflops\": {\"why\": \"no cuBLAS\"}",
		gpu);
	for (int i = 0; i < COUNT(rates); i++)
		fprintf(file,
			", \"%s\": {\"n\": 3, \"min\": %g, \"q1\": %g, \"median\": %g, \"q3\": %g, "
			"\"max\": %g}",
			rates[i].key, rates[i].rate, rates[i].rate, rates[i].rate, rates[i].rate,
			rates[i].rate);
	fputs("}}}\n", file);
	fclose(file);
}

/* The larger of two: 16 heads wait for memory, 128 for the fastest of the tensor rates. */
Test(files, cases_have_bounds_by_measured_ceilings)
{
	write_ceilings("One");

	json_t *root = cases_json("--cells b4_4K_h16,b4_4K_h128 --ceilings c.json --gpu One");
	const json_t *list = json_object_get(root, "cases"), *used;
	const json_t *few = json_array_get(list, 0), *many = json_array_get(list, 1);

	used = json_object_get(root, "ceilings");
	cr_expect_str_eq(string(root, "gpu"), "One");
	cr_expect(number(used, "read_gbs") == 4000 && number(used, "tensor_tflops") == 800);
	cr_expect(json_is_null(json_object_get(used, "gemm_tflops")));
	cr_expect_float_eq(number(few, "bound_us"), number(few, "bytes") / 4000e3, 1e-9);
	cr_expect_str_eq(string(few, "bound_by"), "bytes");
	cr_expect_float_eq(number(many, "bound_us"), number(many, "flop") / 800e6, 1e-9);
	cr_expect_str_eq(string(many, "bound_by"), "flop");
	json_decref(root);
}

/* That there is no bound is said: in the JSON by null, on standard error if one was asked for. */
/* Another machine's file is shown where there is no GPU, or another one. */
Test(files, ceilings_are_shown_without_their_gpu)
{
	setenv("XDG_CACHE_HOME", "/nonexistent", 1);
	write_ceilings("NVIDIA One");
	expect("ceilings --show --ceilings c.json", 0, "NVIDIA One, ", NULL);
	expect("ceilings --show --ceilings c.json", 0, "4000  GB/s", NULL);
	expect("ceilings --show --ceilings c.json", 0, "? fewer than 6 samples", NULL);
	if (gpu_missing()) {
		expect("bench --cells b64_8K_h16 --list --ceilings c.json", 0, "151.6  bytes",
		       NULL);
		expect("bench --cells b64_8K_h16 --list --ceilings none.json", 3, NULL,
		       "none.json: has ceilings of 0 GPUs");
	}
	expect("ceilings --show", 77, "SKIPPED, /nonexistent/mla/ceilings.json holds no ceilings",
	       NULL);
	expect("ceilings --show --ceilings none.json", 3, NULL,
	       "mla ceilings: none.json: holds no ceilings");
}

Test(files, cases_without_ceilings)
{
	write_ceilings("One");

	json_t *root = cases_json("--cells b4_4K_h16 --ceilings c.json --gpu Two");
	const json_t *c = json_array_get(json_object_get(root, "cases"), 0);

	cr_expect(json_is_null(json_object_get(root, "ceilings")));
	cr_expect(json_is_null(json_object_get(c, "bound_us")));
	cr_expect(json_is_null(json_object_get(c, "bound_by")));
	json_decref(root);
	expect("cases --cells b4_4K_h16 --ceilings c.json --gpu Two", 0, "bound unknown",
	       "c.json has nothing about Two");
	expect("cases --cells b4_4K_h16 --ceilings printed.json --gpu Two", 3, NULL,
	       "expected schema \"mla-ceilings\"");
	if (gpu_missing())
		expect("cases --cells b4_4K_h16 --ceilings c.json", 2, NULL, "--gpu NAME");
}

Test(files, plan_text_and_json)
{
	expect("plan --batch 3 --heads 16 --kv-len 800 --sms 2 --causal", 0, "coverage    PASS",
	       NULL);
	struct result r = mla("plan --kv-len 800,0,65 --heads 40 --sms 4 --json");
	json_error_t error;
	json_t *root = json_loads(r.out, 0, &error);
	cr_assert(r.code == 0 && root != NULL, "%s: %s", error.text, r.out);
	cr_expect_str_eq(json_string_value(json_object_get(root, "schema")), "mla-plan");
	cr_expect_str_eq(
		json_string_value(json_object_get(json_object_get(root, "coverage"), "outcome")),
		"PASS");
	const json_t *plan = json_object_get(root, "plan");
	cr_expect(json_integer_value(json_object_get(plan, "batch_size")) == 3);
	cr_expect(json_integer_value(json_object_get(plan, "num_workers")) == 4);
	cr_expect(json_array_size(json_object_get(plan, "items")) >= 3);
	json_decref(root);
	done(&r);
}

Test(cli, plan_with_fixed_split_cuts_there)
{
	struct result r = mla("plan --kv-len 300 --heads 16 --fixed-split 128 --sms 1 --json");
	json_t *root = json_loads(r.out, 0, NULL);
	cr_assert(r.code == 0 && root != NULL, "%s%s", r.out, r.err);
	const json_t *items = json_object_get(json_object_get(root, "plan"), "items");
	cr_assert(json_array_size(items) == 3, "%zu items", json_array_size(items));
	for (size_t i = 0; i < 3; i++) {
		const json_t *keys = json_object_get(json_array_get(items, i), "keys");
		cr_expect(json_integer_value(json_array_get(keys, 0)) == 128 * (json_int_t)i);
	}
	json_decref(root);
	done(&r);
}

/* ---- a case's way ---------------------------------------------------------------------------- */

Test(files, make_verify_info_check_cut_check)
{
	expect("make --heads 8 --kv-len 70,0,129 --qo-len 2,1,1 --causal --seed 5 --fused "
	       "--pages shared -o made.h5",
	       0, "wrote made.h5: B=3 H=8 q 1..2 kv 0..129 page 64 bf16 causal", NULL);
	expect("verify made.h5", 0, "", NULL);
	expect("verify --strict made.h5", 0, "", NULL);
	struct result info = mla("info made.h5");
	cr_expect(info.code == 0 && *info.out && *info.err == '\0', "%s%s", info.out, info.err);
	done(&info);
	expect("check -k cpu made.h5", 0, "3 passed, 0 failed, 0 skipped", NULL);
	expect("plan made.h5 --sms 3", 0, "batch       3 requests, 4 queries x 8 heads, causal",
	       NULL);
	expect("cut --heads 2-4 --requests 0,2 made.h5 part.h5", 0, "wrote part.h5", NULL);
	expect("verify part.h5", 0, "", NULL);
	expect("check -k online part.h5", 0, "B=2 H=3 q 1..2 kv 70..129", NULL);
	expect("cut --steps 77 made.h5 none.h5", 2, NULL, "there is no step 77");
	expect("check -c 77/0 made.h5", 2, NULL, "no case \"77/0\"");
	expect("check -c 0/0 -k online made.h5", 0, "1 passed", NULL);
	cr_expect(access("none.h5", F_OK) != 0, "a refused cut left a file");
}

/* Two files from the same flags hold the same case: the same verdicts to the last digit. */
Test(files, the_same_flags_give_the_same_case)
{
	json_t *errors[3];
	for (int i = 0; i < 3; i++) {
		char words[128];
		snprintf(words, sizeof(words),
			 "make --heads 4 --kv-len uniform:9-300 --batch 3 "
			 "--seed %d -o same.h5 --force",
			 i < 2 ? 11 : 12);
		expect(words, 0, "wrote", NULL);
		expect("check -k online same.h5 --json same.json", 0, "PASS", NULL);
		json_t *root = load_json("same.json", "mla-check");
		const json_t *c = json_array_get(json_object_get(root, "cases"), 0);
		const json_t *verdict = json_array_get(json_object_get(c, "verdicts"), 0);
		errors[i] = json_incref(json_object_get(verdict, "worst_element"));
		json_decref(root);
	}
	cr_expect(json_equal(errors[0], errors[1]), "same seed, another case");
	cr_expect(!json_equal(errors[0], errors[2]), "another seed, the same case");
	for (int i = 0; i < 3; i++)
		json_decref(errors[i]);
}

/* ---- failures -------------------------------------------------------------------------------- */

/* A file whose reference lse is wrong is the failure that a right program can be shown. */
static void write_wrong_reference(const char *path)
{
	const int32_t qo_len[] = {2}, kv_len[] = {40};
	struct mla_case c = {0};
	const struct generate_spec spec = {.seed = 3,
					   .config = {.struct_size = sizeof(mla_config),
						      .num_heads = 2,
						      .head_dim_ckv = 512,
						      .head_dim_kpe = 64,
						      .page_size = 16,
						      .sm_scale = 0.07},
					   .batch_size = 1,
					   .qo_len = qo_len,
					   .kv_len = kv_len};
	cr_assert(generate_case(&spec, &c) == 0);
	c.lse_ref = case_tensor(&c, MLA_F32, 2, (const int64_t[]){2, 2});
	cr_assert(c.lse_ref.data != NULL);
	for (int i = 0; i < 4; i++)
		((float *)c.lse_ref.data)[i] = 1e4f;
	const struct capture_writing how = {.notes = "a wrong reference", .tool = "test_cli"};
	cr_assert(!put_capture(path, &c, &how), "%s", mla_last_error());
	case_free(&c);
}

/* The command that follows the first "rerun: " of a report. */
static char *rerun_of(const char *report)
{
	const char *begin = strstr(report, "rerun: ");
	cr_assert(begin != NULL, "no rerun line in\n%s", report);
	begin += strlen("rerun: ");
	return strndup(begin, strcspn(begin, "\n"));
}

/* Runs a command that says "mla ..." with the binary under test. */
static struct result rerun(const char *line)
{
	char command[2 * PATH_MAX];
	snprintf(command, sizeof(command), "mla() { '%s' \"$@\"; }; %s", binary(), line);
	return shell(command);
}

Test(files, a_failure_is_1_and_its_rerun_line_shows_it_again)
{
	write_wrong_reference("wrong.h5");
	struct result first = mla("check wrong.h5");
	cr_expect(first.code == 1, "exit code %d\n%s%s", first.code, first.out, first.err);
	cr_expect(strstr(first.out, "FAIL"), "%s", first.out);
	char *line = rerun_of(first.out);
	struct result second = rerun(line);
	cr_expect(second.code == 1, "%s: exit code %d\n%s%s", line, second.code, second.out,
		  second.err);
	cr_expect(strstr(second.out, "FAIL"), "%s", second.out);
	expect("check --suite smoke -k unabsorbed wrong.h5", 1, "\nFAIL lse_ref ", NULL);
	free(line);
	done(&first);
	done(&second);
}

Test(files, rerun_lines_survive_a_shell)
{
	static const char *const names[] = {"plain.h5", "my 'quoted' $file.h5",
					    "-k.h5",    "\x1b[31m '%s\\ \xc2\x9b\xff.h5",
					    "-\n.h5",   "\xc3\xa9 \xe4\xb8\xad.h5"};
	expect("make --heads 2 --kv-len 33 -o made.h5", 0, "wrote", NULL);
	for (int i = 0; i < COUNT(names); i++) {
		cr_assert(link("made.h5", names[i]) == 0);
		const struct report_rerun what = {.subject = "split-k",
						  .case_id = "000/000",
						  .file = names[i],
						  .fixed_split = 32};
		char *line = report_rerun_line(&what);
		struct result r = rerun(line);
		cr_expect(r.code == 0 && strstr(r.out, "1 passed"), "%s: exit code %d\n%s%s", line,
			  r.code, r.out, r.err);
		free(line);
		done(&r);
	}
	const struct report_rerun generated = {.subject = "online", .case_id = "random:4.1"};
	char *line = report_rerun_line(&generated);
	cr_expect_str_eq(line, "mla check -k online -c random:4.1");
	struct result r = rerun(line);
	cr_expect(r.code == 0 && strstr(r.out, "1 passed"), "%s%s", r.out, r.err);
	free(line);
	done(&r);
	const struct report_rerun emulated = {
		.subject = "07_ldmatrix", .case_id = "random:4.1", .graph = true, .seed = "12"};
	line = report_rerun_line(&emulated);
	cr_expect_str_eq(line, "mla check --emulate=12 -k 07_ldmatrix -c random:4.1 --graph");
	free(line);
}

static char *print_table(const struct report_table *table)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	cr_assert(out != NULL);
	report_table_print(table, out);
	fclose(out);
	return text;
}

Test(report, a_row_sums_verdicts_up_and_tells_failures)
{
	struct check_verdict pass = {.outcome = CHECK_PASS, .worst_element = 0.25};
	struct check_verdict fail = {
		.outcome = CHECK_FAIL, .worst_element = NAN, .num_wrong = 1, .low_power = true};
	struct check_verdict skip = {.outcome = CHECK_SKIP};
	snprintf(fail.why, sizeof(fail.why), "request 5 head 17 d 3: got 0.113, want 0.481");
	snprintf(skip.why, sizeof(skip.why), "needs page_size 64");
	struct tally tally = {0};
	struct report_table *table = tally_table_new();
	tally_add(&tally, &pass, "000/001", text_format("mla check a"));
	tally_add(&tally, &skip, "000/002", text_format("mla check b"));
	for (int i = 0; i < TALLY_NOTES + 2; i++)
		tally_add(&tally, &fail, "000/003", text_format("mla check again"));
	tally_add(&tally, &pass, "000/004", text_format("mla check c"));
	cr_expect(tally_outcome(&tally) == CHECK_FAIL);
	tally_row(table, "02_splitk", NULL, &tally);
	char *text = print_table(table);
	static const char *const parts[] = {"02_splitk  FAIL",
					    "7/8",
					    "nan",
					    "low 5/7",
					    "000/003: request 5 head 17 d 3: got 0.113",
					    "rerun: mla check again\n",
					    "and 2 more failures",
					    "needs page_size 64"};
	for (int i = 0; i < COUNT(parts); i++)
		cr_expect(strstr(text, parts[i]), "no \"%s\" in\n%s", parts[i], text);
	cr_expect(!strstr(text, "mla check a\n"), "a pass has a rerun line:\n%s", text);
	free(text);
	report_table_free(table);
	tally_free(&tally);
}

/* Errors of 0 would look like a perfect result. */
Test(report, a_run_that_ended_in_an_error_shows_no_numbers)
{
	const struct check_verdict error = {.outcome = CHECK_FAIL, .why = "an illegal address"};
	struct tally tally = {0};
	struct report_table *table = tally_table_new();
	tally_add(&tally, &error, "000/000", text_format("mla check"));
	tally_row(table, "01_naive", NULL, &tally);
	char *text = print_table(table);
	cr_expect(strstr(text, "FAIL") && strstr(text, "an illegal address"), "%s", text);
	cr_expect(!strstr(text, "0.00"), "%s", text);
	free(text);
	report_table_free(table);
	tally_free(&tally);
}

Test(report, columns_align)
{
	static const char *const titles[] = {"name", ">number", "last"};
	struct report_table *table = report_table_new(titles, 3);
	static const char *const cells[] = {"a", "1", "x", "longer", "12345678", "y"};
	for (int i = 0; i < COUNT(cells); i++)
		report_cell(table, "%s", cells[i]);
	char *text = print_table(table);
	cr_expect_str_eq(text, "name      number  last\n"
			       "a              1  x\n"
			       "longer  12345678  y\n");
	free(text);
	report_table_free(table);
}

Test(report, times_and_ratios_are_readable)
{
	char text[32];
	cr_expect_str_eq(report_time(0.5, text, sizeof(text)), "0.50 us");
	cr_expect_str_eq(report_time(812, text, sizeof(text)), "812 us");
	cr_expect_str_eq(report_time(12345, text, sizeof(text)), "12.3 ms");
	cr_expect_str_eq(report_time(4.56e6, text, sizeof(text)), "4.56 s");
	cr_expect_str_eq(report_ratio(0.424, text, sizeof(text)), "0.42");
	cr_expect_str_eq(report_ratio(0, text, sizeof(text)), "0.00");
	cr_expect_str_eq(report_ratio(0.0004, text, sizeof(text)), "4e-04");
	cr_expect_str_eq(report_ratio(131072, text, sizeof(text)), "1.3e+05");
	cr_expect(strstr(report_ratio(NAN, text, sizeof(text)), "nan"));
}

Test(report, json_keeps_what_json_cannot_say)
{
	const struct {
		double value;
		const char *text;
	} cases[] = {
		{NAN, "\"nan\""}, {INFINITY, "\"inf\""}, {-INFINITY, "\"-inf\""}, {0.5, "0.5"}};
	for (int i = 0; i < COUNT(cases); i++) {
		json_t *number = report_json_number(cases[i].value);
		char *text = json_dumps(number, JSON_ENCODE_ANY);
		cr_expect_str_eq(text, cases[i].text);
		free(text);
		json_decref(number);
	}
	json_t *name = report_json_string("caf\xe9.h5");
	cr_expect_str_eq(json_string_value(name), "caf\\xe9.h5");
	json_decref(name);
}

Test(cli, similar_names)
{
	static const char *const names[] = {"check", "cut", "bench"};
	cr_expect_str_eq(cli_similar("bensh", names, 3), "bench");
	cr_expect_str_eq(cli_similar("ct", names, 3), "cut");
	cr_expect(cli_similar("frobnicate", names, 3) == NULL);
	cr_expect(cli_similar("", names, 1) == NULL);
}

Test(cli, unknown_words)
{
	static const char *const names[] = {"check", "cut", "bench"};
	cr_expect(cli_unknown("no verb", "bensh", names, 3, "ask") == MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "no verb \"bensh\"; did you mean \"bench\"? ask");
	cr_expect(cli_unknown("no verb", "frobnicate", names, 3, "ask") == MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "no verb \"frobnicate\"; ask");
}

Test(cli, a_status_is_an_exit_code)
{
	static const struct {
		mla_status status;
		int code;
	} cases[] = {
		{MLA_INVALID, CLI_USAGE},    {MLA_REFUSED, CLI_SKIPPED}, {MLA_CAPACITY, CLI_FAILED},
		{MLA_NO_MEMORY, CLI_FAILED}, {MLA_CUDA, CLI_FAILED},     {MLA_NO_CUDA, CLI_SKIPPED},
	};
	cr_redirect_stderr();
	for (int i = 0; i < COUNT(cases); i++) {
		const mla_status status = mla_fail(cases[i].status, "sentence %d", i);
		cr_expect(cli_fail("mla test", status) == cases[i].code, "%s",
			  mla_status_name(status));
	}
	mla_fail(MLA_NO_MEMORY, "x.h5: not there");
	cr_expect(cli_fail_file("mla") == CLI_BAD_FILE);
	fflush(stderr);
	cr_expect_stderr_eq_str("mla test: sentence 0\nmla test: sentence 1\nmla test: sentence 2\n"
				"mla test: sentence 3\nmla test: sentence 4\nmla test: sentence 5\n"
				"mla: x.h5: not there\n");
}

/* ---- other programs -------------------------------------------------------------------------- */

Test(process, how_a_program_ended)
{
	static const struct {
		const char *script;
		int code;
	} cases[] = {{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 128 + 9}};
	for (int i = 0; i < COUNT(cases); i++) {
		const char *words[] = {"sh", "-c", cases[i].script, NULL};
		int code = -1;
		cr_expect(!process_run(words, false, &code) && code == cases[i].code, "%s: %d",
			  cases[i].script, code);
	}
}

Test(process, quiet_says_nothing)
{
	const char *words[] = {"sh", "-c", "echo out; echo err >&2", NULL};
	int code;
	cr_redirect_stdout();
	cr_redirect_stderr();
	cr_expect(!process_run(words, true, &code) && code == 0);
	cr_expect(!process_run(words, false, &code) && code == 0);
	cr_expect_stdout_eq_str("out\n");
	cr_expect_stderr_eq_str("err\n");
}

Test(process, one_that_is_not_there)
{
	const char *words[] = {"/no/such/program", NULL};
	int code = -1;
	cr_expect(!process_exists(words[0]) && process_exists("sh"));
	cr_expect(process_run(words, false, &code) == MLA_REFUSED && code == -1);
	cr_expect_str_eq(mla_last_error(),
			 "/no/such/program cannot be started: No such file or directory");
}

/* ---- cases ----------------------------------------------------------------------------------- */

Test(cli, case_patterns)
{
	cr_expect(cli_id_matches("001/005", NULL));
	cr_expect(cli_id_matches("001/005", "001/005"));
	cr_expect(cli_id_matches("001/005", "1/5"));
	cr_expect(cli_id_matches("001/005", "*/005"));
	cr_expect(!cli_id_matches("001/005", "1/50"));
	cr_expect(!cli_id_matches("001/005", "1/5x"));
	cr_expect(!cli_id_matches("random:1.5", "random:1.50"));
}

/* ---- terminals ------------------------------------------------------------------------------- */

/* Some containers have no pseudo-terminals. */
static bool has_terminals(void)
{
	const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
	const bool usable = terminal >= 0 && grantpt(terminal) == 0 && ptsname(terminal) &&
			    access(ptsname(terminal), R_OK | W_OK) == 0;

	if (terminal >= 0)
		close(terminal);
	return usable;
}

/* What the program writes to a terminal. */
static char *on_terminal(char *const *arguments, bool no_color)
{
	char *text = calloc(1, 65536);
	size_t used = 0;
	int terminal, status;
	const char *file = binary();
	const pid_t child = forkpty(&terminal, NULL, NULL, NULL);
	cr_assert(child >= 0 && text);
	if (child == 0) {
		setenv("TERM", "xterm", 1);
		(no_color ? setenv("NO_COLOR", "1", 1) : unsetenv("NO_COLOR"));
		execv(file, arguments);
		_exit(127);
	}
	for (ssize_t n; used < 65535 && (n = read(terminal, text + used, 65535 - used)) > 0;)
		used += (size_t)n;
	close(terminal);
	cr_assert(waitpid(child, &status, 0) == child && status == 0);
	return text;
}

Test(cli, colour_and_progress_on_terminals_only)
{
	char *const arguments[] = {"mla", "check", "--random", "1", "-k", "cpu", NULL};

	if (!has_terminals())
		cr_skip_test("no pseudo-terminals here");

	char *colour = on_terminal(arguments, false), *plain = on_terminal(arguments, true);
	cr_expect(strstr(colour, "\033[32mPASS"), "no colour in\n%s", colour);
	cr_expect(strstr(colour, "\r\033[K"), "no progress in\n%s", colour);
	cr_expect(!strstr(plain, "\033[32m"), "NO_COLOR is ignored:\n%s", plain);
	cr_expect(strstr(plain, "PASS"));
	free(colour);
	free(plain);
	struct result r = mla("check --random 1 -k cpu");
	cr_expect(!strchr(r.out, '\033') && *r.err == '\0', "escapes in a pipe:\n%s%s", r.out,
		  r.err);
	done(&r);
}
