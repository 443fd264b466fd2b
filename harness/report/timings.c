/* timings.c - the tables of mla bench and mla cases, and CSV.
 */
#include "report/timings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "case/identity.h"

/* ---- what is known before ----------------------------------------------------------------------
 */

struct case_bound timings_bound(const struct case_work *work, const struct ceilings *ceilings)
{
	struct case_ceilings known = {0};

	if (ceilings)
		known = (struct case_ceilings){ceilings_read_gbs(ceilings),
					       ceilings_tflops(ceilings)};
	return case_bound_of(work, &known);
}

mla_status timings_begin(const struct mla_case *c, const char *name, const uint64_t *seed,
			 const struct ceilings *ceilings, struct timings_shown *shown)
{
	*shown = (struct timings_shown){.c = c, .name = name};

	const mla_status status = case_work_of(c, &shown->work);

	shown->bound = timings_bound(&shown->work, ceilings);
	return status ? status : identity_sha256(c, seed, shown->sha256);
}

struct report_table *timings_list_new(void)
{
	static const char *const columns[] = {"case",      ">MB", ">GFLOP", ">FLOP/byte",
					      ">bound us", "by",  "shape"};

	return report_table_new(columns, sizeof(columns) / sizeof(columns[0]));
}

void timings_list_add(struct report_table *list, const struct timings_shown *shown)
{
	const struct case_work *work = &shown->work;
	char text[256] = "-";

	report_cell(list, "%s", shown->name);
	report_cell(list, "%.4g", work->bytes * 1e-6);
	report_cell(list, "%.4g", work->flop * 1e-9);
	report_cell(list, work->bytes > 0 ? "%.3g" : "-", work->flop / work->bytes);
	report_cell(list, shown->bound.us > 0 ? "%.4g" : "-", shown->bound.us);
	report_cell(list, "%s", shown->bound.us > 0 ? case_limit_names[shown->bound.by] : "-");
	if (shown->c)
		case_describe(shown->c, text, sizeof(text));
	report_cell(list, "%s", text);
}

/* ---- one case -------------------------------------------------------------------------------- */

static const char *const titles[] = {"name",    "check", "mode",     ">median", ">IQR",
				     ">min",    ">GB/s", ">TFLOP/s", ">bound",  ">plan",
				     ">upload", ">MHz",  ">samples"};
enum { NUM_TITLES = sizeof(titles) / sizeof(titles[0]) };

void timings_explain(FILE *out)
{
	fputs("name      the implementation\n"
	      "check     PASS: its outputs are right, before the timing and after it; nothing "
	      "that\n"
	      "          is wrong is timed. SKIP: it refuses, and says why\n"
	      "mode      graph: replays of a CUDA graph of many calls, time of a call\n"
	      "          launch: each call between two timestamps of the GPU\n"
	      "          host: a CPU implementation, a run per sample\n"
	      "          cold: each call finds inputs that the L2 cache no longer holds, because\n"
	      "          copies that exceed twice its size take turns; hot: all calls on one copy\n"
	      "median    of the samples, per call; merging partial results is part of a call\n"
	      "IQR       distance of the quartiles over the median: the noise; ! more than asked "
	      "for\n"
	      "min       the fastest sample\n"
	      "GB/s      visible cache slots once, q, out and lse, over the median\n"
	      "TFLOP/s   2 * heads * visible (query, key) pairs * (2 * ckv + kpe), over the "
	      "median\n"
	      "bound     how much of what this GPU can do was reached: the larger of bytes over "
	      "its\n"
	      "          read stream and FLOP over its tensor cores, both as \"mla ceilings\" "
	      "measured\n"
	      "          them, over the median; -: they were not measured\n"
	      "plan      host time of laying the batch out, not part of a call\n"
	      "upload    time until the plan has arrived on the GPU, not part of a call\n"
	      "MHz       SM clock while the samples were taken, the median of what was read\n"
	      "samples   timed replays, launches or runs; ? fewer than a median needs\n",
	      out);
}

static void empty_cells(struct report_table *table, int from)
{
	for (int i = from; i < NUM_TITLES; i++)
		report_cell(table, "-");
}

static void time_cell(struct report_table *table, const struct stats *stats)
{
	char text[32];

	report_cell(table, "%s", stats->n ? report_time(stats->median, text, sizeof(text)) : "-");
}

/* Beside a median: ! too noisy, ? of too few samples. */
static const char *sign_of(const struct bench_timing *timing)
{
	static const char *const signs[2][2] = {{"", "!"}, {"?", "!?"}};

	return signs[!bench_timing_enough(timing)][!timing->settled];
}

static void rate_cell(struct report_table *table, double rate)
{
	report_cell(table, rate < 100 ? "%.3g" : "%.0f", rate);
}

static const char *cache_name(const struct bench_timing *timing)
{
	return timing->cold ? "cold" : "hot";
}

