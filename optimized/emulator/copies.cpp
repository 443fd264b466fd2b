/* copies.cpp - what completes later than it is issued, but for wgmma: cp.async, mbarriers, TMA,
 * bulk copies. Between its issue and the wait that covers it a copy may land at any time: at once,
 * at a random moment, or when nothing else can go on. Its target is poisoned first, as the memory
 * model allows: nobody may look.
 */
#include <algorithm>

#include "emulator/machine.h"

namespace emulator
{
/* ---- copies under way ------------------------------------------------------------------------ */

const void *flight_pc(const cluster &c, uint32_t id)
{
	return c.flights[id & CLOCK]->pc;
}

static copy *take_off(block *target, const void *pc)
{
	cluster &c = *self->cluster;
	copy *flight = new copy();

	counted.copies++;
	if (c.free_flights.empty()) {
		c.free_flights.push_back((uint32_t)c.flights.size());
		c.flights.emplace_back();
	}
	flight->id = c.free_flights.back(), flight->pc = pc, flight->target = target;
	flight->width = 16;
	c.free_flights.pop_back();
	c.flights[flight->id].reset(flight);
	if (flight->id >= CLOCK) {
		report(pc, nullptr,
		       "%s: more than %u copies under way in a cluster: use a smaller case",
		       where(pc).c_str(), CLOCK);
		fail();
	}
	return flight;
}

/* All who may ask for it have been told. */
static void forget(cluster &c, copy *flight)
{
	const uint32_t id = flight->id;

	c.flights[id].reset();
	c.free_flights.push_back(id);
}

static void complete_tx(const copy *c);

static void land(copy *c)
{
	char *const mirror = c->target ? behind + (size_t)c->target->place * WINDOW : nullptr;
	const uint32_t mark = c->tells ? epoch(c->tells->agent, ++c->tells->agent_clock) : 0;

	c->landed = true;
	if (traced)
		trace_landing(c);
	for (const piece &p : c->pieces) {
		char *const to = p.to ? p.to : shared_at(c->target, p.at);

		if (!p.to && !c->source)
			memset(to, 0, (size_t)c->width);
		if (c->source)
			memcpy(to, behind + (size_t)c->source->place * WINDOW + p.from_at, p.bytes);
		else if (p.from)
			memcpy(to, p.from, p.bytes);
		if (!c->tells)
			continue;
		memcpy(mirror + p.at, to, (size_t)c->width);
		mark_landed(c->target, p.at, c->width, epoch(IN_FLIGHT, c->id), mark);
	}
	if (!c->tells)
		return;
	tell(c->tells->now, *c->target->cluster, c->tells->agent, c->tells->agent_clock);
	complete_tx(c);
	if (traced)
		trace_landing(nullptr);
	forget(*c->target->cluster, c);
}

static copy *take_down(cluster &c, uint32_t i)
{
	copy *flight = c.air[i];

	c.air[i] = c.air.back();
	c.air[i]->flight = i;
	c.air.pop_back();
	return flight;
}

bool land_something(cluster &c)
{
	const uint32_t n = (uint32_t)(c.air.size() + c.computing.size());

	if (!n)
		return false;

	const uint32_t i = below(n);

	if (i >= c.air.size()) {
		run_products(*c.computing[i - c.air.size()], ~0u, true);
		return true;
	}

	land(take_down(c, i));
	return true;
}

bool at_once()
{
	return options.timing == TIMING_EARLY || (options.timing == TIMING_RANDOM && below(4) == 0);
}

static void fly(copy *c, const char *kind)
{
	if (traced)
		trace_copy(c, kind);
	if (at_once()) {
		land(c);
		return;
	}
	if (options.timing != TIMING_EARLY)
		for (const piece &p : c->pieces)
			poison(p.to ? p.to : shared_at(c->target, p.at),
			       (size_t)(p.to ? p.bytes : c->width));
	c->flight = (uint32_t)self->cluster->air.size();
	self->cluster->air.push_back(c);
}

static void land_now(copy *c)
{
	if (!c->landed)
		land(take_down(*self->cluster, c->flight));
}

/* ---- cp.async -------------------------------------------------------------------------------- */

/* The end of a copy in global memory. */
static void global_aligned_or_fail(const void *at, const char *what, const void *pc)
{
	if ((uintptr_t)at % 16 == 0)
		return;
	report(pc, nullptr, "%s: %s: %s at global memory %p: not a multiple of 16",
	       where(pc).c_str(), name_of(self).c_str(), what, at);
	fail();
}

void copy_async(uint32_t address, const void *source, int bytes)
{
	block *b;
	uint32_t at;

	preempt();
	host_address(address, 16, &b, &at, "cp.async", HERE);
	if (bytes)
		global_aligned_or_fail(source, "cp.async", HERE);

	copy *c = take_off(b, HERE);

	touch(b, at, 16, WRITE, self, epoch(IN_FLIGHT, c->id), HERE);
	if (bytes)
		touch_global((const char *)source, (size_t)bytes, READ, self, 0, HERE);
	c->group = self->committed;
	c->pieces.push_back(
		{at, bytes ? (const char *)source : nullptr, nullptr, 0, (uint8_t)bytes});
	self->copies.push_back(c);
	fly(c, "cp.async");
}

void copy_commit()
{
	self->committed++;
}

void copy_wait(int left)
{
	std::vector<copy *> rest, mine;

	if (traced)
		trace_passed(self, self->copies, self->committed, left, "cp.async", HERE);
	for (copy *c : self->copies)
		((int)(self->committed - c->group) > left ? mine : rest).push_back(c);
	for (size_t i = mine.size(); i > 1; i--)
		std::swap(mine[i - 1], mine[below((uint32_t)i)]);
	for (copy *c : mine) {
		land_now(c);
		mark_landed(c->target, c->pieces[0].at, 16, epoch(IN_FLIGHT, c->id), epoch(self));
		/* generic writes as any other: wgmma sees them behind a proxy fence */
		keep_write(self, {c->target, c->pieces[0].at, 16, self->now});
		forget(*self->cluster, c);
	}
	self->copies = std::move(rest);
}

/* ---- mbarriers ------------------------------------------------------------------------------- */

static mbarrier *find(uint32_t address, const char *what, bool by_copy, const void *pc)
{
	block *b;
	uint32_t at;

	host_address(address, 8, &b, &at, what, pc);
	for (auto &m : b->mbarriers) {
		if (m->offset != at)
			continue;
		if (!knows(self, m->init_slot, m->init_clock, GENERIC) &&
		    !(m->fenced && self->phases > m->told))
			report(pc, m->pc,
			       "%s: %s uses mbarrier +%u, whose init at %s it cannot know of",
			       where(pc).c_str(), name_of(self).c_str(), at, where(m->pc).c_str());
		if (!m->fenced && (b != self->block || by_copy))
			report(pc, m->pc,
			       "%s: %s: mbarrier +%u is used by a copy or another block, but no "
			       "fence.mbarrier_init follows its init at %s",
			       where(pc).c_str(), name_of(self).c_str(), at, where(m->pc).c_str());
		if (!b->live)
			report(pc, nullptr, "%s: %s uses mbarrier +%u of block %u, which has ended",
			       where(pc).c_str(), name_of(self).c_str(), at, b->index.x);
		return m.get();
	}
	report(pc, nullptr, "%s: %s: %s of shared memory +%u, which is no mbarrier",
	       where(pc).c_str(), name_of(self).c_str(), what, at);
	fail();
}

void mbarrier_init(uint32_t address, uint32_t count)
{
	block *b;
	uint32_t at;

	host_address(address, 8, &b, &at, "mbarrier.init", HERE);
	for (auto &m : b->mbarriers)
		if (m->offset == at) {
			report(HERE, nullptr, "%s: %s initialises mbarrier +%u again",
			       where(HERE).c_str(), name_of(self).c_str(), at);
			fail();
		}
	if (b->mbarriers.size() == MAX_BARRIERS || count == 0 || count > 0xfffff) {
		report(HERE, nullptr,
		       "%s: mbarrier +%u of %u arrivals: %u barriers a block and 1 to "
		       "1,048,575 arrivals are possible",
		       where(HERE).c_str(), at, count, MAX_BARRIERS);
		fail();
	}
	touch(b, at, 8, WRITE, self, epoch(OBJECT, 1), HERE);
	use_proxy(*self->cluster);

	mbarrier *m = new mbarrier();

	m->block = b, m->offset = at, m->count = m->pending = count, m->pc = HERE;
	m->agent = b->cluster->first_barrier + (uint32_t)b->rank * MAX_BARRIERS +
		   (uint32_t)b->mbarriers.size();
	m->init_slot = self->slot, m->init_clock = self->now;
	b->mbarriers.emplace_back(m);
}

/* The cluster's barrier hands an init on even if the arrival behind the fence is relaxed. */
void mbarrier_init_fence()
{
	const bool late = self->cluster->arrived[self->slot - 1];

	for (auto &m : self->block->mbarriers)
		if (m->init_slot == self->slot && !m->fenced) {
			m->fenced = true;
			m->told = self->phases + late;
		}
}

static void advance(mbarrier *b)
{
	std::vector<fiber *> all;

	if (b->pending || b->tx)
		return;
	join(b->done, b->now.all);
	join(b->done_wide, b->now_wide.all);
	b->now.clear();
	b->now_wide.clear();
	b->phase++;
	b->pending = b->count;
	progress++;
	if (traced)
		trace_phase(b);
	all.swap(b->waiting);
	for (fiber *f : all)
		wake(f);
}

static void complete_tx(const copy *c)
{
	mbarrier *b = c->tells;

	b->tx -= c->bytes;
	if (b->tx < -0xfffff)
		report(c->pc, nullptr, "%s: mbarrier +%u: more bytes than a count can hold",
		       where(c->pc).c_str(), b->offset);
	advance(b);
}

/* Of a relaxed arrival others learn what the agents did that its thread has waited for: wgmma has
 * read, copies have come. Nothing of its own accesses. */
static void tell_agents(mbarrier *b, const fiber *f)
{
	for (uint32_t i = f->cluster->first_agent; i < f->cluster->slots; i++)
		tell(b->now, *f->cluster, i, f->past.here->at[i]);
}

void mbarrier_arrive(uint32_t address, uint32_t count, ordering order, bool wide)
{
	preempt();

	mbarrier *b = find(address, "arrive", false, HERE);

	if (count > b->pending) {
		report(HERE, nullptr,
		       "%s: %s arrives %u times at mbarrier +%u in phase %u, which expects %u more "
		       "of %u",
		       where(HERE).c_str(), name_of(self).c_str(), count, b->offset, b->phase,
		       b->pending, b->count);
		fail();
	}
	if (order == RELEASE && b->block == self->block)
		release(b->now, self);
	else if (order == RELEASE && wide)
		release(b->now_wide, self);
	tell_agents(b, self);
	b->pending -= count;
	if (traced)
		trace_arrive(b, count, 0, HERE);
	advance(b);
}

void mbarrier_expect(uint32_t address, uint32_t bytes)
{
	preempt();

	mbarrier *b = find(address, "arrive.expect_tx", false, HERE);

	if (!b->pending || b->tx + bytes > 0xfffff) {
		report(HERE, nullptr,
		       "%s: %s arrives at mbarrier +%u in phase %u with %u bytes: it expects %u "
		       "more "
		       "arrivals, and %ld bytes are under way of at most 1,048,575",
		       where(HERE).c_str(), name_of(self).c_str(), b->offset, b->phase, bytes,
		       b->pending, (long)b->tx);
		fail();
	}
	b->tx += bytes;
	release(b->now, self);
	b->pending--;
	if (traced)
		trace_arrive(b, 1, bytes, HERE);
	advance(b);
}

bool mbarrier_test(uint32_t address, uint32_t parity, bool wide)
{
	mbarrier *b = find(address, "test_wait", false, HERE);

	if ((b->phase & 1) == (parity & 1)) {
		poll(HERE, "poll for %s +%u to complete parity %u", "mbarrier", b->offset,
		     parity & 1);
		return false; /* as it was; by now it may be true */
	}
	if (traced)
		trace_seen(self, b);
	join(self->past, b->done);
	if (wide)
		join(self->past, b->done_wide);
	return true;
}

void mbarrier_wait(uint32_t address, uint32_t parity, bool wide)
{
	mbarrier *b = find(address, "try_wait", false, HERE);

	preempt();
	while ((b->phase & 1) == (parity & 1)) {
		b->waiting.push_back(self);
		block_on(HERE, "wait for %s +%u to complete parity %u", "mbarrier", b->offset,
			 parity & 1);
	}
	join(self->past, b->done);
	if (wide)
		join(self->past, b->done_wide);
}

/* ---- copies that tell an mbarrier ------------------------------------------------------------ */

static void aligned_or_fail(uint32_t to, uint32_t bytes, uint32_t by, const char *what,
			    const void *pc)
{
	if (to % by == 0 && bytes % 16 == 0)
		return;
	report(pc, nullptr, "%s: %s: %s of %u bytes at shared memory %#x: not a multiple of %u",
	       where(pc).c_str(), name_of(self).c_str(), what, bytes, to, to % by ? by : 16);
	fail();
}

/* Of a copy to shared memory: its target is in flight from now on. */
static void announce(copy *c)
{
	for (const piece &p : c->pieces)
		touch(c->target, p.at, c->width, ASYNC_WRITE, self, epoch(IN_FLIGHT, c->id), c->pc);
}

/* The hardware takes a first coordinate that is no multiple of 16 bytes for an illegal instruction
 * (seen on an H200, with and without swizzle). */
static const tensor_map_fields &fields_of(const void *map, int rank, const int32_t *at,
					  const void *pc)
{
	static tensor_map_fields fields;

	memcpy(&fields, map, sizeof(fields));
	if (fields.magic == 0x4d54414d && fields.rank == rank && at[0] % 8 == 0)
		return fields;
	if (fields.magic == 0x4d54414d && fields.rank == rank) {
		report(pc, nullptr,
		       "%s: %s: the first coordinate of a box is %d, not a multiple of 16 bytes (8 "
		       "elements): an illegal instruction",
		       where(pc).c_str(), name_of(self).c_str(), at[0]);
		fail();
	}
	report(pc, nullptr, "%s: %s: a tensor map of %d dimensions was expected, this is none",
	       where(pc).c_str(), name_of(self).c_str(), rank);
	fail();
}

/* Chunks of 16 bytes of a box; offset: in shared memory, swizzled by address as the hardware does.
 */
template <typename F>
static void each_chunk(const tensor_map_fields &map, const int32_t *at, uint32_t base, F f)
{
	const uint32_t row_bytes = map.box[0] * 2, mask = (1u << map.swizzle) - 1;
	uint32_t rows = 1, i[5] = {};

	for (int d = 1; d < map.rank; d++)
		rows *= map.box[d];
	for (uint32_t r = 0; r < rows; r++) {
		const char *line = map.data;
		uint32_t rest = r;
		bool inside = true;

		for (int d = 1; d < map.rank; d++) {
			i[d] = rest % map.box[d];
			rest /= map.box[d];

			const int64_t x = (int64_t)at[d] + i[d];

			inside = inside && x >= 0 && x < (int64_t)map.extent[d];
			line += x * (int64_t)map.stride[d - 1];
		}
		for (uint32_t b = 0; b < row_bytes; b += 16) {
			const int64_t x = at[0] + (int64_t)b / 2;
			const uint32_t offset = base + r * row_bytes + b;
			const int64_t left = inside && x >= 0 ? (int64_t)map.extent[0] - x : 0;
			const int count = (int)std::max<int64_t>(0, std::min<int64_t>(left, 8));

			f(offset ^ (offset >> 7 & mask) << 4, line + x * 2, count * 2);
		}
	}
}

void tensor_load(uint32_t to, const void *map, int rank, const int32_t *at, uint32_t mbarrier,
		 uint32_t mask)
{
	const tensor_map_fields fields = fields_of(map, rank, at, HERE);
	const uint32_t low = (1u << RANK_SHIFT) - 1;
	uint32_t bytes = 2;

	preempt();
	for (int d = 0; d < rank; d++)
		bytes *= fields.box[d];
	aligned_or_fail(to, bytes, 128, "a TMA load", HERE);
	for (uint32_t r = 0; r < self->cluster->blocks.size(); r++) {
		block *b;
		uint32_t base;

		if (mask ? !(mask >> r & 1) : r != to >> RANK_SHIFT)
			continue;
		host_address((to & low) | r << RANK_SHIFT, 128, &b, &base, "the target of TMA",
			     HERE);

		copy *c = take_off(b, HERE);

		c->tells = find((mbarrier & low) | r << RANK_SHIFT, "complete_tx", true, HERE);
		c->bytes = bytes;
		each_chunk(fields, at, base, [&](uint32_t offset, const char *from, int valid) {
			if (valid)
				touch_global(from, (size_t)valid, ASYNC_READ, self, 0, c->pc);
			c->pieces.push_back(
				{offset, valid ? from : nullptr, nullptr, 0, (uint8_t)valid});
		});
		announce(c);
		fly(c, "TMA load");
	}
}

void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t mbarrier)
{
	block *b;
	uint32_t base;

	preempt();
	aligned_or_fail(to, bytes, 16, "a bulk copy", HERE);
	host_address(to, 16, &b, &base, "the target of a bulk copy", HERE);
	global_aligned_or_fail(from, "a bulk copy", HERE);
	touch_global((const char *)from, bytes, ASYNC_READ, self, 0, HERE);

	copy *c = take_off(b, HERE);

	c->tells = find(mbarrier, "complete_tx", true, HERE);
	c->bytes = bytes;
	for (uint32_t i = 0; i < bytes; i += 16)
		c->pieces.push_back({base + i, (const char *)from + i, nullptr, 0, 16});
	announce(c);
	fly(c, "bulk load");
}

