/* adversarial.c - random cases: each number of the contract is drawn up to a limit of its own,
 * which tests/README.md states. Round numbers and their neighbours come as often as others, because
 * that is where tiles end; where many things are counted, what is counted is tiny.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "case/generate.h"
#include "reference/reference.h"

enum { STREAM_SHAPES = 4 }; /* of the seed; generate.c has the others */

enum {
	FEW_REQUESTS = 9,
	MOST_REQUESTS = 1400,
	MOST_ROWS = 70000,         /* packed rows of a case */
	MOST_ELEMENTS = 1 << 20,   /* of its output */
	POOL_BYTES = 12 << 20,     /* of its cache ... */
	FAR_POOL_BYTES = 96 << 20, /* ... and of the few that have many pages of DeepSeek's size */
	MODEL_ALIGNMENT = 16,      /* what a kernel for DeepSeek's dimensions may ask for */
};

/* Multiply-adds of a case. A score costs as much as EXTRA of them besides. */
static const double most_work = 5e7, most_tiny_work = 2e7;
enum { EXTRA = 16 };

enum dims {
	DIMS_DEEPSEEK, /* what most kernels are made for */
	DIMS_OTHER,
	DIMS_TINY, /* where there can be many of everything else */
};

/* What a case has many of. Everything at once would be too much work, and one of many things is
 * enough to show who counts it in too few bits. */
enum theme { THEME_NOTHING, THEME_KEYS, THEME_QUERIES, THEME_REQUESTS, THEME_HEADS };

struct draw {
	uint64_t state;
	int n; /* of the sequence: kinds take turns by it */
	struct generate_spec spec;
	enum dims dims;
	enum theme theme;
	int64_t rows; /* left for further requests */
	double work;
	int32_t qo_len[MOST_REQUESTS], kv_len[MOST_REQUESTS], q_pos0[MOST_REQUESTS];
};

#define PICK(d, list) ((list)[below((d), (int64_t)(sizeof(list) / sizeof((list)[0])))])

static int32_t below(struct draw *d, int64_t n)
{
	return (int32_t)random_below(&d->state, n);
}

static bool one_in(struct draw *d, int64_t n)
{
	return below(d, n) == 0;
}

/* ---- config ---------------------------------------------------------------------------------- */

/* In turns and not by chance, so that sixteen cases in a row have them all. */
static void draw_kind(struct draw *d)
{
	static const struct {
		enum dims dims;
		enum theme theme;
	} turns[] = {
		{DIMS_DEEPSEEK, THEME_NOTHING},  {DIMS_TINY, THEME_KEYS},
		{DIMS_DEEPSEEK, THEME_KEYS},     {DIMS_TINY, THEME_REQUESTS},
		{DIMS_DEEPSEEK, THEME_NOTHING},  {DIMS_TINY, THEME_QUERIES},
		{DIMS_DEEPSEEK, THEME_QUERIES},  {DIMS_OTHER, THEME_NOTHING},
		{DIMS_DEEPSEEK, THEME_NOTHING},  {DIMS_TINY, THEME_KEYS},
		{DIMS_DEEPSEEK, THEME_HEADS},    {DIMS_OTHER, THEME_NOTHING},
		{DIMS_DEEPSEEK, THEME_NOTHING},  {DIMS_TINY, THEME_HEADS},
		{DIMS_DEEPSEEK, THEME_REQUESTS}, {DIMS_OTHER, THEME_NOTHING},
	};
	static const enum theme others[] = {THEME_NOTHING, THEME_NOTHING, THEME_KEYS,
					    THEME_QUERIES, THEME_HEADS,   THEME_REQUESTS};

	d->dims = turns[d->n % 16].dims;
	d->theme = turns[d->n % 16].theme;
	if (d->n % 16 == 15)
		d->theme = PICK(d, others);
}

