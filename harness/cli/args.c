/* args.c - strict numbers and lists for the verbs.
 */
#define _DEFAULT_SOURCE /* strsep */
#include "cli/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"
#include "lib/error.h"
#include "lib/validate.h"

/* ---- words that are no option ------------------------------------------------------------------
 */

void cli_error(const struct argp_state *state, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	mla_vfail(MLA_INVALID, format, arguments);
	va_end(arguments);
	argp_error(state, "%s", mla_last_error());
	exit(CLI_USAGE); /* not reached: argp_error ends the program */
}

/* How many long options a name is the beginning of, and whether it is one of them. */
struct namesakes {
	int count;
	bool exact;
};

static void find_long(const struct argp *argp, const char *name, size_t length,
		      struct namesakes *found)
{
	for (const struct argp_option *o = argp->options; o && (o->name || o->doc); o++)
		if (o->name && !strncmp(o->name, name, length)) {
			found->count++;
			found->exact |= !o->name[length];
		}
	for (const struct argp_child *child = argp->children; child && child->argp; child++)
		find_long(child->argp, name, length, found);
}

static const struct argp_option *find_short(const struct argp *argp, int key)
{
	const struct argp_option *found = NULL;

	for (const struct argp_option *o = argp->options; o && (o->name || o->doc); o++)
		if (o->key == key)
			return o;
	for (const struct argp_child *child = argp->children; child && child->argp && !found;
	     child++)
		found = find_short(child->argp, key);
	return found;
}

/* Whether argp will know which option is meant, and give nothing of the word back. */
static bool is_option(const struct argp *argp, const char *word)
{
	if (word[1] == '-') {
		struct namesakes found = {0};

		find_long(argp, word + 2, strcspn(word + 2, "="), &found);
		return found.exact || found.count == 1;
	}
	for (const char *letter = word + 1; *letter; letter++) {
		const struct argp_option *option = find_short(argp, (unsigned char)*letter);

		if (!option || option->arg)
			return option;
	}
	return true;
}

/* In the order of the words, and not behind one that only the verb understands. */
void cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (argv[i][0] != '-' && flags & ARGP_IN_ORDER)
			break;
		if (argv[i][0] != '-' || text_is_plain(argv[i], NULL) || is_option(argp, argv[i]))
			continue;
		exit(cli_fail(argv[0], mla_fail(MLA_INVALID,
						"\"%s\" is no option; a file of that name is "
						"given as \"./-...\"",
						argv[i])));
	}
	argp_parse(argp, argc, argv, flags, NULL, input);
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

/* A whole number at *text, which moves behind it, to one of the letters of ends or the text's end.
 */
static long parse_long(struct argp_state *state, const char *option, const char **text,
		       const char *ends, const char *expected, long low, long high)
{
	const bool digits = isdigit((unsigned char)(*text)[**text == '-']);
	char *end;

	errno = 0;

	const long value = strtol(*text, &end, 10);

	if (!digits || (*end && !strchr(ends, *end)))
		cli_error(state, "%s: found \"%s\", expected %s", option, *text, expected);
	if (errno == ERANGE || value < low || value > high)
		cli_error(state, "%s: %.*s is out of range, expected %ld to %ld", option,
			  (int)(end - *text), *text, low, high);
	*text = end;
	return value;
}

long cli_integer(struct argp_state *state, const char *option, const char *text, long low,
		 long high)
{
	return parse_long(state, option, &text, "", "a whole number", low, high);
}

/* What strtod takes, but for hexadecimal figures, the payload of a NaN, and anything in front. */
static double parse_double(struct argp_state *state, const char *option, const char *text)
{
	const bool strange = *text == '+' || isspace((unsigned char)*text) || strpbrk(text, "xX(");
	char *end;

	errno = 0;

	const double value = strtod(text, &end);

	if (end == text || *end || strange)
		cli_error(state, "%s: found \"%s\", expected a number", option, text);
	if (errno == ERANGE && isinf(value))
		cli_error(state, "%s: %s is out of range, it is beyond a double", option, text);
	return value;
}

double cli_positive(struct argp_state *state, const char *option, const char *text)
{
	const double value = parse_double(state, option, text);

	if (!isfinite(value) || !(value > 0))
		cli_error(state, "%s: %s is out of range, expected a finite number above 0", option,
			  text);
	return value;
}

