/* global.cpp - global memory and its shadow: for each pair of bytes who wrote it last and who has
 * read it since, in which kernel, cluster and thread.
 */
#include <sys/mman.h>

#include <algorithm>
#include <map>

#include "emulator/machine.h"

namespace emulator
{
/* An epoch of global memory: serial of a cluster or a copy << 33 | slot << 20 | clock << 1 |
 * atomic.
 */
struct global_cell { /* of two bytes */
	uint64_t write, read[2];
	uint32_t write_pc, read_pc[2], unused;
};

struct allocation {
	char *at; /* what was asked for, with an unmapped page right behind and before */
	size_t bytes;
	void *mapping;
	size_t mapped;
	global_cell *cells;
	size_t shadow_bytes;
	uint64_t base; /* the write of cells that say nothing: of the whole of it at once */
};
static const size_t HEAP = 1ull << 40;
static char *heap, *heap_next;
static std::map<const char *, allocation> allocations; /* by start */
static const allocation *last_found;

static std::vector<uint32_t> operation_of_serial(1); /* of a cluster or a copy */

uint32_t new_serial(uint32_t operation)
{
	operation_of_serial.push_back(operation);
	return (uint32_t)operation_of_serial.size() - 1;
}

bool is_global(const void *address)
{
	return (size_t)((const char *)address - heap) < HEAP;
}

static const allocation *find_allocation(const char *at)
{
	if (last_found && at >= last_found->at && at < last_found->at + last_found->bytes)
		return last_found;

	auto next = allocations.upper_bound(at);

	if (next == allocations.begin())
		return nullptr;
	--next;
	if (at >= next->second.at + next->second.bytes)
		return nullptr;
	return last_found = &next->second;
}

/* cudaMalloc promises 256 bytes of alignment, which come before an end right at the unmapped page;
 * the shadow knows the true end. Addresses are not used again. */
void *allocate_global(size_t bytes)
{
	const size_t page = 4096, used = (bytes + 255) / 256 * 256;
	const size_t mapped = (used + page - 1) / page * page;
	char *at = heap_next;

	if (mapped + 2 * page > HEAP - (size_t)(heap_next - heap) ||
	    mprotect(at + page, mapped, PROT_READ | PROT_WRITE))
		return nullptr;

	const size_t shadow_bytes = (used / 2 + 1) * sizeof(global_cell);
	void *cells = mmap(nullptr, shadow_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (cells == MAP_FAILED)
		return nullptr;
	heap_next += mapped + 2 * page;

	char *start = at + page + mapped - used;

	poison(start, used);
	allocations[start] = {start,        bytes, at + page, mapped, (global_cell *)cells,
			      shadow_bytes, 0};
	return start;
}

bool free_global(void *pointer)
{
	auto found = allocations.find((const char *)pointer);

	if (found == allocations.end())
		return false;

	const allocation &a = found->second;

	munmap(a.cells, a.shadow_bytes);
	madvise(a.mapping, a.mapped, MADV_DONTNEED);
	mprotect(a.mapping, a.mapped, PROT_NONE);
	allocations.erase(found);
	last_found = nullptr;
	return true;
}

size_t global_bytes_from(const void *pointer)
{
	const allocation *a = find_allocation((const char *)pointer);

	return a ? (size_t)(a->at + a->bytes - (const char *)pointer) : 0;
}

static uint64_t global_epoch(uint32_t serial, uint32_t slot, uint32_t clock, bool atomic)
{
	return (uint64_t)serial << 33 | (uint64_t)slot << 20 | (uint64_t)clock << 1 | atomic;
}
static uint32_t serial_of(uint64_t e)
{
	return (uint32_t)(e >> 33);
}
static uint32_t slot_of(uint64_t e)
{
	return (uint32_t)(e >> 20) & 8191;
}
static uint32_t clock_of(uint64_t e)
{
	return (uint32_t)(e >> 1) & CLOCK;
}

static bool knows_global(const fiber *f, uint64_t e, proxy proxy)
{
	const uint32_t serial = serial_of(e), slot = slot_of(e), clock = clock_of(e);

	if (serial == f->cluster->serial)
		return knows(f, slot, clock, proxy);
	if (!f->past.there)
		return false;
	if (f->past.there->done.has(operation_of_serial[serial]))
		return true;
	for (const auto &c : f->past.there->clusters)
		if (c.first == serial)
			return c.second->at[proxy * c.second->slots + slot] >= clock;
	return false;
}

static std::string global_place(const allocation &a, const char *at)
{
	return "global memory, byte " + std::to_string(at - a.at) + " of an allocation of " +
	       std::to_string(a.bytes) + " bytes,";
}

static std::string global_who(const fiber *f, uint64_t e, uint32_t pc)
{
	if (!pc)
		return "a copy or memset of the stream";
	if (serial_of(e) == f->cluster->serial)
		return who(*f->cluster, slot_of(e), pc);

	const bool same = operation_of_serial[serial_of(e)] == f->cluster->grid->number;

	return std::string("a thread of another ") +
	       (same ? f->cluster->blocks.size() > 1 ? "cluster" : "block" : "kernel") + " at " +
	       where(pc_of(pc));
}

static void check_global_cell(global_cell &c, const allocation &a, const char *at, bool writes,
			      bool async, const fiber *f, uint64_t mark, const void *pc)
{
	const uint32_t pc32 = (uint32_t)(uintptr_t)pc;
	const bool atomic = mark & 1;

	if (!c.write)
		c.write = a.base;
	if (!c.write && !writes) {
		report(pc, nullptr, "%s: %s reads %s that was never written", where(pc).c_str(),
		       name_of(f).c_str(), global_place(a, at).c_str());
		c.write = mark, c.write_pc = pc32;
	} else if (c.write && !(atomic && c.write & 1) &&
		   !knows_global(f, c.write, async ? ASYNC_GLOBAL : GENERIC)) {
		race(writes  ? "overwrites"
		     : async ? "reads (asynchronously)"
			     : "reads",
		     "wrote", global_who(f, c.write, c.write_pc), c.write_pc, global_place(a, at),
		     f, async && knows_global(f, c.write, GENERIC), pc);
	}
	if (writes) {
		for (int r = 0; r < 2; r++)
			if (c.read[r] && !(atomic && c.read[r] & 1) &&
			    !knows_global(f, c.read[r], GENERIC))
				race("overwrites", "may still read",
				     global_who(f, c.read[r], c.read_pc[r]), c.read_pc[r],
				     global_place(a, at), f, false, pc);
		c = {mark, {}, pc32, {}, 0};
		return;
	}

	const int r =
		!c.read[0] || c.read[0] >> 20 == mark >> 20 || knows_global(f, c.read[0], GENERIC)
			? 0
		: !c.read[1] || c.read[1] >> 20 == mark >> 20 || knows_global(f, c.read[1], GENERIC)
			? 1
			: (int)below(2);

	c.read[r] = mark, c.read_pc[r] = pc32;
}

static void outside(const char *at, size_t n, const fiber *f, const void *pc)
{
	auto next = allocations.upper_bound(at);
	char nearest[96] = "no allocation is there";

	if (next != allocations.begin()) {
		const allocation &a = std::prev(next)->second;

		snprintf(nearest, sizeof(nearest),
			 "%zd bytes behind the end of an allocation of %zu",
			 (ssize_t)(at + n - (a.at + a.bytes)), a.bytes);
	}
	report(pc, nullptr, "%s: %s touches %zu bytes of global memory at %p: %s",
	       where(pc).c_str(), name_of(f).c_str(), n, (const void *)at, nearest);
	fail();
}

void touch_global(const char *at, size_t n, access access, fiber *f, uint32_t mark, const void *pc)
{
	const bool writes = is_write(access), async = is_async(access), atomic = is_atomic(access);

	const allocation *a = find_allocation(at);

	counted.global_accesses++;
	if (!a || at + n > a->at + a->bytes)
		outside(at, n, f, pc);
	if (!options.check)
		return;

	const uint64_t e =
		mark ? global_epoch(f->cluster->serial, mark >> CLOCK_BITS, mark & CLOCK, atomic)
		     : global_epoch(f->cluster->serial, f->slot, f->now, atomic);
	const size_t first = (size_t)(at - a->at) / 2, last = ((size_t)(at - a->at) + n - 1) / 2;
	global_cell *c = a->cells + first, before = {}, after = {};

	for (size_t i = first; i <= last; i++, c++) {
		if (i > first && !memcmp(c, &before, sizeof(before))) {
			*c = after;
			continue;
		}
		before = *c;
		check_global_cell(*c, *a, a->at + 2 * i, writes, async, f, e, pc);
		after = *c;
	}
}

static void host_touches_cell(const allocation &a, size_t i, bool writes, uint64_t e,
			      const operations &known)
{
	global_cell &c = a.cells[i];

	if (!c.write)
		c.write = a.base;
	for (uint64_t other : {c.write, c.read[0], c.read[1]})
		if (other && (writes || other == c.write) &&
		    !known.has(operation_of_serial[serial_of(other)])) {
			const void *pc = pc_of(c.write_pc ? c.write_pc : c.read_pc[0]);

			report(pc, nullptr,
			       "a copy or memset %s %s which the kernel of %s may still use: "
			       "nothing "
			       "orders the two",
			       writes ? "overwrites" : "reads",
			       global_place(a, a.at + 2 * i).c_str(), where(pc).c_str());
			break;
		}
	if (writes)
		c = {e, {}, 0, {}, 0};
}

void host_touches(const char *at, size_t n, bool writes, uint32_t serial, const operations &known)
{
	auto next = allocations.upper_bound(at);

	if (!n || !is_global(at) || next == allocations.begin())
		return;

	allocation &a = std::prev(next)->second;
	const uint64_t e = global_epoch(serial, 0, 0, false);

	if (writes && at == a.at && n == a.bytes &&
	    known.below >=
		    operation_of_serial[serial]) { /* all of it, and nothing may be running */
		madvise(a.cells, a.shadow_bytes, MADV_DONTNEED);
		a.base = e;
		return;
	}
	for (size_t i = (size_t)(at - a.at) / 2; i <= ((size_t)(at - a.at) + n - 1) / 2; i++)
		if (writes || a.cells[i].write)
			host_touches_cell(a, i, writes, e, known);
}

void start_global()
{
	heap = heap_next = reserve(HEAP, PROT_NONE);
}
} // namespace emulator
