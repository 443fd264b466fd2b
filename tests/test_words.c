/* test_words.c - what comes from outside: words, numbers and lists of a command line, names in
 * files, files that are none, shapes that are too large; and how it is shown.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/input.h"
#include "base/memory.h"
#include "base/text.h"
#include "case/generate.h"
#include "case/size.h"
#include "cli_fixture.h"
#include "lib/error.h"
#include "lib/plain.h"
#include "output_fixture.h"
#include "report/json.h"
#include "report/table.h"

/* cppcheck-suppress unknownMacro */
TestSuite(words, .init = enter, .fini = leave);

/* Words as they are, blanks and all; the last is NULL. */
static struct result run(const char *const *words)
{
	struct result result;
	char *argv[MAX_ARGS] = {"mla"};
	int n = 1;
	for (; *words; words++) {
		cr_assert(n < MAX_ARGS - 1);
		argv[n++] = (char *)*words;
	}
	spawn(binary(), argv, &result);
	return result;
}

/* ---- text that is plain ---------------------------------------------------------------------- */

Test(plain, what_steers_a_terminal_is_escaped)
{
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{"", ""},
		{"plain \\ 'text' ~", "plain \\ 'text' ~"},
		{"\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80",
		 "\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"},
		{"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", /* an emoji made of two */
		 "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb"},
		{"a\033[31m", "a\\x1b[31m"},
		{"a\nb\tc\rd\x7f", "a\\x0ab\\x09c\\x0dd\\x7f"},
		{"\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "\\u0080\\u009b\\u009f\xc2\xa0"},
		{"\xe2\x80\xae\xe2\x81\xa6\xe2\x80\x8f\xd8\x9c", "\\u202e\\u2066\\u200f\\u061c"},
		{"\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xe2\x80\x8b",
		 "\\u2028\\u2029\\ufeff\\u200b"},
		{"\xf3\xa0\x80\x81\xef\xbf\xbf", "\\U000e0001\\uffff"},
		{"\x9b\xff\xfe", "\\x9b\\xff\\xfe"},
		{"\xc0\x9b", "\\xc0\\x9b"}, /* longer than need be */
		{"\xe0\x82\x9b", "\\xe0\\x82\\x9b"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* a surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
		{"\xe4\xb8", "\\xe4\\xb8"}, /* its end is missing */
		{"\xe4\xb8\x1b", "\\xe4\\xb8\\x1b"},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		char *shown = text_shown(cases[i].text);
		const bool plain = !strcmp(cases[i].text, cases[i].shown);
		cr_expect_str_eq(shown, cases[i].shown);
		cr_expect(text_is_plain(cases[i].text, NULL) == plain, "%s", shown);
		cr_expect(text_is_plain(shown, NULL), "%s", shown);
		free(shown);
	}
}

Test(plain, the_first_byte_that_is_not)
{
	size_t at = 99;
	cr_expect(text_is_plain("caf\xc3\xa9", &at) && at == 99, "%zu", at);
	cr_expect(!text_is_plain("caf\xc3\xa9\xc2\x9b.", &at) && at == 5, "%zu", at);
	cr_expect(!text_is_plain("\xc3", &at) && at == 0, "%zu", at);
}

/* No character and no escape is cut, and that something is missing is said. */
Test(plain, a_cut_is_between_characters)
{
	static const char text[] = "a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\033\xc2\x9b\xe2\x80\xae";
	char *whole = text_shown(text);
	const size_t length = strlen(whole);
	for (size_t size = 1; size <= length + 2; size++) {
		char out[64];
		memset(out, 'X', sizeof(out));
		plain_copy(out, size, text);
		cr_assert(strlen(out) < size);
		cr_expect(out[size] == 'X', "%zu: wrote behind its end", size);
		cr_expect(text_is_plain(out, NULL), "%zu: %s", size, out);
		if (size > length)
			cr_expect_str_eq(out, whole);
		else
			cr_expect(!strcmp(out + strlen(out) - (size > 3 ? 3 : size - 1),
					  &"..."[size > 3 ? 0 : 4 - size]),
				  "%zu: %s", size, out);
	}
	free(whole);
}

Test(plain, sentences_are)
{
	char text[2 * ERROR_SIZE] = "";
	for (int i = 0; i < ERROR_SIZE / 2; i++)
		strcat(text, "\xc3\xa9");
	for (int shift = 0; shift < 4; shift++) {
		mla_fail(MLA_INVALID, "%.*s%s", shift, "abc", text);
		cr_expect(text_is_plain(mla_last_error(), NULL), "%s", mla_last_error());
		cr_expect(strlen(mla_last_error()) > ERROR_SIZE - 6);
	}
	mla_fail(MLA_INVALID, "file \"%s\"", "\033]0;x\a\n\xc2\x9b");
	cr_expect_str_eq(mla_last_error(), "file \"\\x1b]0;x\\x07\\x0a\\u009b\"");
	mla_fail(MLA_INVALID, "again: %s", mla_last_error());
	cr_expect_str_eq(mla_last_error(), "again: file \"\\x1b]0;x\\x07\\x0a\\u009b\"");
}

static char *printed(const char *format, const char *word)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	cr_assert(out != NULL);
	text_print(out, format, word);
	fclose(out);
	return text;
}

