/* ncu.c - which figures of ncu belong to which idea, and the table that its CSV holds.
 */
#define _GNU_SOURCE
#include "report/ncu.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* ---- what proves an idea --------------------------------------------------------------------- */

/* Figures of ncu by the ideas that they prove; "" stands for every kernel. A new idea adds its
 * lines here. */
static const struct proof {
	const char *ideas, *metric, *meaning;
} proofs[] = {
	{"", "gpu__time_duration.sum", "time under the profiler"},
	{"", "dram__bytes_read.sum", "read from memory: the cache once, if all is well"},
	{"", "dram__throughput.avg.pct_of_peak_sustained_elapsed", "share of the memory's peak"},
	{"", "sm__throughput.avg.pct_of_peak_sustained_elapsed",
	 "share of the busiest unit's peak"},
	{"", "launch__registers_per_thread", "registers"},
	{"naive vector", "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio",
	 "sectors per load: 16 if a warp loads 16 bytes a thread"},
	{"naive vector tile", "lts__t_bytes.sum",
	 "through the L2 cache: falls as heads share keys"},
	{"naive async cpasync pipe tall",
	 "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
	 "warps that wait for memory, per instruction"},
	{"split", "launch__waves_per_multiprocessor", "waves of blocks"},
	{"split cluster", "sm__cycles_active.avg", "cycles an SM works, mean ..."},
	{"split cluster", "sm__cycles_active.max", "... and of the busiest: the plan's balance"},
	{"tile mma tensor", "sm__inst_executed_pipe_fma.sum", "instructions of the fp32 pipe"},
	{"mma tensor async cpasync pipe ldmatrix tall", "sm__inst_executed_pipe_tensor_op_hmma.sum",
	 "instructions of the tensor pipe"},
	{"mma tensor async cpasync pipe ldmatrix tall",
	 "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
	 "share of cycles the tensor pipe works"},
	{"mma tensor ldmatrix swizzle tall", "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
	 "bank conflicts: near 0 if the swizzle is right"},
	{"tma", "smsp__inst_executed.sum", "instructions: fall when a copy engine moves tiles"},
	{"tma", "smsp__issue_active.avg.pct_of_peak_sustained_active", "share of issue slots used"},
	{"wgmma seesaw swap role", "sm__inst_executed_pipe_tensor_op_gmma.sum",
	 "instructions of the tensor pipe"},
	{"wgmma seesaw swap role", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
	 "share of cycles the tensor pipe works"},
	{"cluster", "lts__t_sectors_op_read.sum", "sectors read through the L2: halve if shared"},
};
#define NUM_PROOFS (int)(sizeof(proofs) / sizeof(proofs[0]))

/* Is the word of this length one of the words in text? */
static bool has_word(const char *text, const char *word, size_t length)
{
	for (; *text; text += strspn(text, " ")) {
		const size_t here = strcspn(text, " ");

		if (here == length && !strncmp(text, word, length))
			return true;
		text += here;
	}
	return false;
}

static bool proves(const struct proof *proof, const char *ideas)
{
	const char *word = ideas;

	for (size_t length; (length = strcspn(word, " ")); word += strspn(word, " ")) {
		if (has_word(proof->ideas, word, length))
			return true;
		word += length;
	}
	return !*proof->ideas;
}

char *ncu_metrics(const char *ideas)
{
	char *list = text_format("%s", "");

	for (int i = 0; i < NUM_PROOFS; i++) {
		if (!proves(&proofs[i], ideas))
			continue;

		char *longer = text_format("%s%s%s", list, *list ? "," : "", proofs[i].metric);

		free(list);
		list = longer;
	}
	return list;
}

static const char *meaning_of(const char *metric)
{
	for (int i = 0; i < NUM_PROOFS; i++)
		if (!strcmp(proofs[i].metric, metric))
			return proofs[i].meaning;
	return "";
}

/* ---- what ncu says --------------------------------------------------------------------------- */

enum { MAX_FIELDS = 64 };

/* Splits a line of CSV in place: "a","b ""c""",d. How many fields there are. */
static int split_csv(char *line, char **fields)
{
	int count = 0;

	for (char *from = line; *from && count < MAX_FIELDS;) {
		char *to = fields[count++] = from;
		const bool quoted = *from == '"';

		for (from += quoted; *from && (quoted || *from != ','); from++) {
			if (quoted && *from == '"' && *++from != '"')
				break;
			*to++ = *from;
		}
		from += strcspn(from, ",");
		from += *from == ',';
		*to = '\0';
	}
	return count;
}

static int find_field(char *const *fields, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(fields[i], name))
			return i;
	return -1;
}

enum { KERNEL, METRIC, VALUE, UNIT, NUM_COLUMNS };
static const char *const columns[] = {"Kernel Name", "Metric Name", "Metric Value", "Metric Unit"};

static void add_row(struct report_table *table, char *const *fields, const int *at)
{
	/* "splitk(mla_params)" */
	report_cell(table, "%.*s", (int)strcspn(fields[at[KERNEL]], "("), fields[at[KERNEL]]);
	report_cell(table, "%s", fields[at[METRIC]]);
	report_cell(table, "%s", fields[at[VALUE]]);
	report_cell(table, "%s", fields[at[UNIT]]);
	report_cell(table, "%s", meaning_of(fields[at[METRIC]]));
}

/* The line that names the columns; false if this is not it. */
static bool read_header(char *const *fields, int count, int *at)
{
	int found[NUM_COLUMNS];

	for (int i = 0; i < NUM_COLUMNS; i++)
		if ((found[i] = find_field(fields, count, columns[i])) < 0)
			return false;
	memcpy(at, found, sizeof(found));
	return true;
}

struct report_table *ncu_figures(FILE *log)
{
	static const char *const titles[] = {"kernel", "figure", ">value", "unit", "what it says"};
	struct report_table *table = report_table_new(titles, 5);
	int at[NUM_COLUMNS], width = 0;
	char *line = NULL, *fields[MAX_FIELDS];
	size_t size = 0;

	while (getline(&line, &size, log) > 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] != '"')
			continue;

		const int count = split_csv(line, fields);

		if (read_header(fields, count, at))
			width = count;
		else if (count == width)
			add_row(table, fields, at);
	}
	free(line);
	return table;
}

void ncu_messages(FILE *log, FILE *out)
{
	char *line = NULL;
	size_t size = 0;

	rewind(log);
	while (getline(&line, &size, log) > 0)
		if (line[0] != '"')
			text_print(out, "%.*s\n", (int)strcspn(line, "\r\n"), line);
	free(line);
}
