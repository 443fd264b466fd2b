/* test_ncu.c - what ncu is asked, and how its answer is read; ncu itself is not needed.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mla.h"
#include "report/ncu.h"

static FILE *log_of(const char *text)
{
	FILE *log = tmpfile();
	cr_assert(log && fputs(text, log) >= 0);
	rewind(log);
	return log;
}

static char *print(const struct report_table *table)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	cr_assert(out != NULL);
	report_table_print(table, out);
	fclose(out);
	return text;
}

static const char answer[] =
	"==PROF== Connected to process 7 (/x/mla)\n"
	"==PROF== Profiling \"splitk\" - 0: 0%....50%....100% - 3 passes\n"
	"\"ID\",\"Process ID\",\"Kernel Name\",\"Section Name\",\"Metric Name\",\"Metric Unit\","
	"\"Metric Value\"\n"
	"\"0\",\"7\",\"splitk(mla_params)\",\"Command line profiler metrics\","
	"\"sm__cycles_active.avg\",\"cycle\",\"1,234.50\"\n"
	"\"0\",\"7\",\"splitk(mla_params)\",\"a \"\"quoted\"\", name\",\"no_such_figure\",\"%\","
	"\"\"\n"
	"\"1\",\"7\",\"merge(mla_params)\",\"\",\"gpu__time_duration.sum\",\"us\",\"3.2\"\r\n"
	"\"cut off\n"
	"==PROF== Disconnected from process 7\n";

Test(ncu, figures_become_rows)
{
	FILE *log = log_of(answer);
	struct report_table *table = ncu_figures(log);
	char *text = print(table);
	cr_assert(report_table_rows(table) == 3, "%d rows\n%s", report_table_rows(table), text);
	cr_expect(strstr(text, "splitk  sm__cycles_active.avg   1,234.50  cycle"), "%s", text);
	cr_expect(strstr(text, "cycles an SM works"), "%s", text);
	cr_expect(strstr(text, "merge   gpu__time_duration.sum       3.2  us"), "%s", text);
	cr_expect(!strstr(text, "cut off") && !strstr(text, "PROF"), "%s", text);
	free(text);
	report_table_free(table);
	fclose(log);
}

Test(ncu, an_answer_without_figures_has_no_rows_and_its_words_are_kept)
{
	static const char refusal[] = "==PROF== Connected\n"
				      "==ERROR== ERR_NVGPUCTRPERM - no permission\n";
	FILE *log = log_of(refusal);
	struct report_table *table = ncu_figures(log);
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	cr_expect(report_table_rows(table) == 0);
	ncu_messages(log, out);
	fclose(out);
	cr_expect_str_eq(text, refusal);
	free(text);
	report_table_free(table);
	fclose(log);
}

/* Cut off anywhere, an answer gives fewer rows and nothing worse. */
Test(ncu, every_prefix_is_read)
{
	for (size_t length = 0; length < sizeof(answer); length++) {
		char *part = strndup(answer, length);
		FILE *log = log_of(part);
		struct report_table *table = ncu_figures(log);
		cr_expect(report_table_rows(table) <= 3);
		report_table_free(table);
		fclose(log);
		free(part);
	}
}

Test(ncu, ideas_are_asked_for_their_own_figures)
{
	static const struct {
		const char *ideas, *has, *lacks;
	} cases[] = {
		{"", "gpu__time_duration.sum", "sm__cycles_active"},
		{"naive", "l1tex__average_t_sectors_per_request", "tensor"},
		{"split", "sm__cycles_active.max", "bank_conflicts"},
		{"ldmatrix", "bank_conflicts", "gmma"},
		{"wgmma", "gmma", "hmma"},
		{"tma wgmma", "smsp__inst_executed.sum", "hmma"},
		{"tma wgmma", "gmma", "hmma"},
		{"unheard", "gpu__time_duration.sum", "sm__cycles_active"},
		{"unheard  split", "sm__cycles_active.max", "bank_conflicts"},
		{"splitk", "gpu__time_duration.sum", "sm__cycles_active"}, /* whole words */
		{"spl it", "gpu__time_duration.sum", "sm__cycles_active"},
		{"naive vector", "lts__t_bytes.sum", "sm__cycles_active"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *metrics = ncu_metrics(cases[i].ideas);
		cr_expect(strstr(metrics, cases[i].has), "%s: %s", cases[i].ideas, metrics);
		cr_expect(!strstr(metrics, cases[i].lacks), "%s: %s", cases[i].ideas, metrics);
		free(metrics);
	}
}

/* Named twice, ncu would measure it twice; and a handful is a handful. */
Test(ncu, no_figure_is_asked_for_twice)
{
	for (int i = 0; i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};
		cr_assert(mla_kernel_get(i, &info) == MLA_OK);
		cr_assert(!info.built || *info.ideas, "%s says no idea", info.name);
		char *metrics = ncu_metrics(info.ideas), *save = NULL;
		const char *seen[32];
		int count = 0;
		for (char *word = strtok_r(metrics, ",", &save); word;
		     word = strtok_r(NULL, ",", &save)) {
			cr_assert(count < 12, "%s is asked for more than a handful", info.name);
			for (int j = 0; j < count; j++)
				cr_expect(strcmp(word, seen[j]) != 0, "%s: %s twice", info.name,
					  word);
			seen[count++] = word;
		}
		free(metrics);
	}
}
