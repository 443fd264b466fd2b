/* shape.c - the shape of a generated case from flags, for make, plan and bench.
 */
#include "cli/shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"
#include "reference/reference.h"

enum {
	OPT_HEADS = 0x400,
	OPT_QO_LEN,
	OPT_KV_LEN,
	OPT_PAGE_SIZE,
	OPT_CAUSAL,
	OPT_PEAKED,
	OPT_NORMAL,
	OPT_FLAT,
	OPT_HUGE,
	OPT_DTYPE,
	OPT_OUT_DTYPE,
	OPT_FUSED,
	OPT_PAGES,
	OPT_Q_POS0,
	OPT_LSE_BASE,
	OPT_SCALE,
	OPT_CKV_DIM,
	OPT_KPE_DIM,
	OPT_SHAPE_SEED,
};

static const struct argp_option options[] = {
	{0, 0, 0, 0, "Shape of a generated case:", 1},
	{"batch", 'B', "N", 0, "Requests (default: as many as the lists name)", 1},
	{"heads", OPT_HEADS, "N", 0, "Query heads (default 128)", 1},
	{"qo-len", OPT_QO_LEN, "LIST", 0, "Queries per request: 1, or 1,2,0 (default 1)", 1},
	{"kv-len", OPT_KV_LEN, "LIST", 0,
	 "Keys per request: 4096, or 1000,2000, or uniform:LOW-HIGH (default 1024)", 1},
	{"q-pos0", OPT_Q_POS0, "LIST", 0,
	 "Key position of each request's first query, if causal (default kv-len - qo-len)", 1},
	{"page-size", OPT_PAGE_SIZE, "N", 0, "Keys per page (default 64)", 1},
	{"causal", OPT_CAUSAL, 0, 0, "A query sees no later key (default: it sees all)", 1},
	{"ckv-dim", OPT_CKV_DIM, "N", 0, "Width of the latent (default 512)", 1},
	{"kpe-dim", OPT_KPE_DIM, "N", 0, "Width of the rotated part, 0 for none (default 64)", 1},
	{"dtype", OPT_DTYPE, "TYPE", 0, "q, ckv and kpe: bf16, fp16 or f32 (default bf16)", 1},
	{"out-dtype", OPT_OUT_DTYPE, "TYPE", 0, "Outputs: bf16, fp16 or f32 (default: --dtype)", 1},
	{"lse-base", OPT_LSE_BASE, "BASE", 0, "natural or 2 (default natural)", 1},
	{"scale", OPT_SCALE, "X", 0, "Softmax scale (default 192^-0.5)", 1},
	{0, 0, 0, 0, "Values of a generated case:", 2},
	{"peaked", OPT_PEAKED, 0, 0, "A few keys carry most of the weight (default)", 2},
	{"normal", OPT_NORMAL, 0, 0, "N(0,1): nearly flat attention", 2},
	{"flat", OPT_FLAT, 0, 0, "All scores nearly equal", 2},
	{"huge", OPT_HUGE, 0, 0, "Scores of several hundred, both signs", 2},
	{"pages", OPT_PAGES, "ORDER", 0, "shuffled, contiguous or shared (default shuffled)", 2},
	{"fused", OPT_FUSED, 0, 0, "ckv and kpe are views of one buffer", 2},
	{"seed", OPT_SHAPE_SEED, "N", 0, "Same seed, same bits (default 1)", 2},
	{0},
};

static const char *const page_orders[] = {"shuffled", "contiguous", "shared"};
static const char *const lse_bases[] = {"natural", "2"};

#define MAX_LEN (1L << 30)

void cli_shape_init(struct cli_shape *shape)
{
	*shape = (struct cli_shape){.high = -1,
				    .spec = {.seed = 1,
					     .values = GENERATE_PEAKED,
					     .pages = GENERATE_PAGES_SHUFFLED,
					     .config = {.struct_size = sizeof(mla_config),
							.num_heads = 128,
							.head_dim_ckv = 512,
							.head_dim_kpe = 64,
							.page_size = 64,
							.out_dtype = -1,
							.sm_scale = 1 / sqrt(192)}}};
}

void cli_shape_free(struct cli_shape *shape)
{
	cli_ints_free(&shape->qo_len);
	cli_ints_free(&shape->kv_len);
	cli_ints_free(&shape->q_pos0);
}

static void parse_kv_len(struct cli_shape *shape, const char *text, struct argp_state *state)
{
	static const char uniform[] = "uniform:";

	if (strncmp(text, uniform, sizeof(uniform) - 1)) {
		cli_int_list(state, "--kv-len", text, 0, MAX_LEN, &shape->kv_len);
		return;
	}

	const char *range = text + sizeof(uniform) - 1, *dash = strchr(range, '-');
	char low[32];

	if (!dash || (size_t)(dash - range) >= sizeof(low))
		cli_error(state, "--kv-len: found \"%s\", expected uniform:LOW-HIGH", text);
	snprintf(low, sizeof(low), "%.*s", (int)(dash - range), range);
	shape->low = cli_integer(state, "--kv-len", low, 0, MAX_LEN);
	shape->high = cli_integer(state, "--kv-len", dash + 1, shape->low, MAX_LEN);
}

