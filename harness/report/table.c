/* table.c - tables, colours, progress and reproduction lines.
 */
#define _GNU_SOURCE
#include "report/table.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "device/gpu.h"

static bool colourful(FILE *out)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if ((no_color && *no_color) || !term || !strcmp(term, "dumb"))
		return false;
	return isatty(fileno(out)) == 1;
}

static const struct {
	const char *name, *colour;
} outcomes[] = {
	[CHECK_PASS] = {"PASS", "\033[32m"},
	[CHECK_FAIL] = {"FAIL", "\033[1;31m"},
	[CHECK_SKIP] = {"SKIP", "\033[33m"},
};
#define NUM_OUTCOMES (int)(sizeof(outcomes) / sizeof(outcomes[0]))

const char *report_outcome_name(enum check_outcome outcome)
{
	return outcomes[outcome].name;
}

void report_outcome(FILE *out, enum check_outcome outcome)
{
	const bool colour = colourful(out);

	fprintf(out, "%s%s%s", colour ? outcomes[outcome].colour : "", outcomes[outcome].name,
		colour ? "\033[0m" : "");
}

bool report_is_absence(const struct check_verdict *verdict)
{
	return verdict->outcome == CHECK_SKIP && gpu_missing() &&
	       !strcmp(verdict->why, gpu_missing());
}

void report_absence_count(struct report_absence *absence, const struct check_verdict *verdict)
{
	absence->skipped += report_is_absence(verdict);
}

void report_absence_show(const struct report_absence *absence, FILE *out)
{
	if (absence->skipped)
		text_print(out, "%d run%s of kernels skipped: %s\n", absence->skipped,
			   absence->skipped == 1 ? "" : "s", gpu_missing());
}

void report_progress(const char *format, ...)
{
	static bool shown;

	if (isatty(STDERR_FILENO) != 1 || (!shown && !*format))
		return;

	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = text_vshown(format, arguments);
	va_end(arguments);
	fprintf(stderr, "\r\033[K%s", text);
	fflush(stderr);
	free(text);
	shown = *format;
}

/* ---- tables ---------------------------------------------------------------------------------- */

struct note {
	int row;
	char *text;
};

struct report_table {
	const char *const *titles;
	int num_columns;
	char **cells;
	int num_cells, max_cells;
	struct note *notes;
	int num_notes, max_notes;
};

struct report_table *report_table_new(const char *const *titles, int num_columns)
{
	struct report_table *table = text_alloc(sizeof(*table));

	table->titles = titles;
	table->num_columns = num_columns;
	return table;
}

void report_table_free(struct report_table *table)
{
	if (!table)
		return;
	for (int i = 0; i < table->num_cells; i++)
		free(table->cells[i]);
	for (int i = 0; i < table->num_notes; i++)
		free(table->notes[i].text);
	free(table->cells);
	free(table->notes);
	free(table);
}

void report_cell(struct report_table *table, const char *format, ...)
{
	table->cells = text_grow(table->cells, table->num_cells, &table->max_cells, sizeof(char *));

	va_list arguments;

	va_start(arguments, format);
	table->cells[table->num_cells++] = text_vshown(format, arguments);
	va_end(arguments);
}

void report_note(struct report_table *table, const char *format, ...)
{
	table->notes =
		text_grow(table->notes, table->num_notes, &table->max_notes, sizeof(struct note));

	struct note *note = &table->notes[table->num_notes++];

	note->row = report_table_rows(table) - 1;

	va_list arguments;

	va_start(arguments, format);
	note->text = text_vshown(format, arguments);
	va_end(arguments);
}

int report_table_rows(const struct report_table *table)
{
	return table->num_cells / table->num_columns;
}

static bool is_right(const struct report_table *table, int column)
{
	return table->titles[column][0] == '>';
}

static const char *title_of(const struct report_table *table, int column)
{
	return table->titles[column] + is_right(table, column);
}

static int width_of(const struct report_table *table, int column)
{
	size_t width = strlen(title_of(table, column));

	for (int i = column; i < table->num_cells; i += table->num_columns)
		if (strlen(table->cells[i]) > width)
			width = strlen(table->cells[i]);
	return (int)width;
}