/* From this block's shared memory to another's: read asynchronously until the target's mbarrier has
 * been told. */
void bulk_cluster(uint32_t to, uint32_t from, uint32_t bytes, uint32_t mbarrier)
{
	block *b, *source;
	uint32_t base, at;

	preempt();
	aligned_or_fail(to, bytes, 16, "a bulk copy", HERE);
	host_address(to, 16, &b, &base, "the target of a bulk copy", HERE);
	host_address(from, 16, &source, &at, "the source of a bulk copy", HERE);

	copy *c = take_off(b, HERE);

	c->tells = find(mbarrier, "complete_tx", true, HERE);
	c->source = source;
	c->bytes = bytes;
	for (uint32_t i = 0; i < bytes; i += 16) {
		touch(source, at + i, 16, ASYNC_READ, self,
		      epoch(c->tells->agent, c->tells->agent_clock + 1), HERE);
		c->pieces.push_back({base + i, nullptr, nullptr, at + i, 16});
	}
	announce(c);
	fly(c, "bulk copy");
}

/* Words by value. */
void store_async(uint32_t to, const uint32_t *words, int count, uint32_t mbarrier)
{
	block *b;
	uint32_t base;

	preempt();
	host_address(to, count * 4, &b, &base, "the target of st.async", HERE);

	copy *c = take_off(b, HERE);

	memcpy(c->words, words, (size_t)count * 4);
	c->tells = find(mbarrier, "complete_tx", true, HERE);
	c->width = count * 4;
	c->bytes = (uint32_t)c->width;
	c->pieces.push_back({base, (const char *)c->words, nullptr, 0, (uint8_t)c->width});
	announce(c);
	fly(c, "st.async");
}