/* Others: wider than DeepSeek's, without rope, or some that are not round. */
static void draw_dims(struct draw *d)
{
	static const int32_t others[][2] = {{32, 0},   {100, 10},   {576, 64}, {512, 0}, {64, 16},
					    {128, 64}, {1024, 128}, {256, 64}, {512, 1}, {511, 65}};
	mla_config *config = &d->spec.config;

	config->head_dim_ckv = 512;
	config->head_dim_kpe = 64;
	if (d->dims == DIMS_TINY) {
		config->head_dim_ckv = 1 + below(d, 8);
		config->head_dim_kpe = below(d, 5);
	} else if (d->dims == DIMS_OTHER && d->n / 4 % 4 == 1) {
		config->head_dim_ckv = one_in(d, 2) ? 1024 : 1024 - below(d, 512);
		config->head_dim_kpe = one_in(d, 2) ? 128 : 128 - below(d, 64);
	} else if (d->dims == DIMS_OTHER && d->n / 4 % 4 == 2) {
		config->head_dim_ckv = 9 + below(d, 504);
		config->head_dim_kpe = 0;
	} else if (d->dims == DIMS_OTHER && one_in(d, 2)) {
		config->head_dim_ckv = 1 + below(d, 512);
		config->head_dim_kpe = 1 + below(d, 64);
	} else if (d->dims == DIMS_OTHER) {
		const int64_t other = below(d, sizeof(others) / sizeof(others[0]));

		config->head_dim_ckv = others[other][0];
		config->head_dim_kpe = others[other][1];
	}
}

/* DeepSeek's dimensions have mostly those that kernels take. Of others nine cases in a row have
 * each pair of dtypes in each pair of places. */
static void draw_dtypes(struct draw *d)
{
	static const int32_t sixteen[] = {MLA_BF16, MLA_F16};
	static const int32_t any[] = {MLA_F32, MLA_BF16, MLA_F16};
	const int32_t usual = one_in(d, 3) ? MLA_F16 : MLA_BF16;
	mla_config *config = &d->spec.config;
	const int turn = d->n / 2, a = turn % 3, b = turn / 3 % 3;

	config->q_dtype = config->ckv_dtype = config->kpe_dtype = config->out_dtype = usual;
	if (one_in(d, 4))
		config->out_dtype = PICK(d, any);
	if (one_in(d, 6))
		config->kpe_dtype = PICK(d, sixteen);
	if (d->dims != DIMS_DEEPSEEK) {
		config->q_dtype = any[a];
		config->ckv_dtype = any[b];
		config->kpe_dtype = any[(a + b) % 3];
		config->out_dtype = any[(a + 2 * b) % 3];
	} else if (one_in(d, 8)) {
		config->q_dtype = PICK(d, any);
		config->ckv_dtype = PICK(d, any);
		config->kpe_dtype = PICK(d, any);
		config->out_dtype = PICK(d, any);
	}
}

/* Of DeepSeek's dimensions around each number of whole tiles, in turns. */
static int32_t draw_heads(struct draw *d)
{
	static const int32_t models[] = {1, 3, 9, 16, 63, 64, 96, 126, 128};
	static const int32_t more[] = {129, 136, 192, 200, 255, 256, 257, 300, 384, 512};
	static const int32_t most[] = {65537, 65600, MOST_ROWS};

	if (d->theme == THEME_KEYS || d->theme == THEME_QUERIES)
		return 1 + below(d, 4);
	if (d->theme == THEME_HEADS && d->dims == DIMS_TINY)
		return d->n % 32 < 16 ? PICK(d, most) : 257 + below(d, MOST_ROWS - 257);
	if (d->theme == THEME_HEADS)
		return PICK(d, more);
	if (d->dims == DIMS_DEEPSEEK && d->n % 16 == 8)
		return 65 + below(d, 63);
	if (d->dims == DIMS_DEEPSEEK && d->n % 16 == 12)
		return 17 + below(d, 120);
	return one_in(d, 4) ? 1 + below(d, 136) : PICK(d, models);
}

