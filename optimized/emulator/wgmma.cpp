/* wgmma.cpp - matrix products of a warpgroup, each warp with its 16 rows. A product reads its
 * operands and writes its accumulators at any time from its issue to its warp's wait; accumulators
 * are poisoned at the first issue.
 */
#include <algorithm>

#include "emulator/machine.h"
#include "emulator/matrix.h"

namespace emulator
{
/* The chunks of 16 bytes of an operand: rows of M or N, 16 of K. K-major: 8 of K of one row; else
 * 8 rows of one k. f(offset in shared memory, row, k). PTX ISA, "Strides" and "Canonical Layouts":
 * without swizzle core matrices of 8 x 16 bytes, LBO between those of K, SBO between those of M or
 * N; with it rows of 32, 64 or 128 bytes, SBO from 8 rows to the next. Transposed: LBO from one row
 * of 128 bytes to the next along M or N, SBO from 8 of K to the next. */
template <typename F> static void each_chunk(uint64_t desc, int rows, bool transposed, F f)
{
	static const uint32_t width_of[] = {0, 128, 64, 32};
	const uint32_t start = (desc & 0x3fff) << 4, lbo = (desc >> 16 & 0x3fff) << 4;
	const uint32_t sbo = (desc >> 32 & 0x3fff) << 4, width = width_of[desc >> 62];
	const uint32_t mask = width ? width / 16 - 1 : 0;

	for (int major = 0; major < (transposed ? 16 : rows); major++)
		for (int minor = 0; minor < (transposed ? rows : 16); minor += 8) {
			const uint32_t i = (uint32_t)major, j = (uint32_t)minor;
			uint32_t a = start;

			if (!transposed && width)
				a += i / 8 * sbo + i % 8 * width + j * 2;
			else if (!transposed)
				a += i / 8 * sbo + j / 8 * lbo + i % 8 * 16;
			else
				a += j * 2 / width * lbo + i / 8 * sbo + i % 8 * width +
				     j * 2 % width;
			f(a ^ (a >> 7 & mask) << 4, transposed ? minor : major,
			  transposed ? major : minor);
		}
}

static void check_descriptor(uint64_t desc, bool transposed, const void *pc)
{
	const uint64_t fields = 0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 3ull << 62;

	if (!(desc & ~fields) && !(transposed && !(desc >> 62)))
		return;
	report(pc, nullptr,
	       "%s: %s: the wgmma descriptor %#llx has bits outside of its fields, or a layout "
	       "that is "
	       "not emulated",
	       where(pc).c_str(), name_of(self).c_str(), (unsigned long long)desc);
	fail();
}

static void gather(float (*x)[16], uint64_t desc, int rows, bool transposed, element type,
		   const block *b, int first)
{
	each_chunk(desc, first + rows, transposed, [&](uint32_t at, int r, int k) {
		uint16_t v[8];

		if (r < first || at + 16 > WINDOW)
			return;
		memcpy(v, behind + (size_t)b->place * WINDOW + at, 16);
		for (int i = 0; i < 8; i++)
			(transposed ? x[r - first + i][k] : x[r - first][k + i]) =
				widen(v[i], type);
	});
}

static void execute(warp &w, product &p)
{
	static float a[16][16], b[256][16];
	chain &c = *p.chain;

	if (p.how.a)
		for (int l = 0; l < 32; l++)
			for (int i = 0; i < 4; i++)
				a_fragment(a, l, i, *p.a[l].r[i], p.how.type);
	else
		gather(a, p.how.desc_a, 16, p.how.transposed_a, p.how.type, w.block,
		       w.number % 4 * 16);
	gather(b, p.how.desc_b, c.n, p.how.transposed_b, p.how.type, w.block, 0);
	if (!p.how.accumulate)
		std::fill(c.sum.begin(), c.sum.end(), 0.f);
	multiply(c.sum.data(), a, b, c.n);
	if (--c.pending)
		return;
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < c.n; j++)
			c.d[d_lane(i, j)][d_index(i, j)] = c.sum[(size_t)(i * c.n + j)];
	w.chains.erase(std::find_if(w.chains.begin(), w.chains.end(),
				    [&](const auto &x) { return x.get() == &c; }));
}

/* All of the groups before this one, or the oldest product. */
void run_products(warp &w, uint32_t groups, bool one)
{
	std::vector<warp *> &computing = w.block->cluster->computing;

	while (!w.queue.empty() && w.queue[0]->group < groups) {
		std::unique_ptr<product> p = std::move(w.queue[0]);

		w.queue.erase(w.queue.begin());
		execute(w, *p);
		if (traced)
			trace_computed(w, p->group);
		if (one)
			break;
	}
	if (w.queue.empty())
		computing.erase(std::remove(computing.begin(), computing.end(), &w),
				computing.end());
}

struct issued {
	operands how;
	const void *pc;
};

