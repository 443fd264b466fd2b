/* warp.cpp - what the threads of a warp, of a block or of a cluster do together and at once:
 * shuffles, votes, barriers, ldmatrix, stmatrix, mma.
 */
#include <algorithm>

#include "emulator/machine.h"
#include "emulator/matrix.h"

namespace emulator
{
/* ---- lanes ----------------------------------------------------------------------------------- */

void meet(const char *name, uint32_t mask, void *mine,
	  void (*combine)(warp &w, uint32_t mask, void **arguments), const void *pc)
{
	warp &w = *self->warp;
	const uint32_t bit = 1u << self->lane;

	counted.meetings++;
	self->block->work++;
	if (w.count < 32)
		mask &= (1u << w.count) - 1;
	if (!(mask & bit)) {
		report(pc, nullptr, "%s: %s takes part in %s of mask %#x, which lacks its own lane",
		       where(pc).c_str(), name_of(self).c_str(), name, mask);
		fail();
	}

	auto m = std::find_if(w.meetings.begin(), w.meetings.end(), [&](const meeting &x) {
		return x.name == name && x.mask == mask && !(x.here & bit);
	});

	if (m == w.meetings.end())
		m = w.meetings.insert(m, {name, mask, 0, {}});
	m->here |= bit;
	m->arguments[self->lane] = mine;
	if (m->here != mask) {
		block_on(pc, "wait in %s of mask %#x", name, mask);
		return;
	}

	meeting all = *m;

	w.meetings.erase(m);
	combine(w, mask, all.arguments);
	for (int l = 0; l < 32; l++)
		if (mask >> l & 1 && l != self->lane)
			wake(w.lanes[l]);
}

static void join_lanes(warp &w, uint32_t mask, void **)
{
	gathering all;

	for (int l = 0; l < 32; l++)
		if (mask >> l & 1)
			release(all, w.lanes[l]);
	for (int l = 0; l < 32; l++)
		if (mask >> l & 1)
			w.lanes[l]->past = all.all;
}

void syncwarp(uint32_t mask)
{
	meet("__syncwarp", mask, nullptr, join_lanes, HERE);
}

/* Shuffles, votes and elect order no memory: PTX promises none. */
struct shuffled {
	uint64_t value, result;
	int source;
};

uint64_t shuffle(uint32_t mask, uint64_t value, int source)
{
	shuffled mine = {value, 0, source};

	meet(
		"a shuffle", mask, &mine,
		[](warp &, uint32_t mask, void **arguments) {
			for (int l = 0; l < 32; l++) {
				if (!(mask >> l & 1))
					continue;
				shuffled &s = *(shuffled *)arguments[l];
				s.result = mask >> s.source & 1
						   ? ((shuffled *)arguments[s.source])->value
						   : 0x7fff7fff7fff7fff; /* undefined */
			}
		},
		HERE);
	return mine.result;
}

struct vote {
	bool value;
	uint32_t result;
};

uint32_t ballot(uint32_t mask, bool value)
{
	vote mine = {value, 0};

	meet(
		"a vote", mask, &mine,
		[](warp &, uint32_t mask, void **arguments) {
			uint32_t all = 0;

			for (int l = 0; l < 32; l++)
				if (mask >> l & 1 && ((vote *)arguments[l])->value)
					all |= 1u << l;
			for (int l = 0; l < 32; l++)
				if (mask >> l & 1)
					((vote *)arguments[l])->result = all;
		},
		HERE);
	return mine.result;
}

bool elect()
{
	vote mine = {};

	meet(
		"elect.sync", ~0u, &mine,
		[](warp &w, uint32_t, void **arguments) {
			/* any lane, but always the same one, as the hardware promises */
			const uint32_t lane = (uint32_t)(w.number * 7) + options.seed * 13;

			((vote *)arguments[lane % (uint32_t)w.count])->value = true;
		},
		HERE);
	return mine.value;
}

/* ---- barriers -------------------------------------------------------------------------------- */

static void open_barrier(named_barrier &b)
{
	std::vector<fiber *> all;

	all.swap(b.waiting);
	b.arrived = 0;
	b.opened++;
	for (fiber *f : all) {
		f->past = b.clocks.all;
		f->vote = b.any;
		f->numbers[0] = (uint32_t)b.count;
		if (f != self)
			wake(f);
		else if (traced)
			trace_go_on(f);
	}
	b.clocks.clear();
}

/* Its arrival; true: it was the last. */
static bool arrive_at(named_barrier &b, int id, int expected, bool value, const void *pc,
		      const char *name)
{
	if (b.arrived && b.expected != expected) {
		report(pc, nullptr,
		       "%s: %s comes to %s %d with %d threads, others wait there with %d",
		       where(pc).c_str(), name_of(self).c_str(), name, id, expected, b.expected);
		fail();
	}
	if (!b.arrived)
		b.expected = expected, b.any = false, b.count = 0;
	b.any |= value;
	b.count += value;
	self->block->work++;
	release(b.clocks, self);
	return ++b.arrived == expected;
}

static void arrive_and_wait(named_barrier &b, int id, int expected, bool value, const void *pc,
			    const char *name)
{
	static const char *const waits = "wait in %s %u for %u threads";
	const bool last = arrive_at(b, id, expected, value, pc, name);

	b.waiting.push_back(self);
	if (!last) {
		block_on(pc, waits, name, (uint32_t)id, (uint32_t)expected);
		return;
	}
	if (traced)
		trace_wait(self, pc, waits, name, (uint32_t)id, (uint32_t)expected);
	open_barrier(b);
}

static int all_threads(int threads)
{
	return threads ? threads : (int)(blockDim.x * blockDim.y * blockDim.z);
}

static const char *barrier_name(int id)
{
	return id ? "barrier" : "__syncthreads, barrier";
}

/* threads 0: all of the block */
static named_barrier &named(int id, int threads, const void *pc)
{
	if (threads % 32) {
		report(pc, nullptr, "%s: %s waits at a barrier of %d threads, not a multiple of 32",
		       where(pc).c_str(), name_of(self).c_str(), threads);
		fail();
	}
	if (id < 0 || id > 15) {
		report(pc, nullptr, "%s: %s names barrier %d, there are 0 to 15", where(pc).c_str(),
		       name_of(self).c_str(), id);
		fail();
	}
	return self->block->barriers[id];
}

void barrier(int id, int threads)
{
	arrive_and_wait(named(id, threads, HERE), id, all_threads(threads), false, HERE,
			barrier_name(id));
}

void barrier_arrive(int id, int threads)
{
	named_barrier &b = named(id, threads, HERE);

	const bool last = arrive_at(b, id, threads, false, HERE, barrier_name(id));

	if (traced)
		trace_arrive(&b, barrier_name(id), (uint32_t)id, b.opened, threads - b.arrived,
			     HERE);
	if (last)
		open_barrier(b);
}

bool barrier_or(int id, int threads, bool value)
{
	arrive_and_wait(named(id, threads, HERE), id, all_threads(threads), value, HERE,
			barrier_name(id));
	return self->vote;
}

int barrier_count(bool value)
{
	arrive_and_wait(named(0, 0, HERE), 0, all_threads(0), value, HERE, barrier_name(0));
	return (int)self->numbers[0];
}

/* ---- the cluster's barrier ------------------------------------------------------------------- */

void cluster_arrive(ordering order)
{
	cluster &c = *self->cluster;
	uint8_t &mine = c.arrived[self->slot - 1];

	if (mine) {
		report(HERE, nullptr,
		       "%s: %s arrives twice at the cluster's barrier without a wait",
		       where(HERE).c_str(), name_of(self).c_str());
		fail();
	}
	mine = 1;
	self->block->work++;
	if (order == RELEASE)
		release(c.barrier.clocks, self);
	else if (c.barrier.clocks.empty())
		c.barrier.clocks.all.here = clocks::make(c.slots);
	c.barrier.arrived++;
	if (traced)
		trace_arrive(&c.barrier, "the cluster's barrier", 0, c.barrier.opened,
			     (int)c.threads - c.barrier.arrived, HERE);
	if (c.barrier.arrived < (int)c.threads)
		return;
	c.barrier.opened++;
	c.barrier.arrived = 0;
	for (fiber *f : c.fibers)
		c.arrived[f->slot - 1] = 2; /* may go on */
	for (fiber *f : c.barrier.waiting)
		wake(f);
	c.barrier.waiting.clear();
	c.passed = c.barrier.clocks.all; /* the next phase needs all of them past this one */
	c.barrier.clocks.clear();
}

void cluster_wait()
{
	cluster &c = *self->cluster;

	if (!c.arrived[self->slot - 1]) {
		report(HERE, nullptr, "%s: %s waits at the cluster's barrier without an arrival",
		       where(HERE).c_str(), name_of(self).c_str());
		fail();
	}
	if (c.arrived[self->slot - 1] == 1) {
		c.barrier.waiting.push_back(self);
		block_on(HERE, "wait in %s", "the cluster's barrier");
	}
	c.arrived[self->slot - 1] = 0;
	self->phases++;
	join(self->past, c.passed);
}

uint32_t cluster_rank()
{
	return (uint32_t)self->block->rank;
}

uint32_t cluster_map(uint32_t address, uint32_t rank)
{
	return (address & ((1u << RANK_SHIFT) - 1)) | rank << RANK_SHIFT;
}

/* Words of any block's shared memory, by its cluster address. */
void load_shared(uint32_t address, void *value, int bytes)
{
	block *b;
	uint32_t at;

	preempt();

	const char *from = host_address(address, bytes, &b, &at, "a load", HERE);

	if (!b->live)
		report(HERE, nullptr, "%s: %s reads shared memory of block %u, which has ended",
		       where(HERE).c_str(), name_of(self).c_str(), b->index.x);
	touch(b, at, bytes, READ, self, epoch(self), HERE);
	memcpy(value, from, (size_t)bytes);
}

void store_shared(uint32_t address, const void *value, int bytes)
{
	block *b;
	uint32_t at;

	preempt();

	char *to = host_address(address, bytes, &b, &at, "a store", HERE);

	if (!b->live)
		report(HERE, nullptr, "%s: %s writes shared memory of block %u, which has ended",
		       where(HERE).c_str(), name_of(self).c_str(), b->index.x);
	touch(b, at, bytes, WRITE, self, epoch(self), HERE);
	memcpy(to, value, (size_t)bytes);
}

/* ---- ldmatrix, stmatrix, mma ----------------------------------------------------------------- */

struct matrices {
	uint32_t *r;
	uint32_t address;
	const void *pc;
	bool transposed;
};

/* Lane l names row l % 8 of matrix l / 8, and has columns 2 (l % 4), + 1 of row l / 4 of each. */
static void load_matrices(warp &w, uint32_t, void **arguments)
{
	uint16_t x[4][8][8];

	for (int l = 0; l < 32; l++) {
		const matrices &m = *(matrices *)arguments[l];
		block *b;
		uint32_t at;
		const char *from = host_address(m.address, 16, &b, &at, "ldmatrix", m.pc);

		touch(b, at, 16, READ, w.lanes[l], epoch(w.lanes[l]), m.pc);
		memcpy(x[l / 8][l % 8], from, 16);
	}
	for (int l = 0; l < 32; l++) {
		matrices &m = *(matrices *)arguments[l];
		const int g = l / 4, t = l % 4 * 2;

		for (int i = 0; i < 4; i++)
			m.r[i] = m.transposed ? x[i][t][g] | (uint32_t)x[i][t + 1][g] << 16
					      : x[i][g][t] | (uint32_t)x[i][g][t + 1] << 16;
	}
}

static void store_matrices(warp &w, uint32_t, void **arguments)
{
	uint16_t x[4][8][8];

	for (int l = 0; l < 32; l++) {
		const matrices &m = *(matrices *)arguments[l];
		const int g = l / 4, t = l % 4 * 2;

		for (int i = 0; i < 4; i++) {
			(m.transposed ? x[i][t][g] : x[i][g][t]) = (uint16_t)m.r[i];
			(m.transposed ? x[i][t + 1][g] : x[i][g][t + 1]) = (uint16_t)(m.r[i] >> 16);
		}
	}
	for (int l = 0; l < 32; l++) {
		const matrices &m = *(matrices *)arguments[l];
		block *b;
		uint32_t at;
		char *to = host_address(m.address, 16, &b, &at, "stmatrix", m.pc);

		touch(b, at, 16, WRITE, w.lanes[l], epoch(w.lanes[l]), m.pc);
		memcpy(to, x[l / 8][l % 8], 16);
	}
}

void ldmatrix(uint32_t *r, uint32_t address, bool transposed)
{
	matrices mine = {r, address, HERE, transposed};

	preempt();
	meet(transposed ? "ldmatrix.trans" : "ldmatrix", ~0u, &mine, load_matrices, HERE);
}

void stmatrix(uint32_t address, const uint32_t *r, bool transposed)
{
	matrices mine = {(uint32_t *)r, address, HERE, transposed};

	preempt();
	meet(transposed ? "stmatrix.trans" : "stmatrix", ~0u, &mine, store_matrices, HERE);
}

struct mma_operands {
	float *d;
	const uint32_t *a;
	uint32_t b[2];
	element type;
	const void *pc;
};

void mma(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, element type)
{
	mma_operands mine = {d, a, {b0, b1}, type, HERE};

	meet(
		"mma.sync", ~0u, &mine,
		[](warp &w, uint32_t, void **arguments) {
			float a[16][16], b[8][16], c[16 * 8];

			if (traced)
				trace_mma(w, ((mma_operands *)arguments[0])->pc);
			for (int l = 0; l < 32; l++) {
				const mma_operands &m = *(mma_operands *)arguments[l];

				for (int i = 0; i < 4; i++) {
					a_fragment(a, l, i, m.a[i], m.type);
					b[l / 4][l % 4 * 2 + i / 2 * 8 + i % 2] =
						widen((uint16_t)(m.b[i / 2] >> i % 2 * 16), m.type);
				}
			}
			for (int i = 0; i < 16; i++)
				for (int j = 0; j < 8; j++)
					c[i * 8 + j] = ((mma_operands *)arguments[d_lane(i, j)])
							       ->d[d_index(i, j)];
			multiply(c, a, b, 8);
			for (int i = 0; i < 16; i++)
				for (int j = 0; j < 8; j++)
					((mma_operands *)arguments[d_lane(i, j)])
						->d[d_index(i, j)] = c[i * 8 + j];
		},
		HERE);
}
} // namespace emulator