/* Many keys on huge pages, on tiny ones, and on some between, in turns. */
static int32_t draw_page_size(struct draw *d)
{
	static const int32_t usual[] = {1, 3, 16, 32, 64, 64, 64, 100, 128, 768, 1000, 2048};
	static const int32_t large[] = {600, 1000, 1024, 2048, 3000, 4096, 10000};
	static const int32_t huge[] = {65536, 66000, 1 << 17};

	if (d->dims == DIMS_TINY && d->theme == THEME_KEYS && d->n / 8 % 3 < 2)
		return d->n / 8 % 3 ? 1 : PICK(d, huge);
	if (d->dims == DIMS_TINY && d->theme == THEME_KEYS)
		return PICK(d, large);
	if (d->dims == DIMS_TINY && one_in(d, 2))
		return 1 + below(d, 4);
	return one_in(d, 5) ? 1 + below(d, 300) : PICK(d, usual);
}

/* A model's, any within reach of one, or one that f32 just takes; one in three is negative. */
static double draw_scale(struct draw *d)
{
	static const double models[] = {0.1352337788608801, 0.07216878364870323, 1 / 24.0, 0.3};
	static const double extremes[] = {1e30, 1e-30, 1e4, 1e-12, 1e12, 1e-5};
	double scale = PICK(d, models);

	if (one_in(d, 4))
		scale = ldexp(1 + below(d, 1000) / 1000.0, below(d, 18) - 13);
	if (d->n % 8 == 3)
		scale = extremes[d->n / 8 % 6];
	return one_in(d, 3) ? -scale : scale;
}

static void draw_config(struct draw *d)
{
	mla_config *config = &d->spec.config;

	draw_kind(d);
	draw_dims(d);
	draw_dtypes(d);
	config->num_heads = draw_heads(d);
	config->page_size = draw_page_size(d);
	config->sm_scale = draw_scale(d);
	config->causal = one_in(d, d->theme == THEME_KEYS
					   ? 2
					   : 3); /* and where NaN keys or single ones ask for it */
	config->lse_base = one_in(d, 2) ? MLA_LSE_BASE2 : MLA_LSE_NATURAL;
}

static int64_t slot_bytes(const mla_config *config)
{
	return config->head_dim_ckv * ref_dtype_size(config->ckv_dtype) +
	       config->head_dim_kpe * ref_dtype_size(config->kpe_dtype);
}

/* ---- batch ----------------------------------------------------------------------------------- */

static int32_t smaller(int64_t a, int64_t b)
{
	return (int32_t)(a < b ? a : b);
}

/* Who of a batch has nothing to do, in turns. */
enum idle { IDLE_NONE, IDLE_BUT_LAST, IDLE_WITHOUT_KEYS, IDLE_BUT_FIRST, IDLE_ENDS };

static enum idle idle_of(const struct draw *d)
{
	return d->dims == DIMS_DEEPSEEK && d->n % 8 == 0 ? (enum idle)(d->n / 8 % 5) : IDLE_NONE;
}

/* Without queries: all but the last, or all but the first. Without keys: all. At the ends: a first
 * request without queries, a last one without keys. */
static void draw_idle(struct draw *d)
{
	const enum idle idle = idle_of(d);
	const int32_t last = d->spec.batch_size - 1;

	for (int32_t r = 0; r <= last && idle; r++) {
		if (idle == IDLE_WITHOUT_KEYS || (idle == IDLE_ENDS && r == last))
			d->kv_len[r] = 0;
		if (r == (idle == IDLE_BUT_FIRST ? 0 : last))
			d->qo_len[r] += d->qo_len[r] == 0;
		else if (r == 0 || idle == IDLE_BUT_LAST || idle == IDLE_BUT_FIRST)
			d->qo_len[r] = idle == IDLE_WITHOUT_KEYS;
	}
}