static void timing_cells(struct report_table *table, const struct timings_shown *shown,
			 const struct bench_timing *timing)
{
	const struct stats *s = &timing->stats;
	char text[32];

	if (timing->mode == BENCH_HOST)
		report_cell(table, "host");
	else
		report_cell(table, "%s %s", bench_mode_names[timing->mode], cache_name(timing));
	time_cell(table, s);
	report_cell(table, "%.1f%%%s", 100 * stats_spread(s), timing->settled ? "" : "!");
	report_cell(table, "%s", report_time(s->min, text, sizeof(text)));
	rate_cell(table, shown->work.bytes / s->median * 1e-3);
	rate_cell(table, shown->work.flop / s->median * 1e-6);
	if (shown->bound.us > 0 && timing->mode != BENCH_HOST)
		report_cell(table, "%.1f%%", 100 * shown->bound.us / s->median);
	else
		report_cell(table, "-");
}

static void last_cells(struct report_table *table, const struct bench_result *result,
		       const struct bench_timing *timing)
{
	const struct stats *mhz = &timing->load.sm_mhz;

	time_cell(table, &result->plan);
	time_cell(table, &result->upload);
	report_cell(table, mhz->n ? "%.0f" : "-", mhz->median);
	report_cell(table, "%d%s", timing->stats.n, bench_timing_enough(timing) ? "" : "?");
}

