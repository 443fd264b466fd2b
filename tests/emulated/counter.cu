/* counter.cu - keys are split over blocks, and the last block of a row merges the row's states in
 * the same launch: a counter in global memory says who is last.
 *
 * A block that has written its state has to tell it in an order that others may rely on. Three
 * ways: a barrier, a fence and an addition; an addition that is release and acquire; and, where the
 * merge is always done by the block of the last split, additions that release, on which that block
 * waits. The counters are 0 again behind the launch, so that the next one finds them so.
 */
#include <math.h>
#include <vector>

#include "base/random.h"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "tests/emulated/case.cuh"

enum {
	COLUMNS = 64,
	THREADS = COLUMNS, /* a column each */
	BLOCKS = 5,
	MOST_SPLITS = 8,
	WAIT = 1 << 22, /* tries; then the row is given up, and is NaN */
};

enum way { FENCE, ADDITION, WAITING };

/* Keys [begin, end) of a row: split number `split` of `splits`. */
struct split_item {
	int32_t row, split, splits, begin, end;
};

/* scores[keys], in powers of two, and values[keys][columns] of all rows, one behind the other;
 * state_m, state_l[items] and states[items][columns]: a row's states lie one behind the other.
 * out[rows][columns]: the softmax-weighted mean, 0 without keys. All f32. counters[rows]: 0. */
struct counter_arguments {
	const split_item *items;
	int num_items;
	const float *scores, *values;
	float *state_m, *state_l, *states, *out;
	uint32_t *counters;
};

/* The state of one split: thread t has column t, thread 0 writes m and l. */
static __device__ void attend(const counter_arguments &a, const split_item &item, int at)
{
	float m = -INFINITY, l = 0.f, acc = 0.f;

	for (int k = item.begin; k < item.end; k++)
		m = fmaxf(m, a.scores[k]);
	for (int k = item.begin; k < item.end; k++) {
		const float weight = exp2_approx(a.scores[k] - m);

		l += weight;
		acc += weight * a.values[(int64_t)k * COLUMNS + threadIdx.x];
	}
	a.states[(int64_t)at * COLUMNS + threadIdx.x] = acc;
	if (threadIdx.x == 0) {
		a.state_m[at] = m;
		a.state_l[at] = l;
	}
}

/* The states [first, first + splits), always in this order, so that the bits do not depend on who
 * came last. */
static __device__ void merge(const counter_arguments &a, const split_item &item, int first)
{
	float m = -INFINITY, sum = 0.f, acc = 0.f;

	for (int s = first; s < first + item.splits; s++)
		m = fmaxf(m, a.state_m[s]);
	for (int s = first; s < first + item.splits; s++) {
		if (a.state_l[s] == 0.f) /* saw no key */
			continue;

		const float weight = exp2_approx(a.state_m[s] - m);

		sum += weight * a.state_l[s];
		acc += weight * a.states[(int64_t)s * COLUMNS + threadIdx.x];
	}
	a.out[(int64_t)item.row * COLUMNS + threadIdx.x] = sum == 0.f ? 0.f : acc / sum;
}

/* Waits until the other splits of the row have been counted; false: that took too long. */
static __device__ bool wait_for_others(const uint32_t *counter, uint32_t others)
{
	for (int tries = 0; load_acquire(counter) != others; tries++)
		if (tries == WAIT)
			return false;
	return true;
}

/* By one thread, behind a barrier of the block: counts this split, and says whether this block has
 * to merge. What the other blocks wrote before they counted, this thread then sees. */
template <way WAY>
static __device__ bool count(const split_item &item, uint32_t *counter, bool &given_up)
{
	const uint32_t others = item.splits - 1;
	uint32_t before;

	if (WAY == WAITING) {
		if (item.split < item.splits - 1) {
			add_release(counter, 1);
			return false;
		}
		given_up = !wait_for_others(counter, others);
	} else {
		if (WAY == FENCE) {
			__threadfence(); /* the block's state before the addition */
			before = atomicAdd(counter, 1);
			__threadfence(); /* the addition before the others' states */
		} else {
			before = fetch_add_acq_rel(counter, 1u);
		}
		if (before != others)
			return false;
	}
	*counter = 0; /* nobody else looks at it any more */
	return true;
}

/* Items one block apart: a block that waits for other splits waits for items before its own, which
 * are done or under way, since all blocks fit on the GPU at once. */
template <way WAY>
static __global__ void __launch_bounds__(THREADS) split(const counter_arguments a)
{
	__shared__ bool last, given_up;

	for (int i = blockIdx.x; i < a.num_items; i += gridDim.x) {
		const split_item item = a.items[i];

		attend(a, item, i);
		__syncthreads(); /* the block's state is written; nobody looks at last any more */
		if (threadIdx.x == 0) {
			given_up = false;
			last = count<WAY>(item, &a.counters[item.row], given_up);
		}
		__syncthreads();
		if (!last)
			continue;
		if (given_up)
			a.out[(int64_t)item.row * COLUMNS + threadIdx.x] = NAN;
		else
			merge(a, item, i - item.split);
	}
}