/* Colour goes around the padded cell, so that it does not count as width. */
static void print_cell(const struct report_table *table, int column, int width, const char *text,
		       FILE *out, bool colour)
{
	const char *begin = "";

	for (int o = 0; colour && o < NUM_OUTCOMES; o++)
		if (!strcmp(text, outcomes[o].name))
			begin = outcomes[o].colour;

	const bool last = column == table->num_columns - 1;
	const int padding = is_right(table, column) ? width : last ? 0 : -width;

	fprintf(out, "%s%*s%s%s", begin, padding, text, *begin ? "\033[0m" : "",
		last ? "\n" : "  ");
}

void report_table_print(const struct report_table *table, FILE *out)
{
	const bool colour = colourful(out);
	int *width = text_alloc((size_t)table->num_columns * sizeof(*width));

	for (int c = 0; c < table->num_columns; c++)
		width[c] = width_of(table, c);
	for (int c = 0; c < table->num_columns; c++)
		print_cell(table, c, width[c], title_of(table, c), out, false);

	int note = 0;

	for (int row = 0; row < report_table_rows(table); row++) {
		for (int c = 0; c < table->num_columns; c++)
			print_cell(table, c, width[c], table->cells[row * table->num_columns + c],
				   out, colour);
		for (; note < table->num_notes && table->notes[note].row == row; note++)
			fprintf(out, "    %s\n", table->notes[note].text);
	}
	free(width);
}

const char *report_time(double microseconds, char *buffer, size_t size)
{
	static const struct {
		double below, divisor;
		const char *unit;
	} units[] = {{1e3, 1, "us"}, {1e6, 1e3, "ms"}, {INFINITY, 1e6, "s"}};
	int u = 0;

	while (u < 2 && !(microseconds < units[u].below))
		u++;

	const double value = microseconds / units[u].divisor;
	const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;

	snprintf(buffer, size, "%.*f %s", decimals, value, units[u].unit);
	return buffer;
}

const char *report_ratio(double ratio, char *buffer, size_t size)
{
	if (ratio < 1e-2 && ratio > 0)
		snprintf(buffer, size, "%.0e", ratio);
	else
		snprintf(buffer, size, ratio < 1e4 ? "%.2f" : "%.1e", ratio);
	return buffer;
}

/* ---- reproduction ---------------------------------------------------------------------------- */

/* What is not plain a shell is to make of digits. */
static char *printed_word(const char *text)
{
	char *word = text_alloc(4 * strlen(text) + 16), *end = stpcpy(word, "\"$(printf '");

	for (; *text; text++)
		if (isalnum((unsigned char)*text) || *text == '/' || *text == '.')
			*end++ = *text;
		else
			end += sprintf(end, "\\%03o", (unsigned char)*text);
	strcpy(end, "')\"");
	return word;
}

char *report_shell_word(const char *text)
{
	static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "0123456789_-./:=,+@%";

	if (*text && strspn(text, harmless) == strlen(text))
		return text_format("%s", text);
	if (!text_is_plain(text, NULL))
		return printed_word(text);

	char *quoted = text_alloc(4 * strlen(text) + 3), *end = quoted;

	*end++ = '\'';
	for (; *text; text++)
		end = *text == '\'' ? stpcpy(end, "'\\''") : stpncpy(end, text, 1);
	*end = '\'';
	return quoted;
}

char *report_rerun_line(const struct report_rerun *rerun)
{
	char split[32] = "";

	if (rerun->fixed_split > 0)
		snprintf(split, sizeof(split), " --fixed-split %d", (int)rerun->fixed_split);

	char *subject = report_shell_word(rerun->subject),
	     *case_id = report_shell_word(rerun->case_id);
	/* A file named like an option must not be read as one. */
	const char *dashes = rerun->file && rerun->file[0] == '-' ? "-- " : "";
	char *file = rerun->file ? report_shell_word(rerun->file) : text_format("%s", "");
	char *seed = rerun->seed ? report_shell_word(rerun->seed) : text_format("%s", "");
	char *line = text_format("mla check %s%s%s-k %s -c %s%s%s%s%s%s",
				 rerun->seed ? "--emulate=" : "", seed, rerun->seed ? " " : "",
				 subject, case_id, split, rerun->graph ? " --graph" : "",
				 rerun->file ? " " : "", dashes, file);

	free(seed);
	free(subject);
	free(case_id);
	free(file);
	return line;
}
