/* parts.cu - runs every part, and writes down what a GPU gives or holds the emulator against it.
 *
 *     parts --record FILE     on a GPU
 *     parts --compare FILE    in the emulator, or on another GPU
 *
 * Inputs are made from a seed and not written down; their checksum is. A record is text: a line
 * "part NAME WORDS" and then the words, eight a line, for each part.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include <memory>

#include "parts/tensor_map.cuh"
#include "tests/emulated/case.cuh"
#include "tests/emulated/parts/parts.cuh"

enum { SEED = 1, MOST_PARTS = 256, NAME = 64 /* characters, with the end */ };

/* ---- inputs ---------------------------------------------------------------------------------- */

/* The first PART_PAIRED are paired with each other. Then those where conversions to fp16 and bf16
 * and exponentials change their ways. */
static const uint32_t special[] = {
	0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fffffff, 0xffc12345, 0x3f800000,
	0xbf800000, 0x00800000, 0x00000001, 0x807fffff, 0x7f7fffff, 0xff7fffff, 0x3f000000,
	0x40490fdb, 0xc77fe000, 0x7fc00000, 0x7f800001, 0x477fe000, 0x477fefff, 0x477ff000,
	0x38800000, 0x387fffff, 0x387fe000, 0x33800000, 0x33000000, 0x33000001, 0xb3000001,
	0x7f7f7fff, 0x7f7f8000, 0x00008000, 0x00008001, 0x00018000, 0x42fc0000, 0x42ff0000,
	0x43000000, 0xc2fc0000, 0xc2fe0000, 0xc3150000, 0xc3158000, 0xc3160000, 0x42b17217,
	0x42b17218, 0xc2aeac4f, 0xc2cff1b4, 0xc2ce8ed0, 0x3f7fffff, 0x3f800001,
};
enum { SPECIAL = sizeof(special) / sizeof(*special) };

static float from_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* Any bits; from -100 to 100; halfway between two values of bf16 and fp16, or nearly; near 1. */
static float make_float(int i, uint32_t word)
{
	static const uint32_t near[] = {0x7fff, 0x8000, 0x8001, 0x0fff, 0x1000, 0x1001};
	const uint32_t within_half = (104 + word % 46) << 23 | (word & 0x80000000);

	if (i % 4 == 0)
		return from_bits(word);
	if (i % 4 == 1)
		return (float)((int)(word % 2000001) - 1000000) / 10000.f;
	if (i % 4 == 2)
		return from_bits(within_half | (word >> 6 & 0x7f0000) | near[word % 6]);
	return 1.f + (float)((int)(word % 2001) - 1000) * 0x1p-14f;
}

static void make_inputs(part_inputs &inputs)
{
	uint64_t state = random_stream(SEED, 9);

	for (uint32_t &word : inputs.in)
		word = (uint32_t)random_next(&state);
	for (int i = 0; i < PART_FLOATS; i++)
		inputs.floats[i] = i < SPECIAL ? from_bits(special[i])
					       : make_float(i, (uint32_t)random_next(&state));
}

static uint32_t checksum_of(const part_inputs &inputs)
{
	uint32_t words[sizeof(inputs) / 4];
	uint64_t sum = 0;

	memcpy(words, &inputs, sizeof(inputs));
	for (uint32_t word : words)
		sum = random_mix(sum + word);
	return (uint32_t)sum;
}

/* ---- running --------------------------------------------------------------------------------- */

/* rows of 128 bytes at data, in up to four dimensions. */
static CUtensorMap make_map(test_case &c, const void *data, int rank, const int *extent,
			    const int *box)
{
	tensor_map map = {};
	tensor_map_shape shape = {};
	uint64_t stride = 2;

	shape.data = data;
	for (int i = 0; i < rank; i++) {
		shape.extent[i] = (uint64_t)extent[i];
		shape.box[i] = (uint32_t)box[i];
		if (i > 0)
			shape.stride[i - 1] = stride;
		stride *= shape.extent[i];
	}
	shape.dtype = MLA_BF16;
	shape.rank = (int16_t)rank;
	shape.swizzle = 128;
	if (!c.error)
		case_did(c, tensor_map_update(map, shape), "tensor map");
	return map.map;
}

static void make_maps(test_case &c, part_arguments &a)
{
	static const int extents[3][4] = {
		{PART_COLUMNS, 256}, {PART_COLUMNS, 16, 16}, {PART_COLUMNS, 8, 8, 4}};
	static const int boxes[3][4] = {
		{PART_COLUMNS, 8}, {PART_COLUMNS, 4, 2}, {PART_COLUMNS, 2, 2, 2}};

	case_did(c, tensor_map_prepare(), "encoder of tensor maps");
	for (int i = 0; i < 3; i++)
		a.maps[i] = make_map(c, a.in, i + 2, extents[i], boxes[i]);
	a.target = make_map(c, a.out, 4, boxes[2], boxes[2]);
}