/* ---- stores in groups of a thread ------------------------------------------------------------ */

static copy *new_store(const void *pc)
{
	copy *c = take_off(nullptr, pc);

	use_proxy(*self->cluster);
	c->source = self->block;
	c->group = self->stores_committed;
	c->clock = ++self->warp->bulk_clock;
	self->stores.push_back(c);
	return c;
}

/* bytes of global memory from those of shared memory, which lie in 16 of them */
static void store_piece(copy *c, uint32_t from, char *to, int bytes)
{
	const uint32_t reads = epoch(self->warp->bulk_agent, c->clock);
	const uint32_t writes = epoch(self->warp->bulk_agent + self->cluster->warps, c->clock);

	touch(self->block, from / 16 * 16, 16, ASYNC_READ, self, reads, c->pc);
	if (!bytes)
		return;
	touch_global(to, (size_t)bytes, ASYNC_WRITE, self, writes, c->pc);
	c->pieces.push_back({0, nullptr, to, from, (uint8_t)bytes});
}

void bulk_store(void *to, uint32_t from, uint32_t bytes)
{
	block *b;
	uint32_t at;

	preempt();
	aligned_or_fail(from, bytes, 16, "a bulk store", HERE);
	host_address(from, 16, &b, &at, "the source of a bulk store", HERE);
	global_aligned_or_fail(to, "a bulk store", HERE);

	copy *c = new_store(HERE);

	for (uint32_t i = 0; i < bytes; i += 16)
		store_piece(c, at + i, (char *)to + i, 16);
	fly(c, "bulk store");
}