/* Heads and page sizes give way to the number of requests, for which a row and a page each must
 * do. */
static void draw_batch_size(struct draw *d)
{
	mla_config *config = &d->spec.config;
	int32_t n = d->n % 32 == 20 ? 0 : 1 + below(d, FEW_REQUESTS);
	int64_t places;

	if (idle_of(d))
		n = 2 + below(d, FEW_REQUESTS - 1);
	if (config->num_heads > MOST_ROWS / 2)
		n = 1;
	if (d->theme == THEME_REQUESTS)
		n = one_in(d, 3) ? 257 + below(d, 768) : 1025 + below(d, MOST_REQUESTS - 1025);
	places = n > 0 ? n : 1;
	d->spec.batch_size = n;
	d->rows = smaller(MOST_ROWS, MOST_ELEMENTS / config->head_dim_ckv);
	d->work = d->dims == DIMS_TINY ? most_tiny_work : most_work;
	config->num_heads = smaller(config->num_heads, d->rows > places ? d->rows / places : 1);
	config->page_size =
		smaller(config->page_size, POOL_BYTES / (slot_bytes(config) * places) + 1);
}

/* The theme is there for the first request at least. */
static bool themed(struct draw *d, enum theme theme, int32_t r)
{
	return d->theme == theme && (r == 0 || one_in(d, 2));
}

static int32_t draw_kv_len(struct draw *d, int32_t r)
{
	static const int32_t usual[] = {0, 1, 17, 63, 64, 65, 97, 128, 514};
	static const int32_t round[] = {256, 512, 1000, 1024, 1024, 1024, 1536, 2048, 2048, 4096};
	static const int32_t far[] = {8192, 8200, 10000, 16384, 20000, 24576};
	static const int32_t farther[] = {10000, 20000, 32768, 40000, 65536, 66000};

	if (d->theme == THEME_REQUESTS && !one_in(d, 300))
		return one_in(d, 8) ? 0 : below(d, 40);
	if (themed(d, THEME_QUERIES, r))
		return 1 + below(d, d->dims == DIMS_TINY && r == 0 ? 60 : 300);
	if (d->theme == THEME_HEADS && r == 0)
		return 1 + below(d, 100);
	if (d->dims == DIMS_TINY && d->theme == THEME_KEYS && r == 0 && d->n / 8 % 3 < 2)
		return 65537 + below(d, 4000);
	if (themed(d, THEME_KEYS, r))
		return (d->dims == DIMS_TINY ? PICK(d, farther) : PICK(d, far)) + below(d, 3) - 1;
	if (one_in(d, d->theme == THEME_KEYS || d->dims == DIMS_TINY ? 2 : 3))
		return PICK(d, round) + (one_in(d, 3) ? below(d, 3) - 1 : 0);
	return one_in(d, 6) ? 1000 + below(d, 8000) : PICK(d, usual);
}

static int32_t draw_qo_len(struct draw *d, int32_t r)
{
	static const int32_t usual[] = {1, 1, 1, 1, 0, 2, 3, 4, 9, 17};

	if (d->theme == THEME_REQUESTS && !one_in(d, 300))
		return one_in(d, 6) ? below(d, 4) : 1;
	if (themed(d, THEME_QUERIES, r))
		return d->dims == DIMS_TINY && (r == 0 || one_in(d, 2)) ? 1000 + below(d, 3000)
									: 65 + below(d, 260);
	if (d->theme == THEME_KEYS || (d->theme == THEME_HEADS && r == 0))
		return 1 + below(d, 2);
	return one_in(d, 10) ? d->kv_len[r] % 100 + 3 /* more than keys, mostly */
			     : PICK(d, usual);
}

/* Cuts a request down to half of what work and rows are left: queries first, then keys, to a round
 * number now and then. */
