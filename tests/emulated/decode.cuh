/* decode.cuh - what the decode kernels of this folder have in common: bf16, 512 + 64 dimensions,
 * one query, keys in pages of 64; their items, and on the host a case's inputs, its truth in fp64
 * and its verdict. What lies in the cache behind the last key of a request is NaN.
 */
#pragma once

#include <algorithm>
#include <math.h>
#include <vector>

#include "base/random.h"
#include "parts/elements.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "parts/tensor_map.cuh"
#include "tests/emulated/case.cuh"

enum { CKV = 512, KPE = 64, DIMS = CKV + KPE, BLOCK = 64 /* keys, and slots of a page */ };

/* Keys of one request against a tile of its heads. */
struct decode_item {
	int32_t page;    /* of its first block, a place in pages */
	int32_t blocks;  /* of 64 keys; 0: no keys, the result is zeros and -inf */
	int32_t tail;    /* keys of its last block, 1 to 64 */
	int32_t row;     /* its first row of q, out and lse */
	int32_t partial; /* its first row of partial_out and partial_lse, or -1: straight to out */
};

struct decode_params {
	const decode_item *items;
	const int32_t *begin; /* [workers + 1] places in items */
	const int32_t *pages;
	__nv_bfloat16 *out;               /* [rows, 512] */
	float *lse;                       /* [rows] natural log */
	float *partial_out, *partial_lse; /* [partial rows, 512] normalised, [partial rows] */
	int32_t heads;
	float scale; /* of scores, times log2(e) */
};

/* A tile of q or of keys comes in two panels of 256 dimensions and one of rope:
 *   panel  [groups of 8 rows][4 chunks of 64 dimensions][8 rows][128 bytes]
 *   rope   [rows][128 bytes]
 * all swizzled by 128 bytes. q and ckv are maps of rank 4 (64 dimensions, 8 rows, 8 chunks,
 * groups), the ropes of rank 2. */
struct decode_maps {
	CUtensorMap q, q_rope, ckv, kpe;
};

enum : uint32_t { CHUNK = 8 * 128, GROUP = 4 * CHUNK, PANEL = BLOCK / 8 * GROUP };

/* ---- on the host ----------------------------------------------------------------------------- */

struct decode_shape {
	const char *name;
	int heads;  /* a multiple of 8 */
	int split;  /* an item has so many blocks, 0: all */
	float peak; /* deviation of the scores, in natural units */
	std::vector<int> lengths;
};

struct decode_part {
	int row, partial; /* of a tile that was split */
};

struct decode_run {
	test_case test;
	decode_shape shape;
	int tile_rows, rows, partial_rows;
	double scale;                    /* of scores */
	std::vector<uint16_t> q, kv;     /* bf16 [rows, 576], [pages * 64, 576] */
	std::vector<int32_t> first_page; /* [requests + 1] places in pages */
	std::vector<int32_t> pages;
	std::vector<decode_part> parts;
	decode_params params;
	decode_maps maps;
};

enum { WORKERS = 2 }; /* fewer than items, so that each has several */

static inline double bf16_value(uint16_t bits)
{
	const uint32_t word = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &word, sizeof(value));
	return value;
}

static inline const uint16_t *decode_key(const decode_run &run, int request, int key)
{
	const int page = run.pages[run.first_page[request] + key / BLOCK];

	return &run.kv[((size_t)page * BLOCK + key % BLOCK) * DIMS];
}