void tensor_store(const void *map, int rank, const int32_t *at, uint32_t from)
{
	const tensor_map_fields fields = fields_of(map, rank, at, HERE);
	block *b;
	uint32_t base;

	preempt();
	aligned_or_fail(from, 16, 128, "a TMA store", HERE);
	for (int d = 0; d < rank; d++)
		if (at[d] < 0) { /* seen on an H200; beyond the end is fine */
			report(HERE, nullptr,
			       "%s: %s: coordinate %d of a TMA store is %d: below 0 it is an "
			       "illegal instruction",
			       where(HERE).c_str(), name_of(self).c_str(), d, at[d]);
			fail();
		}
	host_address(from, 128, &b, &base, "the source of a TMA store", HERE);

	copy *c = new_store(HERE);

	each_chunk(fields, at, base, [&](uint32_t offset, const char *to, int valid) {
		store_piece(c, offset, (char *)to, valid);
	});
	fly(c, "TMA store");
}

void bulk_commit()
{
	self->stores_committed++;
}

/* read: until shared memory has been read; then the bytes are there too, but the thread does not
 * know of it. */
void bulk_wait(int left, bool read)
{
	std::vector<copy *> rest;

	if (traced)
		trace_passed(self, self->stores, self->stores_committed, left,
			     read ? "reads of bulk stores" : "bulk stores", HERE);
	for (copy *c : self->stores) {
		if ((int)(self->stores_committed - c->group) <= left) {
			rest.push_back(c);
			continue;
		}
		land_now(c);
		c->waited = true;
		tell(self, self->warp->bulk_agent, c->clock);
		if (read) {
			rest.push_back(c);
			continue;
		}
		tell(self, self->warp->bulk_agent + self->cluster->warps, c->clock);
		forget(*self->cluster, c);
	}
	self->stores = std::move(rest);
}

void check_finished(block &b)
{
	for (copy *c : b.cluster->air)
		if (c->tells && c->tells->block == &b)
			report(c->pc, nullptr,
			       "%s: block %u ends while the copy of %s to it is under way",
			       name_of(b.cluster->grid).c_str(), b.index.x, where(c->pc).c_str());
	for (fiber *f : b.cluster->fibers)
		if (f->block == &b && !f->stores.empty())
			report(f->stores[0]->pc, nullptr,
			       "%s: block %u ends while the store of %s may still read its shared "
			       "memory",
			       name_of(b.cluster->grid).c_str(), b.index.x,
			       where(f->stores[0]->pc).c_str());
}
} // namespace emulator