double cli_scale(struct argp_state *state, const char *option, const char *text)
{
	const double value = parse_double(state, option, text);

	if (validate_scale(value, option))
		cli_error(state, "%s", mla_last_error());
	return value;
}

void cli_one_file(struct argp_state *state, const char **file, const char *arg)
{
	if (*file)
		cli_error(state, "one FILE is enough, found \"%s\" too", arg);
	*file = arg;
}

void cli_file_or_shape(struct argp_state *state, const char *file, bool shape_given,
		       const char *pattern)
{
	if (file && shape_given)
		cli_error(state, "a FILE and a shape exclude each other");
	if (pattern && !file)
		cli_error(state, "-c chooses a case of a FILE, which is missing");
}

int cli_choice(struct argp_state *state, const char *option, const char *text,
	       const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(text, names[i]))
			return i;

	char expected[256] = "";

	for (int i = 0; i < n; i++) {
		const size_t used = strlen(expected);

		snprintf(expected + used, sizeof(expected) - used, "%s%s", i ? ", " : "", names[i]);
	}
	cli_error(state, "%s: found \"%s\", expected one of: %s", option, text, expected);
}

#define MAX_LIST (1 << 20)

static void append_range(struct argp_state *state, const char *option, long first, long last,
			 struct cli_ints *list)
{
	if (last < first)
		cli_error(state, "%s: the range %ld-%ld is empty", option, first, last);
	if (last - first >= MAX_LIST - list->count)
		cli_error(state, "%s: with %ld-%ld there are %ld numbers, expected at most %d",
			  option, first, last, list->count + last - first + 1, MAX_LIST);
	for (long value = first; value <= last; value++) {
		list->values =
			text_grow(list->values, list->count, &list->max, sizeof(*list->values));
		list->values[list->count++] = (int)value;
	}
}

void cli_int_list(struct argp_state *state, const char *option, const char *text, long low,
		  long high, struct cli_ints *list)
{
	static const char expected[] = "a list such as 0,2,5 or 0-7";

	for (;;) {
		const long first = parse_long(state, option, &text, ",-", expected, low, high);
		long last = first;

		if (*text == '-') {
			text++;
			last = parse_long(state, option, &text, ",", expected, low, high);
		}
		append_range(state, option, first, last, list);
		if (!*text)
			return;
		text++;
	}
}

void cli_ints_free(struct cli_ints *list)
{
	free(list->values);
	*list = (struct cli_ints){0};
}

void cli_strings_add(struct cli_strings *list, const char *text)
{
	list->values = text_grow(list->values, list->count, &list->max, sizeof(*list->values));
	list->values[list->count++] = text;
}

void cli_strings_split(struct cli_strings *list, const char *text)
{
	char *rest = list->owned = text_format("%s", text);

	for (char *word; (word = strsep(&rest, ","));)
		cli_strings_add(list, word);
}

void cli_strings_free(struct cli_strings *list)
{
	free(list->values);
	free(list->owned);
	*list = (struct cli_strings){0};
}

#define LONGEST_NAME 31

/* Insertions, deletions and replacements that turn a into b (Levenshtein). */
static int distance(const char *a, const char *b)
{
	int row[LONGEST_NAME + 1];
	const int length = (int)strlen(b);

	for (int j = 0; j <= length; j++)
		row[j] = j;
	for (int i = 1; *a; a++, i++) {
		int diagonal = row[0];

		row[0] = i;
		for (int j = 1; j <= length; j++) {
			const int replaced = diagonal + (*a != b[j - 1]);

			diagonal = row[j];

			const int least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

			row[j] = replaced < least ? replaced : least;
		}
	}
	return row[length];
}

const char *cli_similar(const char *text, const char *const *names, int n)
{
	const char *best = NULL;
	int least = 3;

	for (int i = 0; i < n && strlen(text) <= LONGEST_NAME; i++) {
		if (strlen(names[i]) > LONGEST_NAME)
			continue;

		const int d = distance(text, names[i]);

		if (d < least) {
			least = d;
			best = names[i];
		}
	}
	return best;
}

mla_status cli_unknown(const char *what, const char *text, const char *const *names, int n,
		       const char *where)
{
	const char *similar = cli_similar(text, names, n);

	if (similar)
		return mla_fail(MLA_INVALID, "%s \"%s\"; did you mean \"%s\"? %s", what, text,
				similar, where);
	return mla_fail(MLA_INVALID, "%s \"%s\"; %s", what, text, where);
}