/* One part's results; an error stays in the case. */
static void run_part(test_case &c, const part &part, const part_inputs &inputs, uint32_t *out)
{
	part_arguments a = {};
	const launch_shape shape = {
		.blocks = part.blocks,
		.threads = part.threads,
		.shared_bytes = part.shared_bytes,
		.cluster = part.blocks,
	};

	a.in = case_upload(c, inputs.in, PART_IN);
	a.floats = case_upload(c, inputs.floats, PART_FLOATS);
	a.out = case_zeros<uint32_t>(c, PART_WORDS);
	a.memory = case_zeros<uint32_t>(c, PART_WORDS);
	make_maps(c, a);
	if (!c.error && case_did(c, allow_shared(part.shared_bytes, part.kernel), "shared memory"))
		case_did(c, launch_kernel(shape, 0, part.kernel, a), "launch");
	case_download(c, out, a.out, PART_WORDS);
}

/* ---- a record -------------------------------------------------------------------------------- */

struct record {
	char name[NAME];
	int words;
	uint32_t word[PART_WORDS];
};

static void name_of(const part &part, char (&name)[NAME])
{
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(part.functions, " "), part.functions);
}

static void write_record(FILE *file, const char *name, const uint32_t *word, int words)
{
	fprintf(file, "part %s %d\n", name, words);
	for (int i = 0; i < words; i++)
		fprintf(file, "%x%c", word[i], i % 8 == 7 || i == words - 1 ? '\n' : ' ');
}

/* One part from the file: 1, 0 at its end, -1 if it is none, which was said. */
static int read_record(FILE *file, const char *path, record &r)
{
	const int found = fscanf(file, " part %63s %d", r.name, &r.words);

	if (found == EOF)
		return 0;
	if (found != 2 || r.words < 1 || r.words > PART_WORDS) {
		fprintf(stderr, "parts: %s: \"part NAME WORDS\" was expected%s%s\n", path,
			found > 0 ? " at part " : "", found > 0 ? r.name : "");
		return -1;
	}
	for (int i = 0; i < r.words; i++)
		if (fscanf(file, "%x", &r.word[i]) != 1) {
			fprintf(stderr, "parts: %s: part %s has %d words, %d were expected\n", path,
				r.name, i, r.words);
			return -1;
		}
	return 1;
}

/* ---- comparison ------------------------------------------------------------------------------ */

/* Floats in the order of their values as integers, -0 beside 0. */
static int64_t order_of(uint32_t bits)
{
	return bits & 0x80000000 ? -(int64_t)(bits & 0x7fffffff) - 1 : (int64_t)bits;
}

/* How far a result is from the recorded one, in the part's measure: 0 the same, up to its bound. */
static double distance(const part &part, uint32_t got, uint32_t want, double scale)
{
	const float a = from_bits(got), b = from_bits(want);

	if (got == want || (part.measure != PART_BITS && isnan(a) && isnan(b)))
		return 0.;
	if (part.measure == PART_ULPS && !isnan(a) && !isnan(b))
		return fabs((double)(order_of(got) - order_of(want)));
	if (part.measure == PART_PRODUCTS && isfinite(a) && isfinite(b))
		return a == b ? 0. : fabs((double)a - (double)b) / scale;
	return INFINITY;
}

/* Prints a part's line; 1 if it is too far from what was recorded. */
static int compare_part(const part &part, const record &r, const part_inputs &inputs,
			const uint32_t *out)
{
	double scale[PART_WORDS], worst = 0.;
	int at = -1;

	for (double &x : scale)
		x = 1.;
	if (part.scale)
		part.scale(inputs, scale);
	for (int i = 0; i < part.words; i++) {
		const double d = distance(part, out[i], r.word[i], scale[i]);

		if (d > worst) {
			worst = d;
			at = i;
		}
	}

	const bool right = worst <= part.bound;

	printf("%s %s: ", right ? "PASS" : "FAIL", r.name);
	if (part.measure == PART_BITS || part.measure == PART_VALUES)
		printf("%s", right ? "bitwise" : "not bitwise");
	else if (part.measure == PART_ULPS)
		printf("%g ulp apart at most, %g are allowed", worst, part.bound);
	else
		printf("%.3g of the magnitudes added apart at most, %.3g is allowed", worst,
		       part.bound);
	if (right)
		printf("\n");
	else
		printf(": word %d is %08x, recorded %08x\n", at, out[at], r.word[at]);
	return !right;
}

/* ---- all parts ------------------------------------------------------------------------------- */

static int list_parts(part *parts)
{
	const part_list lists[] = {parts_of_numbers(), parts_of_warps(), parts_of_copies(),
				   parts_of_products()};
	int count = 0;

	for (const part_list &list : lists)
		for (int i = 0; i < list.count && count < MOST_PARTS; i++)
			parts[count++] = list.parts[i];
	return count;
}