/* Pages in random order, random numbers in q and in every slot that has a key. */
static inline void decode_fill(decode_run &run, uint64_t seed)
{
	const uint64_t keys = random_stream(seed, 2);
	uint64_t order = random_stream(seed, 3), index = 0;
	const int requests = (int)run.shape.lengths.size();

	run.first_page.assign(1, 0);
	for (int length : run.shape.lengths)
		run.first_page.push_back(run.first_page.back() + (length + BLOCK - 1) / BLOCK);
	for (int32_t i = 0; i < run.first_page.back(); i++) {
		run.pages.push_back(i);
		std::swap(run.pages[i], run.pages[random_below(&order, i + 1)]);
	}
	run.q.resize((size_t)run.rows * DIMS);
	for (size_t i = 0; i < run.q.size(); i++)
		run.q[i] = random_value(random_stream(seed, 1), i);
	run.kv.assign(run.pages.size() * BLOCK * DIMS, 0xffff);
	for (int request = 0; request < requests; request++)
		for (int key = 0; key < run.shape.lengths[request]; key++) {
			uint16_t *slot = (uint16_t *)decode_key(run, request, key);

			for (int i = 0; i < DIMS; i++)
				slot[i] = random_value(keys, index++);
		}
}

/* Items of all tiles, dealt out to the workers in turn. */
static inline void decode_plan(decode_run &run, std::vector<decode_item> &items,
			       std::vector<int32_t> &begin)
{
	std::vector<decode_item> of_worker[WORKERS];
	int dealt = 0;

	for (int request = 0; request < (int)run.shape.lengths.size(); request++)
		for (int head = 0; head < run.shape.heads; head += run.tile_rows) {
			const int length = run.shape.lengths[request];
			const int blocks = (length + BLOCK - 1) / BLOCK;
			const int row = request * run.shape.heads + head;
			const int step = run.shape.split ? run.shape.split : std::max(blocks, 1);
			int block = 0;

			do {
				decode_item item = {};

				item.page = run.first_page[request] + block;
				item.blocks = std::min(step, blocks - block);
				item.tail = std::min(length - (block + item.blocks - 1) * BLOCK,
						     (int)BLOCK);
				item.row = row;
				item.partial = -1;
				if (step < blocks) {
					item.partial = run.partial_rows;
					run.parts.push_back({row, item.partial});
					run.partial_rows += run.tile_rows;
				}
				of_worker[dealt++ % WORKERS].push_back(item);
				block += step;
			} while (block < blocks);
		}
	begin.assign(1, 0);
	for (const std::vector<decode_item> &some : of_worker) {
		items.insert(items.end(), some.begin(), some.end());
		begin.push_back((int32_t)items.size());
	}
}

/* Boxes of so many rows, all chunks of a panel. */
static inline void decode_map(decode_run &run, const uint16_t *data, int rows, int box_rows,
			      CUtensorMap &panels, CUtensorMap &rope)
{
	tensor_map kept = {};
	tensor_map_shape shape = {};

	shape.data = data;
	shape.dtype = MLA_BF16;
	shape.swizzle = 128;
	shape.rank = 4;
	shape.extent[0] = shape.box[0] = 64;
	shape.extent[1] = shape.box[1] = 8;
	shape.stride[0] = 2 * DIMS;
	shape.extent[2] = CKV / 64;
	shape.stride[1] = 2 * 64;
	shape.box[2] = 4;
	shape.extent[3] = (uint64_t)std::max(rows, 8) / 8;
	shape.stride[2] = 8 * 2 * DIMS;
	shape.box[3] = (uint32_t)box_rows / 8;
	case_did(run.test, tensor_map_update(kept, shape), "tensor map of panels");
	panels = kept.map;
	shape.data = data + CKV;
	shape.rank = 2;
	shape.extent[1] = (uint64_t)std::max(rows, 8);
	shape.box[1] = (uint32_t)box_rows;
	case_did(run.test, tensor_map_update(kept, shape), "tensor map of rope");
	rope = kept.map;
}