/* ---- on the host ----------------------------------------------------------------------------- */

/* Sums of up to 100 weights, each right to 2 ulp, twice: of the sum of |weight * value| / sum. */
static const double BOUND = 128 * 0x1p-24;

struct counter_inputs {
	std::vector<split_item> items;
	std::vector<float> scores, values;
	int rows;
};

static counter_inputs make_inputs(uint64_t seed)
{
	static const int splits[] = {1, 3, 2, MOST_SPLITS, 1, 5, 2};
	counter_inputs in = {};
	uint64_t state = random_stream(seed, 2);
	int key = 0;

	in.rows = sizeof(splits) / sizeof(*splits);
	for (int row = 0; row < in.rows; row++)
		for (int s = 0; s < splits[row]; s++) {
			/* the fifth row has no keys, others a split without any now and then */
			const int keys = row == 4 ? 0 : (int)random_below(&state, 12);

			in.items.push_back({row, s, splits[row], key, key + keys});
			key += keys;
		}
	for (int k = 0; k < key; k++)
		in.scores.push_back((float)random_below(&state, 160) / 8.f - 10.f);
	for (int i = 0; i < key * COLUMNS; i++)
		in.values.push_back((float)(random_below(&state, 4001) - 2000) / 1024.f);
	return in;
}

static void check_row(test_case &c, const counter_inputs &in, int row, const float *out)
{
	int begin = -1, end = -1;
	double m = -INFINITY, sum = 0.;

	for (const split_item &item : in.items)
		if (item.row == row) {
			begin = begin < 0 ? item.begin : begin;
			end = item.end;
		}
	for (int k = begin; k < end; k++)
		m = fmax(m, in.scores[k]);
	for (int k = begin; k < end; k++)
		sum += exp2(in.scores[k] - m);
	for (int d = 0; d < COLUMNS; d++) {
		double acc = 0., size = 0.;

		for (int k = begin; k < end; k++) {
			const double x = in.values[(size_t)k * COLUMNS + d];

			acc += exp2(in.scores[k] - m) * x;
			size += exp2(in.scores[k] - m) * fabs(x);
		}

		const double want = begin == end ? 0. : acc / sum;
		const double bound = begin == end ? 0. : BOUND * size / sum;

		if (!(fabs(out[d] - want) <= bound))
			case_wrong(c, "row %d, column %d: %.9g, expected %.9g", row, d, out[d],
				   want);
	}
}

/* Two launches behind one another: the second finds the counters as the first left them. */
template <way WAY> static int counter_case(const char *how, uint64_t seed)
{
	test_case c = case_begin("counter %s", how);
	const counter_inputs in = make_inputs(seed);
	const size_t states = in.items.size();
	std::vector<float> out((size_t)in.rows * COLUMNS), again(out);
	std::vector<uint32_t> left((size_t)in.rows);
	float *first = case_memory<float>(c, out.size()),
	      *second = case_memory<float>(c, out.size());
	counter_arguments a = {
		.items = case_upload(c, in.items.data(), states),
		.num_items = (int)states,
		.scores = case_upload(c, in.scores.data(), in.scores.size()),
		.values = case_upload(c, in.values.data(), in.values.size()),
		.state_m = case_memory<float>(c, states),
		.state_l = case_memory<float>(c, states),
		.states = case_memory<float>(c, states * COLUMNS),
		.out = first,
		.counters = case_zeros<uint32_t>(c, left.size()),
	};

	if (!c.error)
		case_did(c, launch_kernel({BLOCKS, THREADS}, 0, split<WAY>, a), "launch");
	a.out = second;
	if (!c.error)
		case_did(c, launch_kernel({BLOCKS, THREADS}, 0, split<WAY>, a), "launch");
	case_download(c, out.data(), first, out.size());
	case_download(c, again.data(), second, out.size());
	case_download(c, left.data(), a.counters, left.size());
	for (int row = 0; row < in.rows && !c.error; row++) {
		check_row(c, in, row, &out[(size_t)row * COLUMNS]);
		if (left[row])
			case_wrong(c, "the counter of row %d was left %u, not 0", row, left[row]);
	}
	if (!c.error && memcmp(out.data(), again.data(), out.size() * sizeof(float)))
		case_wrong(c, "the second launch gave other bits than the first");
	return case_end(c);
}

int counter_run(uint64_t seed)
{
	int failed = counter_case<FENCE>("fence and addition", seed);

	failed += counter_case<ADDITION>("addition that orders", seed + 1);
	failed += counter_case<WAITING>("the last split waits", seed + 2);
	return failed;
}