static void fit_request(struct draw *d, int32_t r)
{
	const mla_config *config = &d->spec.config;
	const double row =
		(2.0 * config->head_dim_ckv + config->head_dim_kpe + EXTRA) * config->num_heads;
	const double most = d->work / 2;
	int32_t qo_len = smaller(d->qo_len[r], d->rows / config->num_heads);
	int32_t kv_len = d->kv_len[r];

	if (row * qo_len * kv_len > most && qo_len > 1)
		qo_len = (int32_t)fmax(most / (row * kv_len), 1);
	if (row * qo_len * kv_len > most) {
		const int32_t fits = (int32_t)fmax(most / (row * qo_len), 1);
		int32_t round = 1;

		while (round <= fits / 2)
			round *= 2;
		kv_len = one_in(d, 2) ? round : fits;
	}
	d->work -= row * qo_len * kv_len;
	d->rows -= (int64_t)qo_len * config->num_heads;
	d->qo_len[r] = qo_len;
	d->kv_len[r] = kv_len;
}

/* Around the keys, or beyond what 15 or 16 bits hold, up to the limits of the contract. */
static int32_t draw_q_pos0(struct draw *d, int32_t kv_len)
{
	const int32_t beyond = (1 + below(d, 3)) * 65536 + below(d, kv_len + 1);

	switch (below(d, 8)) {
	case 0:
		return beyond;
	case 1:
		return kv_len - beyond;
	case 2:
		return one_in(d, 2) ? 1 << 30 : -(1 << 30);
	default:
		return below(d, kv_len + 20) - 10;
	}
}