Test(plain, printing_keeps_the_formats_last_newline_alone)
{
	static const struct {
		const char *format, *word, *text;
	} cases[] = {{"%s\n", "a", "a\n"},
		     {"%s", "a\n", "a\\x0a"},
		     {"%s\n", "a\n", "a\\x0a\n"},
		     {"<%s>\n", "\033", "<\\x1b>\n"},
		     {"%s", "", ""}};
	for (int i = 0; i < COUNT(cases); i++) {
		char *text = printed(cases[i].format, cases[i].word);
		cr_expect_str_eq(text, cases[i].text);
		free(text);
	}
}

/* ---- what the program shows of words and names ----------------------------------------------- */

/* ESC, CSI as C1, a line of its own, right to left, a byte that is no UTF-8. */
#define HOSTILE                                                                                    \
	"x\033[31m\xc2\x9b"                                                                        \
	"31m\nmla: fine\xe2\x80\xae\xff"

/* Nothing of it reaches the terminal, in either stream. */
static void expect_plain(const struct result *r, const char *what)
{
	const char *streams[] = {r->out, r->err};
	for (int i = 0; i < 2; i++) {
		cr_expect(!strstr(streams[i], "\nmla: fine"), "%s: a line was made up", what);
		char *copy = strdup(streams[i]);
		size_t at = 0;
		for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n"))
			cr_expect(text_is_plain(line, &at), "%s: byte 0x%02x in \"%.40s\"", what,
				  (unsigned char)line[at], line);
		free(copy);
	}
}