void timings_show(const struct timings_shown *shown, FILE *out)
{
	struct report_table *table = report_table_new(titles, NUM_TITLES);

	for (int i = 0; i < shown->count; i++) {
		const struct bench_result *result = &shown->results[i];

		for (int t = 0; t < result->num_timings; t++) {
			report_cell(table, "%s", shown->implementations[i]);
			report_cell(table, "%s", report_outcome_name(result->verdict.outcome));
			timing_cells(table, shown, &result->timings[t]);
			last_cells(table, result, &result->timings[t]);
		}
		if (result->num_timings > 0)
			continue;
		report_cell(table, "%s", shown->implementations[i]);
		report_cell(table, "%s", report_outcome_name(result->verdict.outcome));
		empty_cells(table, 2);
		if (*result->verdict.why && !report_is_absence(&result->verdict))
			report_note(table, "%s", result->verdict.why);
	}
	report_table_print(table, out);
	report_table_free(table);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void widen(double *least, double *most, const struct stats *stats)
{
	if (!stats->n)
		return;
	*least = *least > 0 ? fmin(*least, stats->median) : stats->median;
	*most = fmax(*most, stats->median);
}

void timings_marks_count(struct timings_marks *marks, const struct bench_result *result)
{
	for (int t = 0; t < result->num_timings; t++) {
		const struct bench_timing *timing = &result->timings[t];
		const struct nvml_load *load = &timing->load;

		marks->timed++;
		marks->unsettled += !timing->settled;
		marks->few += !bench_timing_enough(timing);
		widen(&marks->sm_mhz.least, &marks->sm_mhz.most, &load->sm_mhz);
		widen(&marks->mem_mhz.least, &marks->mem_mhz.most, &load->mem_mhz);
		widen(&marks->power_w.least, &marks->power_w.most, &load->power_w);
	}
}

void timings_marks_explain(const struct timings_marks *marks, double noise, FILE *out)
{
	if (marks->unsettled + marks->few)
		fputc('\n', out);
	if (marks->unsettled)
		fprintf(out,
			"! %d of %d timings: noisier than %.3g%% when they ended; "
			"a longer --time may settle them\n",
			marks->unsettled, marks->timed, 100 * noise);
	if (marks->few)
		fprintf(out,
			"? %d of %d timings: fewer than %d samples, whose median is not known in "
			"95 of 100 cases; mla compare gives no ratio of them\n",
			marks->few, marks->timed, STATS_LEAST);
}

void timings_show_clocks(const struct timings_marks *marks, double max_sm_mhz, FILE *out)
{
	if (!(marks->sm_mhz.most > 0))
		return;
	fprintf(out, "\nwhile samples were taken: SM clock %.0f to %.0f MHz", marks->sm_mhz.least,
		marks->sm_mhz.most);
	if (max_sm_mhz > 0)
		fprintf(out, " (at most %.0f)", max_sm_mhz);
	if (marks->mem_mhz.most > 0)
		fprintf(out, ", memory %.0f to %.0f MHz", marks->mem_mhz.least,
			marks->mem_mhz.most);
	if (marks->power_w.most > 0)
		fprintf(out, ", power %.0f to %.0f W", marks->power_w.least, marks->power_w.most);
	fputs("; medians of timings\n", out);
}

/* ---- all cases ------------------------------------------------------------------------------- */

struct timings_matrix {
	char **titles;
	int columns;
	struct report_table *table;
};

struct timings_matrix *timings_matrix_new(const char *const *implementations, int count)
{
	struct timings_matrix *matrix = text_alloc(sizeof(*matrix));

	matrix->columns = count + 2;
	matrix->titles = text_alloc((size_t)matrix->columns * sizeof(char *));
	matrix->titles[0] = text_format("case");
	matrix->titles[1] = text_format(">bound us");
	for (int i = 0; i < count; i++)
		matrix->titles[i + 2] = text_format(">%s", implementations[i]);
	matrix->table = report_table_new((const char *const *)matrix->titles, matrix->columns);
	return matrix;
}

void timings_matrix_free(struct timings_matrix *matrix)
{
	if (!matrix)
		return;
	for (int i = 0; i < matrix->columns; i++)
		free(matrix->titles[i]);
	free(matrix->titles);
	report_table_free(matrix->table);
	free(matrix);
}

/* The first timing stands for a result: graph and cold unless others were asked for. */
void timings_matrix_add(struct timings_matrix *matrix, const struct timings_shown *shown)
{
	report_cell(matrix->table, "%s", shown->name);
	if (shown->bound.us > 0)
		report_cell(matrix->table, "%.1f", shown->bound.us);
	else
		report_cell(matrix->table, "-");
	for (int i = 0; i < shown->count; i++) {
		const struct bench_result *result = &shown->results[i];
		const double median = result->num_timings ? result->timings[0].stats.median : 0;

		if (!(median > 0))
			report_cell(matrix->table, "%s",
				    report_outcome_name(result->verdict.outcome));
		else if (shown->bound.us > 0 && result->timings[0].mode != BENCH_HOST)
			report_cell(matrix->table, "%.1f%s (%.0f%%)", median,
				    sign_of(&result->timings[0]), 100 * shown->bound.us / median);
		else
			report_cell(matrix->table, "%.1f%s", median, sign_of(&result->timings[0]));
	}
}

void timings_matrix_print(const struct timings_matrix *matrix, FILE *out)
{
	if (report_table_rows(matrix->table) > 1) {
		fputs("\nmicroseconds per call (share of the bound reached)\n", out);
		report_table_print(matrix->table, out);
	}
}

/* ---- CSV ------------------------------------------------------------------------------------- */

/* Quoted where a comma or a quote would end the field. */
static void csv_text(const char *text, FILE *out)
{
	char *shown = text_shown(text);
	const char *quote = strpbrk(shown, ",\"") ? "\"" : "";

	fputs(quote, out);
	for (const char *c = shown; *c; c++)
		fprintf(out, "%s%c", *c == '"' ? quote : "", *c);
	fputs(quote, out);
	free(shown);
}

void timings_csv_head(FILE *out)
{
	fputs("case,implementation,status,mode,cache,median_us,q1_us,q3_us,min_us,samples,"
	      "bound_us,flop,bytes,plan_us,upload_us,why,settled,enough_samples,sm_mhz\n",
	      out);
}

static void csv_row(const struct timings_shown *shown, int i, const struct bench_timing *timing,
		    FILE *out)
{
	const struct bench_result *result = &shown->results[i];

	csv_text(shown->name, out);
	fputc(',', out);
	csv_text(shown->implementations[i], out);
	fprintf(out, ",%s,", report_outcome_name(result->verdict.outcome));
	if (timing)
		fprintf(out, "%s,%s,%.9g,%.9g,%.9g,%.9g,%d,", bench_mode_names[timing->mode],
			cache_name(timing), timing->stats.median, timing->stats.q1,
			timing->stats.q3, timing->stats.min, timing->stats.n);
	else
		fputs(",,,,,,,", out);
	if (shown->bound.us > 0)
		fprintf(out, "%.9g", shown->bound.us);
	fprintf(out, ",%.17g,%.17g,", shown->work.flop, shown->work.bytes);
	if (result->plan.n > 0)
		fprintf(out, "%.9g", result->plan.median);
	fputc(',', out);
	if (result->upload.n > 0)
		fprintf(out, "%.9g", result->upload.median);
	fputc(',', out);
	csv_text(result->verdict.why, out);
	if (timing)
		fprintf(out, ",%d,%d,", timing->settled, bench_timing_enough(timing));
	else
		fputs(",,,", out);
	if (timing && timing->load.sm_mhz.n)
		fprintf(out, "%.9g", timing->load.sm_mhz.median);
	fputc('\n', out);
}

void timings_csv_rows(const struct timings_shown *shown, FILE *out)
{
	for (int i = 0; i < shown->count; i++) {
		const struct bench_result *result = &shown->results[i];

		for (int t = 0; t < result->num_timings; t++)
			csv_row(shown, i, &result->timings[t], out);
		if (result->num_timings == 0)
			csv_row(shown, i, NULL, out);
	}
}