static chain *chain_of(warp &w, const operands &how, void **arguments, const void *pc)
{
	for (auto &c : w.chains)
		if (c->d[0] == ((issued *)arguments[0])->how.d)
			return c.get();
	if (!w.fenced)
		report(pc, nullptr,
		       "%s: warp %d of block %u starts wgmma without wgmma.fence since its "
		       "registers "
		       "were free",
		       where(pc).c_str(), w.number, w.block->index.x);

	chain *c = new chain();

	w.chains.emplace_back(c);
	c->n = how.n;
	c->sum.resize((size_t)(16 * how.n));
	for (int l = 0; l < 32; l++)
		c->d[l] = ((issued *)arguments[l])->how.d;
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < how.n; j++) {
			float &d = c->d[d_lane(i, j)][d_index(i, j)];

			c->sum[(size_t)(i * how.n + j)] = d;
			d = __uint_as_float(0x7fff7fff);
		}
	return c;
}

/* Whoever wrote the operands must be known to the warp (any of its lanes is asked), and they are
 * read from now on until the wait. */
static void read_operands(warp &w, const operands &how, const void *pc)
{
	fiber *asked = w.lanes[below(32)];
	const uint32_t mark = epoch(w.agent, w.committed + 1);
	const auto read = [&](uint32_t at, int, int) {
		touch(w.block, at, 16, ASYNC_READ, asked, mark, pc);
	};

	check_descriptor(how.desc_b, how.transposed_b, pc);
	each_chunk(how.desc_b, how.n, how.transposed_b, read);
	if (how.a)
		return;

	const int first = w.number % 4 * 16;

	check_descriptor(how.desc_a, how.transposed_a, pc);
	each_chunk(how.desc_a, 64, how.transposed_a, [&](uint32_t at, int r, int k) {
		if (r >= first && r < first + 16)
			read(at, r, k);
	});
}

static void issue(warp &w, uint32_t, void **arguments)
{
	const issued &first = *(issued *)arguments[0];
	std::unique_ptr<product> p(new product());

	p->group = w.committed, p->how = first.how, p->pc = first.pc;
	w.issued++, counted.products++;
	for (int l = 0; l < 32; l++) {
		const operands &x = ((issued *)arguments[l])->how;

		if (x.desc_b != first.how.desc_b || x.desc_a != first.how.desc_a ||
		    x.accumulate != first.how.accumulate || x.n != first.how.n)
			report(first.pc, nullptr,
			       "%s: the lanes of a warp give wgmma different operands",
			       where(first.pc).c_str());
		if (x.a)
			p->a[l] = *x.a;
	}
	read_operands(w, first.how, first.pc);
	p->chain = chain_of(w, first.how, arguments, first.pc);
	p->chain->pending++;
	if (traced)
		trace_product(w, first.pc);
	if (w.queue.empty())
		w.block->cluster->computing.push_back(&w);
	w.queue.push_back(std::move(p));
	if (at_once())
		run_products(w, ~0u, false);
}

void wgmma(const operands &how)
{
	issued mine = {how, HERE};

	preempt();
	use_proxy(*self->cluster);
	if (self->warp->count < 32) {
		report(HERE, nullptr, "%s: %s: wgmma needs whole warps", where(HERE).c_str(),
		       name_of(self).c_str());
		fail();
	}
	meet("wgmma", ~0u, &mine, issue, HERE);
}

void wgmma_fence()
{
	meet(
		"wgmma.fence", ~0u, nullptr, [](warp &w, uint32_t, void **) { w.fenced = true; },
		HERE);
}

void wgmma_commit()
{
	meet(
		"wgmma.commit_group", ~0u, nullptr,
		[](warp &w, uint32_t, void **) { w.committed++; }, HERE);
}

struct awaited {
	uint32_t left; /* groups that may go on */
	const void *pc;
};

void wgmma_wait(int left)
{
	awaited mine = {(uint32_t)left, HERE};

	meet(
		"wgmma.wait_group", ~0u, &mine,
		[](warp &w, uint32_t, void **arguments) {
			const auto [left, pc] = *(awaited *)arguments[0];

			if (traced)
				trace_passed(w, left, pc);
			if (w.committed > left)
				w.waited = std::max(w.waited, w.committed - left);
			run_products(w, w.waited, false);
			w.fenced = false;
			for (fiber *f : w.lanes)
				tell(f, w.agent, w.waited);
		},
		HERE);
}

void check_finished(warp &w)
{
	if (!w.queue.empty())
		report(w.queue[0]->pc, nullptr,
		       "warp %d of block %u ends while its wgmma of %s is under way", w.number,
		       w.block->index.x, where(w.queue[0]->pc).c_str());
	if (w.block->live || !w.issued)
		return;
	for (size_t i = (size_t)w.number / 4 * 4; i < (size_t)w.number / 4 * 4 + 4; i++)
		if (i < w.block->warps.size() && w.block->warps[i].issued != w.issued)
			report(nullptr, nullptr,
			       "%s: warps %d and %zu of a warpgroup issued %u and %u wgmma",
			       name_of(w.block->cluster->grid).c_str(), w.number, i, w.issued,
			       w.block->warps[i].issued);
}
} // namespace emulator