static void draw_requests(struct draw *d)
{
	for (int32_t r = 0; r < d->spec.batch_size; r++) {
		d->kv_len[r] = draw_kv_len(d, r);
		d->qo_len[r] = draw_qo_len(d, r);
		fit_request(d, r);
		d->q_pos0[r] = draw_q_pos0(d, d->kv_len[r]);
	}
	draw_idle(d);
	d->spec.q_pos0 = one_in(d, 2) ? d->q_pos0 : NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Page ids of more than 15 and 16 bits, where such a pool is small; seldom where it is not. */
static void draw_pages(struct draw *d)
{
	static const enum generate_pages orders[] = {
		GENERATE_PAGES_SHUFFLED, GENERATE_PAGES_SHUFFLED, GENERATE_PAGES_SHARED,
		GENERATE_PAGES_REPEATED, GENERATE_PAGES_REPEATED, GENERATE_PAGES_CONTIGUOUS};
	struct generate_spec *spec = &d->spec;
	const bool tiny = d->dims == DIMS_TINY;
	const int32_t many = 66000 + below(d, 17000);
	const int64_t most = (tiny ? POOL_BYTES : FAR_POOL_BYTES) / many;
	const int64_t fits = most / slot_bytes(&spec->config);
	const bool far = tiny ? one_in(d, 2) && spec->config.page_size <= 512 : d->n % 48 == 24;

	spec->pages = PICK(d, orders);
	spec->extra_pages = below(d, 5);
	if (far && fits > 0) {
		spec->config.page_size = smaller(spec->config.page_size, tiny ? fits : 1);
		spec->extra_pages = many;
		if (spec->pages == GENERATE_PAGES_CONTIGUOUS)
			spec->pages = GENERATE_PAGES_SHUFFLED;
	}
	spec->table_gap = one_in(d, 5) ? 65 + below(d, 300) : below(d, 4);
}

/* A kernel for DeepSeek's dimensions that loads 16 bytes at a time refuses what is not aligned. */
static int32_t draw_gaps(struct draw *d)
{
	const mla_config *config = &d->spec.config;
	const bool model = d->dims == DIMS_DEEPSEEK && config->q_dtype != MLA_F32 &&
			   config->q_dtype == config->ckv_dtype &&
			   config->q_dtype == config->kpe_dtype;

	return __builtin_parity((unsigned)d->n) == 0 ? 0 : model ? MODEL_ALIGNMENT : 1;
}

/* Scores so large that f32 cannot weigh two of them: each query sees one key, or none. */
static void draw_lonely(struct draw *d)
{
	d->spec.values = GENERATE_FARTHEST;
	d->spec.config.causal = 1;
	d->spec.q_pos0 = d->q_pos0;
	for (int32_t r = 0; r < d->spec.batch_size; r++) {
		d->q_pos0[r] = -(int32_t)one_in(d, 3);
		d->qo_len[r] = smaller(d->qo_len[r], 1 - d->q_pos0[r]);
	}
}

static void draw_values(struct draw *d)
{
	static const enum generate_values values[] = {
		GENERATE_PEAKED, GENERATE_PEAKED, GENERATE_PEAKED, GENERATE_NORMAL, GENERATE_NORMAL,
		GENERATE_FLAT,   GENERATE_HUGE,   GENERATE_FAR,    GENERATE_FAR,    GENERATE_FAR};
	const mla_config *config = &d->spec.config;

	d->spec.values = PICK(d, values);
	/* Of peaked attention a few keys decide, of a first request the last ones; of flat ones
	 * every key counts. */
	if (d->theme == THEME_KEYS && d->dims == DIMS_TINY && d->n / 8 % 3 < 2)
		d->spec.values = GENERATE_PEAKED;
	else if (d->theme == THEME_KEYS && one_in(d, 2))
		d->spec.values =
			d->dims == DIMS_TINY && one_in(d, 2) ? GENERATE_FLAT : GENERATE_NORMAL;
	/* Of scores in the thousands f32 is off by more than fp16's bounds allow. */
	if (d->spec.values == GENERATE_FAR && config->out_dtype != MLA_BF16 &&
	    config->ckv_dtype != MLA_BF16)
		d->spec.values = GENERATE_HUGE;
	if (d->n % 16 == 4 || (d->theme == THEME_NOTHING && one_in(d, 6)))
		draw_lonely(d);
	d->spec.fused = one_in(d, 2);
	d->spec.nan_rows = one_in(d, 3) ? 1 + below(d, 40) : 0;
	d->spec.nan_keys = one_in(d, 4) ? 1 + below(d, 2) : 0;
	if (d->spec.nan_keys)
		d->spec.config.causal = 1;
}

/* Values that bf16 and f32 hold and fp16 does not; a scale near f32's limits leaves no room for it.
 */
static int32_t draw_key_exponent(struct draw *d)
{
	static const int32_t exponents[] = {0, 0, 24, -24, 17, -40};
	const mla_config *config = &d->spec.config;
	const double size = fabs(config->sm_scale);
	const int32_t exponent = PICK(d, exponents);
	const bool wide = config->q_dtype != MLA_F16 && config->ckv_dtype != MLA_F16 &&
			  (config->kpe_dtype != MLA_F16 || config->head_dim_kpe == 0) &&
			  config->out_dtype != MLA_F16;

	return wide && size > 1e-6 && size < 1e6 ? exponent : 0;
}

mla_status generate_adversarial(uint64_t seed, int n, struct mla_case *c)
{
	struct draw d = {.state = random_state(seed, STREAM_SHAPES, (uint64_t)n), .n = n};
	mla_status status;

	d.spec.seed = random_next(&d.state);
	d.spec.qo_len = d.qo_len;
	d.spec.kv_len = d.kv_len;
	draw_config(&d);
	draw_batch_size(&d);
	draw_requests(&d);
	draw_pages(&d);
	d.spec.gaps = draw_gaps(&d);
	draw_values(&d);
	d.spec.key_exponent = draw_key_exponent(&d);
	d.spec.no_lse = n % 12 == 10;
	status = generate_case(&d.spec, c);
	if (!status)
		snprintf(c->name, sizeof(c->name), "random:%llu.%d", (unsigned long long)seed, n);
	return status;
}