/* Everything a launch needs. tile_rows: heads of an item; q_rows, key_rows: those of a box. */
static inline decode_run decode_prepare(const char *kernel, const decode_shape &shape,
					int tile_rows, int q_rows, int key_rows, uint64_t seed)
{
	decode_run run = {};
	std::vector<decode_item> items;
	std::vector<int32_t> begin;

	run.test = case_begin("%s %s", kernel, shape.name);
	run.shape = shape;
	run.tile_rows = std::min(tile_rows, shape.heads);
	run.rows = (int)shape.lengths.size() * shape.heads;
	run.scale = shape.peak / sqrt((double)DIMS);
	decode_fill(run, seed);
	decode_plan(run, items, begin);

	test_case &test = run.test;
	const uint16_t *q = case_upload(test, run.q.data(), run.q.size());
	const uint16_t *kv = case_upload(test, run.kv.data(), run.kv.size());
	const size_t partial_rows = (size_t)std::max(run.partial_rows, 1);

	run.params.items = case_upload(test, items.data(), items.size());
	run.params.begin = case_upload(test, begin.data(), begin.size());
	run.params.pages = case_upload(test, run.pages.data(), run.pages.size());
	run.params.out = case_memory<__nv_bfloat16>(test, (size_t)run.rows * CKV);
	run.params.lse = case_memory<float>(test, (size_t)run.rows);
	run.params.partial_out = case_memory<float>(test, partial_rows * CKV);
	run.params.partial_lse = case_memory<float>(test, partial_rows);
	run.params.heads = shape.heads;
	run.params.scale = (float)(run.scale * M_LOG2E);
	case_did(test, tensor_map_prepare(), "encoder of tensor maps");
	decode_map(run, q, run.rows, q_rows, run.maps.q, run.maps.q_rope);
	decode_map(run, kv, (int)run.pages.size() * BLOCK, key_rows, run.maps.ckv, run.maps.kpe);
	return run;
}

/* One row in fp64: q[576], kv[keys, 576] to out[512] and its lse. weights[keys] is scratch. No
 * hooks of a sanitizer, which the emulator lives on: here are most of the accesses, and all are the
 * host's. */
static __attribute__((no_sanitize("thread"))) double decode_attend(const double *q,
								   const double *kv, int keys,
								   double scale, double *weights,
								   double *out)
{
	double top = -INFINITY, sum = 0;

	for (int key = 0; key < keys; key++) {
		double dot = 0;

		for (int i = 0; i < DIMS; i++)
			dot += q[i] * kv[(size_t)key * DIMS + i];
		weights[key] = dot * scale;
		top = weights[key] > top ? weights[key] : top;
	}
	for (int i = 0; i < CKV; i++)
		out[i] = 0;
	for (int key = 0; key < keys; key++)
		sum += weights[key] = exp(weights[key] - top);
	for (int key = 0; key < keys; key++)
		for (int i = 0; i < CKV; i++)
			out[i] += weights[key] / sum * kv[(size_t)key * DIMS + i];
	return keys ? top + log(sum) : -INFINITY;
}

/* All rows of a request: out[heads, 512], lse[heads]. */
static inline void decode_truth(const decode_run &run, int request, std::vector<double> &out,
				std::vector<double> &lse)
{
	const int keys = run.shape.lengths[request], heads = run.shape.heads;
	std::vector<double> kv((size_t)keys * DIMS), q(DIMS), weights(keys);

	for (int key = 0; key < keys; key++)
		for (int i = 0; i < DIMS; i++)
			kv[(size_t)key * DIMS + i] = bf16_value(decode_key(run, request, key)[i]);
	out.resize((size_t)heads * CKV);
	lse.resize(heads);
	for (int head = 0; head < heads; head++) {
		const size_t row = (size_t)request * heads + head;

		for (int i = 0; i < DIMS; i++)
			q[i] = bf16_value(run.q[row * DIMS + i]);
		lse[head] = decode_attend(q.data(), kv.data(), keys, run.scale, weights.data(),
					  &out[(size_t)head * CKV]);
	}
}