/* Options whose value is a number that goes to one place. */
static bool parse_number(int key, const char *text, struct cli_shape *shape,
			 struct argp_state *state)
{
	mla_config *config = &shape->spec.config;
	const struct {
		int key;
		const char *option;
		int32_t *place;
		long low, high;
	} table[] = {
		{OPT_HEADS, "--heads", &config->num_heads, 1, 1 << 16},
		{OPT_PAGE_SIZE, "--page-size", &config->page_size, 1, 1 << 20},
		{OPT_CKV_DIM, "--ckv-dim", &config->head_dim_ckv, 1, 1 << 16},
		{OPT_KPE_DIM, "--kpe-dim", &config->head_dim_kpe, 0, 1 << 16},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].key == key) {
			*table[i].place = (int32_t)cli_integer(state, table[i].option, text,
							       table[i].low, table[i].high);
			return true;
		}
	return false;
}

/* One value for all, or one for each. */
static void spread(struct cli_ints *list, const char *option, long n, int missing,
		   struct argp_state *state)
{
	if (list->count == n)
		return;
	if (list->count > 1)
		cli_error(state, "%s names %d requests, the batch has %ld", option, list->count, n);

	const int value = list->count ? list->values[0] : missing;
	int *values = text_alloc((size_t)n * sizeof(*values));

	for (long i = 0; i < n; i++)
		values[i] = value;
	free(list->values);
	*list = (struct cli_ints){values, (int)n, (int)n};
}

static long largest(long a, long b)
{
	return a > b ? a : b;
}

static void resolve(struct cli_shape *shape, struct argp_state *state)
{
	struct generate_spec *spec = &shape->spec;
	long n = shape->batch_size;

	if (n == 0)
		n = largest(largest(shape->qo_len.count, shape->kv_len.count),
			    largest(shape->q_pos0.count, 1));
	spread(&shape->qo_len, "--qo-len", n, 1, state);
	if (shape->high >= 0 && shape->kv_len.count)
		cli_error(state, "--kv-len: a list and uniform: exclude each other");
	spread(&shape->kv_len, "--kv-len", n, 1024, state);

	/* The lengths depend on the seed, on every machine alike. */
	for (long b = 0; b < n && shape->high >= 0; b++)
		shape->kv_len.values[b] =
			(int)(shape->low + (long)(random_number(spec->seed, (uint64_t)b) %
						  (uint64_t)(shape->high - shape->low + 1)));
	if (shape->q_pos0.count && !spec->config.causal)
		cli_error(state, "--q-pos0 has a meaning only with --causal");
	if (shape->q_pos0.count)
		spread(&shape->q_pos0, "--q-pos0", n, 0, state);
	if (spec->config.out_dtype < 0)
		spec->config.out_dtype = spec->config.q_dtype;
	spec->batch_size = (int32_t)n;
	spec->qo_len = shape->qo_len.values;
	spec->kv_len = shape->kv_len.values;
	spec->q_pos0 = shape->q_pos0.values;
}

static error_t parse_config(int key, char *arg, struct cli_shape *shape, struct argp_state *state)
{
	mla_config *config = &shape->spec.config;

	switch (key) {
	case OPT_CAUSAL:
		config->causal = 1;
		return 0;
	case OPT_DTYPE:
		config->q_dtype = cli_choice(state, "--dtype", arg, ref_dtype_names, MLA_E4M3);
		config->ckv_dtype = config->kpe_dtype = config->q_dtype;
		return 0;
	case OPT_OUT_DTYPE:
		config->out_dtype =
			cli_choice(state, "--out-dtype", arg, ref_dtype_names, MLA_E4M3);
		return 0;
	case OPT_LSE_BASE:
		config->lse_base = cli_choice(state, "--lse-base", arg, lse_bases, 2);
		return 0;
	case OPT_SCALE:
		config->sm_scale = cli_scale(state, "--scale", arg);
		return 0;
	}
	return parse_number(key, arg, shape, state) ? 0 : ARGP_ERR_UNKNOWN;
}

static error_t parse_values(int key, char *arg, struct cli_shape *shape, struct argp_state *state)
{
	switch (key) {
	case 'B':
		shape->batch_size = cli_integer(state, "--batch", arg, 1, MAX_LEN >> 10);
		return 0;
	case OPT_QO_LEN:
		cli_int_list(state, "--qo-len", arg, 0, MAX_LEN, &shape->qo_len);
		return 0;
	case OPT_KV_LEN:
		parse_kv_len(shape, arg, state);
		return 0;
	case OPT_Q_POS0:
		cli_int_list(state, "--q-pos0", arg, -MAX_LEN, MAX_LEN, &shape->q_pos0);
		return 0;
	case OPT_PEAKED:
	case OPT_NORMAL:
	case OPT_FLAT:
	case OPT_HUGE:
		shape->spec.values = (enum generate_values)(key - OPT_PEAKED + GENERATE_PEAKED);
		return 0;
	case OPT_PAGES:
		shape->spec.pages =
			(enum generate_pages)cli_choice(state, "--pages", arg, page_orders, 3);
		return 0;
	case OPT_FUSED:
		shape->spec.fused = 1;
		return 0;
	case OPT_SHAPE_SEED:
		shape->spec.seed = (uint64_t)cli_integer(state, "--seed", arg, 0, INT64_MAX);
		return 0;
	}
	return parse_config(key, arg, shape, state);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct cli_shape *shape = state->input;

	if (key == ARGP_KEY_END) {
		resolve(shape, state);
		return 0;
	}

	const error_t error = parse_values(key, arg, shape, state);

	shape->given |= !error;
	return error;
}

const struct argp cli_shape_argp = {.options = options, .parser = parse};
