/* shared.cpp - shared memory and its shadow: for each byte who wrote it last and who has read it
 * since, with the places in the source.
 */
#include <sys/mman.h>

#include <algorithm>

#include "emulator/machine.h"
#include "emulator/window.cuh"

namespace emulator
{
/* ---- shared memory --------------------------------------------------------------------------- */

enum : uint32_t { ATOMIC = 1u << 31 }; /* of a place in the program, which is below 2 GiB */

struct cell { /* of a byte; epochs: slot << CLOCK_BITS | clock, 0: never */
	uint32_t write, write_pc, read[3], read_pc[3];
};
static cell *shadow;   /* [MAX_BLOCKS][WINDOW] */
static uint8_t *split; /* [MAX_BLOCKS][WINDOW / 4]: cells of a word differ */

const void *pc_of(uint32_t pc)
{
	return (const void *)(uintptr_t)(pc &
					 ~ATOMIC); /* the program is not position independent */
}

void poison(char *at, size_t bytes)
{
	for (size_t i = 0; i + 1 < bytes; i += 2)
		memcpy(at + i, "\xff\x7f", 2);
}

static cell *cells_of(const block *b)
{
	return shadow + (size_t)b->place * WINDOW;
}

/* Mostly the four bytes of a word have one past, and the first cell stands for all: 0. */
static uint8_t *split_of(const block *b)
{
	return split + (size_t)b->place * (WINDOW / 4);
}

/* Before an access to a place of a word: does its first cell stand for all? It may not where a part
 * is accessed, and does again when all is and the four are the same. */
static bool whole_word(const block *b, uint32_t place, bool all_of_it)
{
	uint8_t &apart = split_of(b)[place / 4];
	cell *c = cells_of(b) + place / 4 * 4;

	if (!all_of_it && !apart) {
		c[1] = c[2] = c[3] = c[0];
		apart = 1;
	} else if (all_of_it && apart) {
		apart = memcmp(c, c + 1, sizeof(cell)) || memcmp(c, c + 2, sizeof(cell)) ||
			memcmp(c, c + 3, sizeof(cell));
	}
	return !apart;
}

void clear_shadow(block *b, size_t dynamic_bytes, size_t static_bytes)
{
	memset((void *)(cells_of(b) + RESERVED), 0, dynamic_bytes * sizeof(cell));
	memset((void *)(cells_of(b) + STATIC_AT), 0, static_bytes * sizeof(cell));
	memset(split_of(b), 0, WINDOW / 4);
}

std::string who(const cluster &c, uint32_t slot, uint32_t pc)
{
	std::string name = "a copy";

	if (slot >= 1 && slot <= c.threads)
		name = name_of(c.fibers[slot - 1]);
	else if (slot >= c.first_agent && slot < c.first_barrier)
		name = (slot < c.first_bulk ? "wgmma of warp " : "a bulk store of warp ") +
		       std::to_string(
			       (slot - (slot < c.first_bulk ? c.first_agent : c.first_bulk)) %
			       c.blocks[0].warps.size());
	return name + " at " + where(pc_of(pc));
}

void race(const char *does, const char *did, const std::string &other, uint32_t other_pc,
	  const std::string &place, const fiber *f, bool fence, const void *pc)
{
	report(pc, pc_of(other_pc), "%s: %s %s %s that %s %s; %s", where(pc).c_str(),
	       name_of(f).c_str(), does, place.c_str(), other.c_str(), did,
	       fence ? "a barrier orders the two, but no fence.proxy.async does"
		     : "nothing orders the two");
}

static std::string shared_place(const block *b, uint32_t at, const fiber *f)
{
	return "shared memory +" + std::to_string(at) +
	       (b == f->block ? "" : " of block " + std::to_string(b->index.x));
}

static void check_cell(cell &c, block *b, uint32_t at, access access, const fiber *f, uint32_t mark,
		       const void *pc)
{
	const bool async = is_async(access), writes = is_write(access), atomic = is_atomic(access);
	const uint32_t slot = c.write >> CLOCK_BITS, clock = c.write & CLOCK;
	const uint32_t pc32 = (uint32_t)(uintptr_t)pc | (atomic ? ATOMIC : 0u);

	if (slot == IN_FLIGHT) {
		const void *by = flight_pc(*b->cluster, clock);

		report(pc, by,
		       "%s: %s %s %s while the copy of %s is under way: nobody waited for it",
		       where(pc).c_str(), name_of(f).c_str(), writes ? "writes" : "reads",
		       shared_place(b, at, f).c_str(), where(by).c_str());
	} else if (slot == OBJECT) {
		report(pc, nullptr, "%s: %s touches the mbarrier at %s as if it were data",
		       where(pc).c_str(), name_of(f).c_str(), shared_place(b, at, f).c_str());
	} else if (c.write && !(atomic && c.write_pc & ATOMIC) &&
		   !knows(f, slot, clock, async ? ASYNC_SHARED : GENERIC)) {
		race(writes  ? "overwrites"
		     : async ? "reads (asynchronously)"
			     : "reads",
		     "wrote", who(*b->cluster, slot, c.write_pc), c.write_pc,
		     shared_place(b, at, f), f, async && knows(f, slot, clock, GENERIC), pc);
	} else if (!c.write && !writes) {
		report(pc, nullptr, "%s: %s reads %s that was never written", where(pc).c_str(),
		       name_of(f).c_str(), shared_place(b, at, f).c_str());
		c.write = mark, c.write_pc = pc32; /* once is enough */
	}
	if (writes) {
		for (int r = 0; r < 3; r++)
			if (c.read[r] && !(atomic && c.read_pc[r] & ATOMIC) &&
			    !knows(f, c.read[r] >> CLOCK_BITS, c.read[r] & CLOCK, GENERIC))
				race("overwrites", "may still read",
				     who(*b->cluster, c.read[r] >> CLOCK_BITS, c.read_pc[r]),
				     c.read_pc[r], shared_place(b, at, f), f, false, pc);
		c = {mark, pc32, {}, {}};
		return;
	}

	int r = 0; /* a reader that this one knows of may be forgotten, else any */

	while (r < 3 && c.read[r] && c.read[r] >> CLOCK_BITS != mark >> CLOCK_BITS &&
	       !knows(f, c.read[r] >> CLOCK_BITS, c.read[r] & CLOCK, GENERIC))
		r++;
	if (r == 3)
		r = (int)below(3);
	c.read[r] = mark, c.read_pc[r] = pc32;
}

void touch(block *b, uint32_t at, int n, access access, fiber *f, uint32_t mark, const void *pc)
{
	const size_t dynamic_bytes = b->cluster->grid->how.shared_bytes;
	const size_t static_bytes = (size_t)(__stop_emulator_shared - __start_emulator_shared);

	counted.accesses++;
	if (!(at >= RESERVED && at + (uint32_t)n <= RESERVED + dynamic_bytes) &&
	    !(at >= STATIC_AT && at + (uint32_t)n <= STATIC_AT + static_bytes)) {
		report(pc, nullptr,
		       "%s: %s reaches %d bytes at shared memory +%u, outside of the %zu bytes "
		       "from +%u on",
		       where(pc).c_str(), name_of(f).c_str(), n, at, dynamic_bytes, RESERVED);
		fail();
	}
	if (is_write(access) && mark == epoch(f))
		keep_write(f, {b, at, (uint32_t)n, f->now});
	if (!options.check)
		return;

	cell before = {}, after = {};

	for (int i = 0; i < n;) {
		const uint32_t place = at + (uint32_t)i;
		const bool word = place % 4 == 0 && n - i >= 4;
		const bool whole = whole_word(b, place, word);
		cell *c = cells_of(b) + place;

		if (i && !memcmp(c, &before, sizeof(cell))) { /* with the past of its neighbour */
			*c = after;
		} else {
			before = *c;
			check_cell(*c, b, place, access, f, mark, pc);
			after = *c;
		}
		i += whole ? 4 : 1;
	}
}

void mark_landed(block *b, uint32_t at, int n, uint32_t in_flight, uint32_t mark)
{
	for (uint32_t place = at; place < at + (uint32_t)n;) {
		cell *c = cells_of(b) + place;

		if (c->write == in_flight)
			c->write = mark;
		place += split_of(b)[place / 4] ? 1 : 4;
	}
}

char *shared_at(block *b, uint32_t at)
{
	return at < STATIC_AT ? b->memory + at : static_memory(b) + (at - STATIC_AT);
}

/* Kernels that never use the asynchronous proxy write for ever without a fence. */
void keep_write(fiber *f, const unfenced &write)
{
	if (!f->cluster->proxy && f->writes.size() >= 4096) {
		f->writes.clear();
		f->cluster->forgotten = true;
	}
	f->writes.push_back(write);
}

void use_proxy(cluster &c)
{
	const size_t dynamic_bytes = c.grid->how.shared_bytes;

	if (!c.proxy && c.forgotten)
		for (block &b : c.blocks)
			memcpy(behind + (size_t)b.place * WINDOW + RESERVED, b.memory + RESERVED,
			       dynamic_bytes);
	c.proxy = true;
}

/* The asynchronous proxy reads a copy of shared memory that generic writes reach by a fence only.
 */
void show_async(fiber *f)
{
	for (fiber *g : f->cluster->fibers) {
		size_t kept = 0;

		for (const unfenced &w : g->writes)
			if (knows(f, g->slot, w.clock, GENERIC))
				memcpy(behind + (size_t)w.block->place * WINDOW + w.at,
				       shared_at(w.block, w.at), w.bytes);
			else
				g->writes[kept++] = w;
		g->writes.resize(kept);
	}
}

char *dynamic_shared()
{
	return self->block->memory + RESERVED;
}

bool find_shared(const void *pointer, block **b, uint32_t *at)
{
	const uintptr_t in_arena = (uintptr_t)pointer - (uintptr_t)arena;
	const uintptr_t in_statics = (uintptr_t)pointer - (uintptr_t)__start_emulator_shared;

	if (in_arena < (size_t)MAX_BLOCKS * WINDOW) {
		*b = nullptr;
		*at = (uint32_t)(in_arena % WINDOW);
		for (block &mine : self->cluster->blocks)
			if (in_arena / WINDOW == (uintptr_t)mine.place)
				*b = &mine;
		return true;
	}
	if (in_statics >= (uintptr_t)(__stop_emulator_shared - __start_emulator_shared))
		return false;
	*b = self->block;
	*at = STATIC_AT + (uint32_t)in_statics;
	return true;
}

uint32_t shared_address(const void *pointer)
{
	block *b;
	uint32_t at;

	if (find_shared(pointer, &b, &at) && b) {
		if (at >= STATIC_AT)
			touch_statics((char *)pointer, 1);
		return (uint32_t)b->rank << RANK_SHIFT | at;
	}
	report(HERE, nullptr, "%s: %s asks for the shared address of something else",
	       where(HERE).c_str(), name_of(self).c_str());
	fail();
}

char *host_address(uint32_t address, int bytes, block **b, uint32_t *at, const char *what,
		   const void *pc)
{
	const uint32_t rank = address >> RANK_SHIFT, offset = address & ((1u << RANK_SHIFT) - 1);
	const bool aligned = address % (uint32_t)(bytes < 16 ? bytes : 16) == 0;

	if (rank >= self->cluster->blocks.size() || offset >= WINDOW || !aligned) {
		report(pc, nullptr, "%s: %s of %s has the shared address %#x: %s",
		       where(pc).c_str(), what, name_of(self).c_str(), address,
		       aligned ? "no block of this cluster is there" : "not aligned");
		fail();
	}
	*b = &self->cluster->blocks[rank];
	*at = offset;
	if (offset >= STATIC_AT)
		touch_statics(__start_emulator_shared + (offset - STATIC_AT), bytes);
	return shared_at(*b, offset);
}

/* ---- at the start ---------------------------------------------------------------------------- */

char *reserve(size_t bytes, int protection)
{
	void *at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0);

	if (at == MAP_FAILED) {
		fprintf(stderr,
			"emulator: no %zu bytes of address space: %m (a limit of ulimit -v? little "
			"of it "
			"becomes memory)\n",
			bytes);
		exit(70);
	}
	return (char *)at;
}

void start_shared()
{
	const size_t windows = (size_t)MAX_BLOCKS * WINDOW;
	char *at = reserve(windows + WINDOW, PROT_READ | PROT_WRITE);

	/* low bits as on the device: swizzles see addresses */
	arena = (char *)(((uintptr_t)at + WINDOW - 1) / WINDOW * WINDOW);
	behind = reserve(windows, PROT_READ | PROT_WRITE);
	shadow = (cell *)reserve(windows * sizeof(cell), PROT_READ | PROT_WRITE);
	split = (uint8_t *)reserve(windows / 4, PROT_READ | PROT_WRITE);
}
} // namespace emulator
