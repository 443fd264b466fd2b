/* args.c - strict numbers and lists for the verbs.
 */
#define _DEFAULT_SOURCE /* strsep */
#include "cli/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "capture/capture.h"
#include "lib/error.h"
#include "lib/validate.h"

/* A whole number at *text, which moves behind it. */
static long parse_long(struct argp_state *state, const char *option, const char **text, long low,
		       long high)
{
	char *end;

	errno = 0;

	const long value = strtol(*text, &end, 10);

	if (end == *text || isspace((unsigned char)**text))
		argp_error(state, "%s: found \"%s\", expected a whole number", option, *text);
	if (errno == ERANGE || value < low || value > high)
		argp_error(state, "%s: %.*s is out of range, expected %ld to %ld", option,
			   (int)(end - *text), *text, low, high);
	*text = end;
	return value;
}

long cli_integer(struct argp_state *state, const char *option, const char *text, long low,
		 long high)
{
	const char *end = text;
	const long value = parse_long(state, option, &end, low, high);

	if (*end)
		argp_error(state, "%s: found \"%s\", expected a whole number", option, text);
	return value;
}

static double parse_double(struct argp_state *state, const char *option, const char *text)
{
	char *end;
	const double value = strtod(text, &end);

	if (end == text || *end || isspace((unsigned char)*text))
		argp_error(state, "%s: found \"%s\", expected a number", option, text);
	return value;
}

double cli_positive(struct argp_state *state, const char *option, const char *text)
{
	const double value = parse_double(state, option, text);

	if (!isfinite(value) || !(value > 0))
		argp_error(state, "%s: %s is out of range, expected a finite number above 0",
			   option, text);
	return value;
}

double cli_scale(struct argp_state *state, const char *option, const char *text)
{
	const double value = parse_double(state, option, text);

	if (validate_scale(value, option))
		argp_error(state, "%s", mla_last_error());
	return value;
}

void cli_one_file(struct argp_state *state, const char **file, const char *arg)
{
	if (*file)
		argp_error(state, "one FILE is enough, found \"%s\" too", arg);
	*file = arg;
}

void cli_file_or_shape(struct argp_state *state, const char *file, bool shape_given,
		       const char *pattern)
{
	if (file && shape_given)
		argp_error(state, "a FILE and a shape exclude each other");
	if (pattern && !file)
		argp_error(state, "-c chooses a case of a FILE, which is missing");
}

const char *cli_report_file(struct argp_state *state, const char *option, const char *arg)
{
	if (capture_is_hdf5(arg))
		argp_error(state, "%s: %s is a capture and would be lost, expected a file to write",
			   option, arg);
	return arg;
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
	argp_error(state, "%s: found \"%s\", expected one of: %s", option, text, expected);
	return -1; /* not reached: argp_error ends the program */
}

#define MAX_LIST (1 << 20)

static void append_range(struct argp_state *state, const char *option, long first, long last,
			 struct cli_ints *list)
{
	if (last < first)
		argp_error(state, "%s: the range %ld-%ld is empty", option, first, last);
	if (last - first + 1 > MAX_LIST - list->count)
		argp_error(state, "%s: more than %d values", option, MAX_LIST);

	const size_t count = (size_t)(list->count + last - first + 1);
	int *values = text_alloc(count * sizeof(*values));

	if (list->count)
		memcpy(values, list->values, (size_t)list->count * sizeof(*values));
	for (long value = first; value <= last; value++)
		values[list->count++] = (int)value;
	free(list->values);
	list->values = values;
}

void cli_int_list(struct argp_state *state, const char *option, const char *text, long low,
		  long high, struct cli_ints *list)
{
	for (;;) {
		const long first = parse_long(state, option, &text, low, high);
		long last = first;

		if (*text == '-') {
			text++;
			last = parse_long(state, option, &text, low, high);
		}
		append_range(state, option, first, last, list);
		if (!*text)
			return;
		if (*text != ',')
			argp_error(state, "%s: found \"%s\", expected a list such as 0,2,5 or 0-7",
				   option, text);
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
	const size_t count = (size_t)list->count;
	const char **values = text_alloc((count + 1) * sizeof(*values));

	if (count)
		memcpy(values, list->values, count * sizeof(*values));
	values[list->count++] = text;
	free(list->values);
	list->values = values;
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