/* What a kernel made of a row: as it stands in out, or merged in fp64 from its parts. */
static inline double decode_result(const decode_run &run, int row, const uint16_t *out,
				   const float *lse, const float *partial_out,
				   const float *partial_lse, double *result)
{
	double top = -INFINITY, sum = 0;

	for (int i = 0; i < CKV; i++)
		result[i] = bf16_value(out[(size_t)row * CKV + i]);
	for (const decode_part &part : run.parts)
		if (row >= part.row && row < part.row + run.tile_rows)
			top = std::max(top, (double)partial_lse[part.partial + row - part.row]);
	if (top == -INFINITY)
		return lse[row];
	std::fill(result, result + CKV, 0.);
	for (const decode_part &part : run.parts)
		if (row >= part.row && row < part.row + run.tile_rows) {
			const size_t at = part.partial + row - part.row;
			const double weight = exp(partial_lse[at] - top);

			sum += weight;
			for (int i = 0; i < CKV; i++)
				result[i] += weight * partial_out[at * CKV + i];
		}
	for (int i = 0; i < CKV; i++)
		result[i] /= sum;
	return top + log(sum);
}

/* The bits of a result, which are the same however the threads of a kernel took turns. */
template <typename T> static inline void decode_bits(uint32_t &bits, const std::vector<T> &result)
{
	for (const T &element : result) {
		uint32_t word = 0;

		memcpy(&word, &element, sizeof(element));
		bits = (uint32_t)random_mix((uint64_t)bits << 32 | word);
	}
}

/* Waits for the kernel, compares every row with the truth, prints the verdict: 0 or 1.
 * bf16 weights and outputs err by 2^-9 of an element at most, independently: a row by some 2^-9 of
 * its norm, which the bounds exceed by 2 (all rows) and 4 (a row of few large weights). */
static inline int decode_finish(decode_run &run)
{
	const size_t partial_rows = (size_t)std::max(run.partial_rows, 1);
	std::vector<uint16_t> out((size_t)run.rows * CKV);
	std::vector<float> lse(run.rows), partial_out(partial_rows * CKV),
		partial_lse(partial_rows);
	std::vector<double> truth, truth_lse, result(CKV);
	double error = 0, norm = 0;

	case_download(run.test, out.data(), (const uint16_t *)run.params.out, out.size());
	case_download(run.test, lse.data(), run.params.lse, lse.size());
	if (run.partial_rows) {
		case_download(run.test, partial_out.data(), run.params.partial_out,
			      partial_out.size());
		case_download(run.test, partial_lse.data(), run.params.partial_lse,
			      partial_lse.size());
	}
	for (int row = 0; row < run.rows && !run.test.error; row++) {
		const int head = row % run.shape.heads;

		if (head == 0)
			decode_truth(run, row / run.shape.heads, truth, truth_lse);

		const double *expected = &truth[(size_t)head * CKV], lse_expected = truth_lse[head];
		const double lse_found =
			decode_result(run, row, out.data(), lse.data(), partial_out.data(),
				      partial_lse.data(), result.data());
		double row_error = 0, row_norm = 0;

		for (int i = 0; i < CKV; i++) {
			row_error += (result[i] - expected[i]) * (result[i] - expected[i]);
			row_norm += expected[i] * expected[i];
		}
		error += row_error;
		norm += row_norm;
		if (!(row_error <= 0x1p-14 * row_norm))
			case_wrong(run.test, "row %d: error %.2g of its norm", row,
				   sqrt(row_error / row_norm));
		if (lse_found != lse_expected && !(fabs(lse_found - lse_expected) < 1e-3))
			case_wrong(run.test, "row %d: lse %.6g, expected %.6g", row, lse_found,
				   lse_expected);
	}
	if (!(error <= 0x1p-16 * norm))
		case_wrong(run.test, "error %.2g of the norm", sqrt(error / norm));

	const size_t named = strlen(run.test.name);
	uint32_t bits = 0;

	decode_bits(bits, out);
	decode_bits(bits, lse);
	decode_bits(bits, partial_out);
	decode_bits(bits, partial_lse);
	snprintf(run.test.name + named, sizeof(run.test.name) - named, " (bits %08x)", bits);
	return case_end(run.test);
}