/* The word in every place that takes one: each verb gives it back in a sentence. */
Test(words, hostile_words_are_shown)
{
	static const char *const lines[][8] = {
		{HOSTILE},
		{"--" HOSTILE},
		{"--zz=" HOSTILE},
		{"-" HOSTILE},
		{"info", HOSTILE},
		{"info", "--" HOSTILE},
		{"info", "-v\033"},
		{"verify", HOSTILE},
		{"verify", "--s\033"},
		{"make", HOSTILE},
		{"make", "-o", HOSTILE "/x.h5", "--heads", "1", "--kv-len", "1"},
		{"make", "-o", "x.h5", "--heads", HOSTILE},
		{"make", "-o", "x.h5", "--kv-len", HOSTILE},
		{"make", "-o", "x.h5", "--kv-len", "uniform:" HOSTILE},
		{"make", "-o", "x.h5", "--kv-len", "1," HOSTILE},
		{"make", "-o", "x.h5", "--scale", HOSTILE},
		{"make", "-o", "x.h5", "--dtype", HOSTILE},
		{"make", "-o", "x.h5", "--" HOSTILE},
		{"make", "-o", "x.h5", "--heads=4", "--he" HOSTILE},
		{"cut", HOSTILE, "y.h5"},
		{"cut", "a", "b", HOSTILE},
		{"plan", "-k", HOSTILE},
		{"plan", "--merge", HOSTILE},
		{"plan", "-c", HOSTILE, HOSTILE},
		{"check", "-k", HOSTILE, "--random", "1"},
		{"check", "-c", HOSTILE, "--random", "1"},
		{"check", "--suite", HOSTILE},
		{"check", HOSTILE},
		{"check", "--random", "1", "-k", "cpu", "--json", HOSTILE "/x"},
		{"bench", HOSTILE},
		{"bench", "--cells", HOSTILE},
		{"bench", "--cells", "b1_9_h1", "-k", HOSTILE},
		{"bench", "--mode", HOSTILE},
		{"bench", "--suite", "smoke", "-k", "online", "--csv", HOSTILE "/x"},
		{"compare", HOSTILE, HOSTILE},
		{"compare", "--threshold", HOSTILE, "a", "b"},
		{"compare", "--implementation", "=" HOSTILE, "a", "b"},
		{"cases", HOSTILE},
		{"cases", "--gpu", HOSTILE},
		{"cases", "-c", HOSTILE},
		{"ceilings", HOSTILE},
		{"ceilings", "--time", HOSTILE},
		{"plot", HOSTILE, HOSTILE},
		{"plot", "--kind", HOSTILE},
		{"profile", "-k", HOSTILE, "--heads", "1"},
		{"list", HOSTILE},
	};
	for (int i = 0; i < COUNT(lines); i++) {
		struct result r = run(lines[i]);
		char what[64];
		snprintf(what, sizeof(what), "line %d, mla %.8s", i, lines[i][0]);
		cr_expect(r.code < 128, "%s: exit code %d", what, r.code);
		expect_plain(&r, what);
		done(&r);
	}
}

/* Known options with hostile values, and files of such names, work as ever. */
Test(words, hostile_names_of_files_are_names)
{
	static const char *const make[] = {"make",     "-o" HOSTILE, "--heads", "1",
					   "--kv-len", "3",          NULL};
	static const char *const info[] = {"info", HOSTILE, NULL};
	static const char *const check[] = {"check",    "-k",    "online", "--json",
					    "out.json", HOSTILE, NULL};
	static const char *const cases[] = {"cases", "--json", HOSTILE, NULL};
	static const char *const *const lines[] = {make, info, check, cases};
	for (int i = 0; i < COUNT(lines); i++) {
		struct result r = run(lines[i]);
		cr_expect(r.code == 0, "mla %s: exit code %d\n%s", lines[i][0], r.code, r.err);
		expect_plain(&r, lines[i][0]);
		cr_expect(strstr(r.out, "x\\x1b[31m") || strstr(r.out, "x\\\\x1b[31m"),
			  "mla %s does not show the name: %s", lines[i][0], r.out);
		done(&r);
	}
	json_error_t error;
	json_t *json = json_load_file("out.json", 0, &error);
	cr_expect(json != NULL, "%s", error.text);
	json_decref(json);
}

Test(words, a_program_by_another_name)
{
	struct result r;
	char *argv[] = {HOSTILE, "--zz", NULL};
	spawn(binary(), argv, &r);
	cr_expect(r.code == 2 && !strncmp(r.err, "mla: unrecognized option", 24), "%s", r.err);
	expect_plain(&r, "argv[0]");
	done(&r);
}