/* 0, or 1 if a kernel did not run. */
static int record_parts(FILE *file, const part *parts, int count, const part_inputs &inputs)
{
	struct cudaDeviceProp properties;
	char name[NAME];

	if (cudaGetDeviceProperties(&properties, 0))
		properties.name[0] = '\0';
	fprintf(file, "recorded on %s\ninputs %08x\n", properties.name, checksum_of(inputs));
	for (int i = 0; i < count; i++) {
		uint32_t out[PART_WORDS];
		test_case c;

		name_of(parts[i], name);
		c = case_begin("%s", name);
		run_part(c, parts[i], inputs, out);
		if (c.error)
			return case_end(c);
		write_record(file, name, out, parts[i].words);
		case_free(c);
	}
	return 0;
}

/* The first two lines: false, which was said, if the record is of other inputs. */
static bool read_head(FILE *file, const char *path, const part_inputs &inputs)
{
	char device[256];
	uint32_t checksum;

	if (fscanf(file, "recorded on %255[^\n] inputs %x", device, &checksum) != 2)
		fprintf(stderr,
			"parts: %s: \"recorded on DEVICE\" and \"inputs CHECKSUM\" were "
			"expected\n",
			path);
	else if (checksum != checksum_of(inputs))
		fprintf(stderr,
			"parts: %s was recorded with inputs %08x, they are %08x now: record it "
			"again\n",
			path, checksum, checksum_of(inputs));
	else
		return printf("held against %s\n", device) > 0;
	return false;
}

static const record *find_record(const record *records, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(records[i].name, name))
			return &records[i];
	return NULL;
}

/* How many parts differ, have no record, or are recorded and not there. */
static int compare_parts(const record *records, int recorded, const part *parts, int count,
			 const part_inputs &inputs)
{
	int failed = 0, found = 0;

	for (int i = 0; i < count; i++) {
		uint32_t out[PART_WORDS];
		char name[NAME];
		test_case c;

		name_of(parts[i], name);

		const record *r = find_record(records, recorded, name);

		if (!r || r->words != parts[i].words) {
			printf("FAIL %s: %s\n", name,
			       r ? "recorded with another number of words" : "not recorded");
			failed++;
			continue;
		}
		found++;
		c = case_begin("%s", name);
		run_part(c, parts[i], inputs, out);
		failed += c.error ? case_end(c) : compare_part(parts[i], *r, inputs, out);
		case_free(c);
	}
	if (found < recorded) {
		printf("FAIL %d recorded parts are not run\n", recorded - found);
		failed++;
	}
	return failed;
}

static int record_to(const char *path, const part *parts, int count, const part_inputs &inputs)
{
	FILE *file = fopen(path, "w");
	int failed;

	if (!file) {
		fprintf(stderr, "parts: %s: %s\n", path, strerror(errno));
		return 1;
	}
	failed = record_parts(file, parts, count, inputs);
	if (fclose(file) && !failed) {
		fprintf(stderr, "parts: %s: %s\n", path, strerror(errno));
		failed = 1;
	}
	if (failed)
		remove(path);
	else
		printf("%d parts recorded\n", count);
	return failed;
}

static int compare_with(const char *path, const part *parts, int count, const part_inputs &inputs)
{
	const std::unique_ptr<record[]> kept(new record[MOST_PARTS]());
	record *const records = kept.get();
	FILE *file = fopen(path, "r");
	int recorded = 0, got = 0;

	if (!file) {
		fprintf(stderr, "parts: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (!read_head(file, path, inputs)) {
		fclose(file);
		return 1;
	}
	while (recorded < MOST_PARTS && (got = read_record(file, path, records[recorded])) == 1)
		recorded++;
	fclose(file);
	if (got < 0)
		return 1;

	const int failed = compare_parts(records, recorded, parts, count, inputs);

	printf("%d parts, %d failed\n", count, failed);
	return failed != 0;
}

int main(int argc, char **argv)
{
	/* in no static variable: those are shared memory in the emulator */
	const std::unique_ptr<part_inputs> made(new part_inputs());
	part_inputs &inputs = *made;
	const std::unique_ptr<part[]> listed(new part[MOST_PARTS]());
	part *const parts = listed.get();
	const int count = list_parts(parts);

	make_inputs(inputs);
	if (argc == 3 && !strcmp(argv[1], "--record"))
		return record_to(argv[2], parts, count, inputs);
	if (argc == 3 && !strcmp(argv[1], "--compare"))
		return compare_with(argv[2], parts, count, inputs);
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: parts --record FILE | --compare FILE\n"
		       "Runs the functions that kernels are made of and writes down what they "
		       "give,\n"
		       "or holds it against a record. Exit code: 0 all is as near as is stated,\n"
		       "1 something is not or did not run, 2 bad arguments.\n");
		return 0;
	}
	fprintf(stderr, "parts: --record FILE or --compare FILE was expected; see --help\n");
	return 2;
}
