/* plan_format.c - a plan as text for people and as JSON for programs. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/internal.h"

/* A buffer that counts what it could not hold. */
struct sink {
	char *buffer;
	size_t size, length;
};

static void put(struct sink *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct sink *s, const char *format, ...)
{
	const size_t at = s->length < s->size ? s->length : s->size;
	va_list args;

	va_start(args, format);

	const int n = vsnprintf(s->buffer ? s->buffer + at : NULL, s->size - at, format, args);

	va_end(args);
	s->length += n > 0 ? (size_t)n : 0;
}

static void text_head(struct sink *s, const mla_plan_info *i, const mla_config *c)
{
	put(s, "plan        %s\n", i->kernel[0] ? i->kernel : "(for traits, no kernel)");
	put(s, "batch       %d requests, %d queries x %d heads%s\n", i->batch_size, i->total_q,
	    c->num_heads, c->causal ? ", causal" : "");
	put(s, "tiles       %d packed rows, splits at multiples of %d keys\n", i->traits.tile_rows,
	    c->fixed_split ? c->fixed_split : i->traits.kv_granule);
	put(s, "workers     %d, cost in keys: busiest %" PRId64 ", mean %" PRId64 "\n",
	    i->num_workers, i->max_worker_cost, i->mean_worker_cost);
	put(s, "items       %d (capacity %d)\n", i->num_items, i->max_items);
	put(s, "merges      %d (capacity %d), partial rows %" PRId64 " (capacity %" PRId64 ")\n",
	    i->num_merges, i->max_merges, i->partial_rows, i->max_partial_rows);
	put(s, "memory      plan %" PRId64 " bytes, scratch %" PRId64 " bytes\n", i->blob_bytes,
	    i->scratch_bytes);
}

static void text(struct sink *s, const mla_plan *plan, const mla_plan_info *info)
{
	text_head(s, info, &plan->config);
	put(s, "\n%6s %8s %15s %17s  %s\n", "worker", "request", "packed rows", "keys", "writes");
	for (int32_t w = 0; w < info->num_workers; w++)
		for (int32_t i = plan->worker_begin[w]; i < plan->worker_begin[w + 1]; i++) {
			const mla_work *item = &plan->items[i];

			put(s, "%6d %8d %7d..%-7d %8d..%-8d ", w, item->request, item->row_begin,
			    item->row_end, item->kv_begin, item->kv_end);
			if (item->partial < 0)
				put(s, "out\n");
			else
				put(s, "partial %d\n", item->partial);
		}
	for (int32_t m = 0; m < info->num_merges; m++) {
		const mla_merge_item *item = &plan->merges[m];

		put(s, "merge  batch rows %d..%d from %d splits at partial %d\n", item->row_begin,
		    item->row_begin + item->rows, item->num_splits, item->partial);
	}
}

static void json(struct sink *s, const mla_plan *plan, const mla_plan_info *i)
{
	const mla_config *c = &plan->config;

	put(s,
	    "{\n  \"kernel\": \"%s\", \"batch_size\": %d, \"total_q\": %d, \"num_heads\": %d,\n"
	    "  \"causal\": %d, \"fixed_split\": %d, \"tile_rows\": %d, \"kv_granule\": %d,\n"
	    "  \"num_workers\": %d, \"max_worker_cost\": %" PRId64
	    ", \"mean_worker_cost\": %" PRId64 ",\n  \"partial_rows\": %" PRId64
	    ", \"blob_bytes\": %" PRId64 ", \"scratch_bytes\": %" PRId64 ",\n  \"items\": [",
	    i->kernel, i->batch_size, i->total_q, c->num_heads, c->causal, c->fixed_split,
	    i->traits.tile_rows, i->traits.kv_granule, i->num_workers, i->max_worker_cost,
	    i->mean_worker_cost, i->partial_rows, i->blob_bytes, i->scratch_bytes);

	const char *separator = "";

	for (int32_t w = 0; w < i->num_workers; w++)
		for (int32_t k = plan->worker_begin[w]; k < plan->worker_begin[w + 1]; k++) {
			const mla_work *item = &plan->items[k];

			put(s,
			    "%s\n    {\"worker\": %d, \"request\": %d, \"rows\": [%d, %d], "
			    "\"keys\": [%d, %d], \"partial\": %d}",
			    separator, w, item->request, item->row_begin, item->row_end,
			    item->kv_begin, item->kv_end, item->partial);
			separator = ",";
		}
	put(s, "],\n  \"merges\": [");
	separator = "";
	for (int32_t m = 0; m < i->num_merges; m++) {
		const mla_merge_item *item = &plan->merges[m];

		put(s,
		    "%s\n    {\"row_begin\": %d, \"rows\": %d, \"partial\": %d, \"num_splits\": "
		    "%d}",
		    separator, item->row_begin, item->rows, item->partial, item->num_splits);
		separator = ",";
	}
	put(s, "]\n}\n");
}

size_t mla_plan_format(const mla_plan *plan, int as_json, char *buffer, size_t size)
{
	struct sink sink = {.buffer = buffer, .size = buffer ? size : 0};
	mla_plan_info info = {.struct_size = sizeof(info)};

	if (buffer && size)
		buffer[0] = '\0';
	if (mla_plan_get_info(plan, &info))
		return 0;
	if (info.batch_size < 0)
		put(&sink, as_json ? "{\"batch_size\": null}\n" : "plan without a batch\n");
	else if (as_json)
		json(&sink, plan, &info);
	else
		text(&sink, plan, &info);
	return sink.length;
}