/* Neither read nor written: tests/test_capture_damage.c has files of other writers. */
Test(words, hostile_attributes_are_refused)
{
	struct mla_case c;
	const int32_t one[] = {1};
	const struct generate_spec spec = {.config = {.struct_size = sizeof(mla_config),
						      .num_heads = 1,
						      .head_dim_ckv = 8,
						      .head_dim_kpe = 4,
						      .page_size = 2,
						      .sm_scale = 1},
					   .batch_size = 1,
					   .qo_len = one,
					   .kv_len = one};
	cr_assert(!generate_case(&spec, &c));
	const struct capture_writing how = {.notes = "n\xc2\x9b\xe2\x80\xae\xff", .tool = "test"};
	cr_expect_eq(put_capture("notes.h5", &c, &how), MLA_INVALID);
	cr_expect(!strcmp(mla_last_error(),
			  "notes.h5: attribute /@notes has byte 0xc2 at 1, expected "
			  "UTF-8 without control characters, padded with zeros"),
		  "%s", mla_last_error());
	case_free(&c);
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

#define SCHEMA "\"schema\": \"mla-results\", \"schema_version\": 1, "
#define NAME   "x\\u001b[31m\\u009b\\u202e\\nmla: fine"

static void write_results(const char *path, const char *gpu, const char *name)
{
	char *text = text_format(
		"{" SCHEMA
		"\"environment\": {\"gpu\": \"%s\"}, \"measurements\": [{\"case\": {\"name\": "
		"\"%s\", \"flop\": 1, \"bytes\": 1, \"dtype\": \"%s\"}, \"implementation\": "
		"\"%s\", "
		"\"status\": \"PASS\", \"why\": \"%s\", \"timings\": [{\"mode\": \"%s\", "
		"\"cache\": "
		"\"%s\", \"samples_us\": [1, 2, 3]}]}]}",
		gpu, name, name, name, name, name, name);
	write_text(path, text);
	free(text);
}

Test(words, hostile_names_in_results_are_shown)
{
	static const char *const lines[] = {
		"compare a.json b.json", "compare a.json c.json",
		"compare a.json d.json", "compare a.json b.json --implementation nix",
		"cases a.json",          "cases --json a.json"};
	write_results("a.json", NAME, NAME);
	write_results("b.json", NAME, NAME);
	write_results("c.json", NAME, "other" NAME);
	write_results("d.json", "other" NAME, NAME);
	for (int i = 0; i < COUNT(lines); i++) {
		struct result r = mla(lines[i]);
		cr_expect(r.code <= 3, "mla %s: exit code %d", lines[i], r.code);
		expect_plain(&r, lines[i]);
		if (!strstr(lines[i], "c.json")) /* of what has no partner the number may do */
			cr_expect(strstr(r.out, "31m") || strstr(r.err, "31m"),
				  "mla %s shows no name", lines[i]);
		done(&r);
	}
}

Test(words, csv_and_shell_words_are_shown)
{
	char *word = report_shell_word("a'\xc2\x9b\n");
	cr_expect_str_eq(word, "\"$(printf 'a\\047\\302\\233\\012')\"");
	free(word);
	struct result r;
	char *argv[] = {"mla", "make", "-o", "a\xc2\x9b.h5", "--heads", "1", "--kv-len", "3", NULL};
	spawn(binary(), argv, &r);
	cr_assert(r.code == 0, "%s", r.err);
	done(&r);
	char *bench[] = {"mla",  "bench", "-k",    "online",       "--time",
			 "0.01", "--csv", "t.csv", "a\xc2\x9b.h5", NULL};
	spawn(binary(), bench, &r);
	cr_expect(r.code == 0, "%s", r.err);
	done(&r);
	FILE *file = fopen("t.csv", "r");
	cr_assert(file != NULL);
	char *text = slurp(file);
	fclose(file);
	cr_expect(strstr(text, "a\\u009b.h5:000/000"), "%s", text);
	free(text);
}

/* ---- numbers and lists ----------------------------------------------------------------------- */

static const char *const shape_options[] = {"--batch",  "--heads",     "--qo-len",  "--kv-len",
					    "--q-pos0", "--page-size", "--ckv-dim", "--kpe-dim",
					    "--scale",  "--seed"};

static bool is_of_shape(const char *option)
{
	for (int i = 0; i < COUNT(shape_options); i++)
		if (!strcmp(option, shape_options[i]))
			return true;
	return false;
}

/* Calls back with each option of the verb whose value is a number or a list of them, as its --help
 * has it, and whether they are whole. How many there were. */
static int each_number(const char *verb, bool shape, void (*with)(const char *, const char *, bool))
{
	static const char *const kinds[] = {"N", "LIST", "BYTES", "X", "SECONDS", "PERCENT"};
	char words[32], *save = NULL;
	int count = 0;
	snprintf(words, sizeof(words), "%s --help", verb);
	struct result help = mla(words);
	for (char *line = strtok_r(help.out, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char option[32], kind[32];
		const char *begin = strstr(line, "--");
		if (!begin || strspn(line, " -,ABCcko=TSNEMLI") + line < begin ||
		    sscanf(begin, "%31[a-z0-9-]=%31[A-Z=]", option, kind) != 2)
			continue;
		for (int k = 0; k < COUNT(kinds); k++)
			if (!strcmp(kind, kinds[k]) && is_of_shape(option) == shape) {
				with(verb, option, k < 3);
				count++;
			}
	}
	done(&help);
	return count;
}

static const char *const number_verbs[] = {"plan",    "check",    "bench", "profile",
					   "compare", "ceilings", "cut",   "cases"};

/* No number, whatever the option: 2, and the words as they were given. */
static void expect_refused(const char *verb, const char *option, bool whole)
{
	static const char *const values[] = {
		"", "5x", "1e400", "+5", "0x10", "nan", "9223372036854775808"};
/* The sanitizers have little to say of what is refused. */
#ifdef __SANITIZE_ADDRESS__
	enum { STEP = 3 };
#else
	enum { STEP = 1 };
#endif
	for (int i = 0; i < COUNT(values) - !whole; i += STEP) {
		const char *const words[] = {verb, option, values[i], NULL};
		struct result r = run(words);
		cr_expect(r.code == 2, "mla %s %s '%s': exit code %d\n%s", verb, option, values[i],
			  r.code, r.err);
		cr_expect(strstr(r.err, option) && strstr(r.err, values[i]), "mla %s %s '%s': %s",
			  verb, option, values[i], r.err);
		done(&r);
	}
}

Test(words, no_option_takes_what_is_no_number, .timeout = 100)
{
	int count = each_number("make", true, expect_refused);
	cr_expect(count == COUNT(shape_options), "%d options of a shape", count);
	for (int i = 0; i < COUNT(number_verbs); i++)
		count += each_number(number_verbs[i], false, expect_refused);
	cr_expect(count > 35, "%d options: is the help still read?", count);
}

/* The limits of int and long, and what lies beside them: taken or refused, and nothing overflows.
 */
static void expect_survived(const char *verb, const char *option, bool whole)
{
	static const char *const values[] = {"2147483647", "-2147483648", "9223372036854775807",
					     "2147483646,2147483647", "0-2147483647"};
	const bool cuts = !strcmp(verb, "cut");
	(void)whole;
	for (int i = 0; i < COUNT(values); i++) {
		const char *const words[] = {verb, option, values[i], "in.h5", cuts ? "o.h5" : NULL,
					     NULL};
		const char *const shape[] = {verb,          "-o",   "x.h5",    "--causal",
					     "--kpe-dim=0", option, values[i], NULL};
		struct result r = run(is_of_shape(option) ? shape : words);
		cr_expect(r.code == 0 || r.code == 2 || r.code == 3,
			  "mla %s %s %s: exit code %d\n%s", verb, option, values[i], r.code, r.err);
		cr_expect(!strstr(r.err, "runtime error"), "mla %s %s %s: %s", verb, option,
			  values[i], r.err);
		done(&r);
	}
}

Test(words, no_number_overflows, .timeout = 100)
{
	static const char *const verbs[] = {"plan", "cut"};
	expect("make -o in.h5 --heads 2 --kv-len 5,3 --page-size 2 --ckv-dim 8 --kpe-dim 4", 0,
	       "wrote", NULL);
	each_number("make", true, expect_survived);
	for (int i = 0; i < COUNT(verbs); i++)
		each_number(verbs[i], false, expect_survived);
	expect("cut --heads 2147483647 in.h5 o.h5", 2, NULL, "2147483647 is out of range");
	expect("cut --heads 2147483646 in.h5 o.h5", 3, NULL, "heads 2147483646 to 2147483646");
	expect("check -k online --rows 9223372036854775807 in.h5", 0, "1 passed", NULL);
	expect("check -k online --fixed-split 1073741824 in.h5", 0, "1 passed", NULL);
	expect("cut --steps 0-1000000 in.h5 o.h5", 2, NULL, "1000001 steps are chosen");
	expect("cut --requests 0-2147483645 in.h5 o.h5", 2, NULL,
	       "with 0-2147483645 there are 2147483646 numbers, expected at most 1048576");
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A list of a million numbers, by words and by ranges, in a time that says it is read once. */
Test(words, lists_are_read_in_linear_time, .timeout = 100)
{
	enum { NUMBERS = 60000, LISTS = 16 };
	char *argv[2 * LISTS + 8] = {"mla", "cut"}, *list = malloc(2 * NUMBERS + 2);
	int n = 2;
	for (int i = 0; i < NUMBERS; i++)
		memcpy(list + 2 * i, "1,", 3);
	list[2 * NUMBERS - 1] = '\0';
	for (int i = 0; i < LISTS; i++) {
		argv[n++] = "--requests";
		argv[n++] = list;
	}
	argv[n++] = "in.h5";
	argv[n++] = "o.h5";
	expect("make -o in.h5 --heads 1 --batch 1000 --kv-len 1 --ckv-dim 8 --kpe-dim 4 "
	       "--page-size 1",
	       0, "wrote", NULL);
	const double begin = seconds();
	struct result r;
	spawn(binary(), argv, &r);
	cr_expect(r.code == 3 && strstr(r.err, "request with index 1 is chosen twice"), "%d %s",
		  r.code, r.err);
	cr_expect(seconds() - begin < 5, "%d numbers took %.1f s", LISTS * NUMBERS,
		  seconds() - begin);
	done(&r);
	free(list);
}

/* What of a list has no room in the file is counted there. */
Test(words, a_part_says_what_it_is_of)
{
	char list[4096] = "", words[8192];
	expect("make -o in.h5 --heads 1 --batch 1000 --kv-len 1 --ckv-dim 8 --kpe-dim 4 "
	       "--page-size 1",
	       0, "wrote", NULL);
	expect("cut --requests 0-9,20,30-999 in.h5 few.h5", 0, "wrote", NULL);
	expect("info few.h5", 0, ", requests 0-9,20,30-999\n", NULL);
	for (int i = 0; i < 1000; i += 2)
		sprintf(list + strlen(list), "%s%d", i ? "," : "", i);
	snprintf(words, sizeof(words), "cut --requests %s in.h5 many.h5", list);
	expect(words, 0, "wrote", NULL);
	expect("info many.h5", 0, " more\n", NULL);
	expect("verify --strict many.h5", 0, "good", NULL);
}

/* ---- sums of options --------------------------------------------------------------------------
 */

Test(sizes, sums_do_not_overflow)
{
	cr_expect(memory_sum(3, 4) == 7 && memory_product(3, 4) == 12);
	cr_expect(memory_sum(INT64_MAX, 1) == INT64_MAX);
	cr_expect(memory_product(INT64_MAX, 2) == INT64_MAX && memory_product(INT64_MAX, 0) == 0);
	const int64_t extent[] = {1 << 30, 1 << 30, 1 << 30};
	cr_expect(case_tensor_bytes(MLA_F32, 3, extent) == INT64_MAX);
	cr_expect(case_tensor_bytes(MLA_BF16, 1, extent) == (int64_t)1 << 31);
}

Test(sizes, memory_is_asked_for)
{
	const int64_t most = memory_most();
	cr_expect(most > 1 << 20 && !memory_ask(most, "it"));
	cr_expect(memory_ask(INT64_MAX, "the case") == MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "the case needs more than 9223372036854775807 bytes"),
		  "%s", mla_last_error());
}

Test(words, shapes_are_counted_before_they_are_made, .timeout = 100)
{
#define TINY "--heads 1 --ckv-dim 8 --kpe-dim 4 --page-size 2 "
	static const struct {
		const char *shape, *sentence;
		bool planned; /* lengths alone can be planned */
	} cases[] = {
		{TINY "--kv-len 5,3,2,1 --qo-len 1073741824",
		 "more queries or pages than 32 bits count: 4294967296 queries, 7 pages", false},
		{TINY "--kv-len 5,3 --qo-len 1073741824", "2147483648 queries", false},
		{TINY "--kv-len 5 --qo-len 1073741824", "is 1073741824, expected at most", false},
		{"--heads 65536 --qo-len 65536 --kv-len 1", "packed rows exceed 2^31 - 1", false},
		{"--kv-len 1073741824,1073741824 --page-size 1", "2147483648 pages", false},
		{"--kv-len 1073741824,1073741823 --page-size 1", "the cache has 2415919102 pages",
		 true},
		{"--kv-len 1 --page-size 1048576 --ckv-dim 65536 --batch 1000", "of memory", true},
		{"--kv-len 1073741824 --page-size 1048576 --batch 1048576 --ckv-dim 65536 --dtype "
		 "f32",
		 "", false},
	};
	static const char *const verbs[] = {"make -o x.h5", "bench -k online --time 0.01",
					    "profile -k 01", "plan"};
	for (int i = 0; i < COUNT(cases); i++)
		for (int v = 0; v < COUNT(verbs); v++) {
			char words[256];
			if (cases[i].planned && !strcmp(verbs[v], "plan"))
				continue;
			snprintf(words, sizeof(words), "%s %s", verbs[v], cases[i].shape);
			expect(words, 2, NULL, cases[i].sentence);
		}
	expect("cases --cells b65536_1000_h65536_q65536", 2, NULL, "4294967296 queries");
	expect("cases --cells b65536_1000_h65536", 2, NULL, "packed rows");
	cr_expect(access("x.h5", F_OK) != 0);
}

/* ---- files that are none -----------------------------------------------------------------------
 */

static void make_files(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	const int s = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert(!mkfifo("pipe", 0600) && !mkdir("folder", 0700) && !symlink("loop", "loop"));
	cr_assert(s >= 0 && !bind(s, (struct sockaddr *)&address, sizeof(address)) && !close(s));
	write_text("empty", "");
	write_text("text", "no JSON\n");
	FILE *huge = fopen("huge", "w");
	cr_assert(huge && !ftruncate(fileno(huge), (off_t)1 << 40) && !fclose(huge));
	write_results("good.json", "G", "c");
}

/* Each verb, each kind of file that is none: 3 and a sentence at once, whatever it waits for. */
Test(words, what_is_no_regular_file_is_refused, .timeout = 200)
{
	static const char *const verbs[] = {"info %s",
					    "verify %s",
					    "check -k online %s",
					    "plan %s",
					    "bench -k online %s",
					    "profile -k 01 %s",
					    "cases %s",
					    "compare %s good.json",
					    "compare good.json %s",
					    "cut %s o.h5",
					    "cases --gpu G --ceilings %s",
					    "plot -o p.svg %s"};
	static const char *const files[] = {"pipe",      "folder",     "socket", "loop", "absent",
					    "/dev/zero", "/dev/stdin", "empty",  "text", "huge"};
	make_files();
	for (int v = 0; v < COUNT(verbs); v++) {
		const bool drawn = !strncmp(verbs[v], "plot", 4);
		for (int f = 0; f < COUNT(files); f++) {
			char line[128], command[PATH_MAX + 256];
			snprintf(line, sizeof(line), verbs[v], files[f]);
			snprintf(command, sizeof(command), "timeout 20 '%s' %s", binary(), line);
			struct result r = shell(command);
			/* Drawing needs matplotlib, and a script beside the program. */
			cr_expect(r.code == 3 || (drawn && r.code == 77),
				  "mla %s: exit code %d\n%s", line, r.code, r.err);
			cr_expect(strlen(r.err) > 10 || drawn, "mla %s says \"%s\"", line, r.err);
			done(&r);
			if (drawn) /* the others are in test_words.py */
				break;
		}
	}
}

/* Bombs and odd values: a sentence that names the place. */
Test(words, json_is_strict_and_bounded, .timeout = 100)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{"{\"schema\": 1, \"schema\": 2}", "duplicate object key"},
		{"{\"schema\": NaN}", "NaN"},
		{"{\"schema\": -Infinity}", "is no JSON"},
		{"{\"schema\": 1e999}", "overflow"},
		{"{\"schema\": 99999999999999999999}", "too big integer"},
		{"{\"schema\": \"\\u0000\"}", "is no JSON"},
		{"{\"schema\": \"\xff\"}", "unable to decode byte 0xff"},
		{"{" SCHEMA "\"environment\": 3, \"measurements\": []}",
		 "environment is 3, expected an object"},
		{"{" SCHEMA "\"environment\": {\"gpu\": 3}, \"measurements\": []}",
		 "environment.gpu is 3, expected a string"},
		{"{" SCHEMA "\"environment\": {\"clocks\": {\"sm_mhz\": [1, \"x\"]}}, "
		 "\"measurements\": []}",
		 "environment.clocks.sm_mhz is [1,\"x\"], expected an array of numbers"},
		{"{" SCHEMA "\"ceilings\": {\"read_gbs\": \"much\"}, \"measurements\": []}",
		 "ceilings.read_gbs is \"much\", expected a number above 0"},
		{"{" SCHEMA "\"measurements\": [{\"case\": {\"name\": \"c\", \"flop\": -1}}]}",
		 "measurements[0].case.flop is -1, expected a number that is not negative"},
		{"{" SCHEMA "\"measurements\": [{\"case\": {\"name\": \"c\"}, \"timings\": [7]}]}",
		 "measurements[0].timings[0] is 7, expected an object"},
		{"{\"schema\": \"mla-results\", \"schema_version\": 1.5}",
		 "\"schema_version\" is no"},
	};
	for (int i = 0; i < COUNT(cases); i++) {
		write_text("a.json", cases[i].text);
		expect("compare a.json a.json", 3, NULL, cases[i].sentence);
		expect("cases a.json", 3, NULL, cases[i].sentence);
	}

	FILE *file = fopen("deep.json", "w");
	for (int i = 0; i < 100000; i++)
		fputc('[', file);
	fclose(file);
	expect("compare deep.json deep.json", 3, NULL, "maximum parsing depth");
	file = fopen("wide.json", "w");
	fputc('[', file);
	for (int i = 0; i < INPUT_JSON_VALUES; i++)
		fputs("{},", file);
	fclose(file);
	expect("compare wide.json wide.json", 3, NULL, "values, expected at most 4194304");
	file = fopen("many.json", "w");
	fputs("{" SCHEMA "\"measurements\": [{}", file);
	for (int i = 0; i < 5000; i++)
		fputs(",{}", file);
	fputs("]}", file);
	fclose(file);
	expect("cases many.json", 3, NULL, "5001 measurements, expected at most 5000");
}

Test(inputs, a_file_is_opened_without_waiting)
{
	char path[] = "/tmp/mla-input-XXXXXX";
	int descriptor;
	json_t *root;
	cr_assert(mkdtemp(path) != NULL);
	cr_expect(input_open(path, &descriptor) == MLA_INVALID && descriptor == -1);
	cr_expect(strstr(mla_last_error(), "it is a folder, expected a regular file"), "%s",
		  mla_last_error());
	rmdir(path);
	cr_expect(input_json(path, &root) == MLA_INVALID && !root);
	cr_expect(strstr(mla_last_error(), "No such file"), "%s", mla_last_error());
}
