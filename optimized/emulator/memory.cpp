/* memory.cpp - shared and global memory and their shadows: for each byte (of shared) or pair of
 * bytes (of global memory) who wrote it last and who has read it since, with the places in the
 * source. The compiler calls __tsan_read4(address) and its like before every access of a kernel
 * (-fsanitize=thread, whose own runtime is not linked): that is the door.
 */
#include <sys/mman.h>

#include <algorithm>
#include <map>

#include "emulator/machine.h"
#include "emulator/shared.cuh"

extern "C" char __start_emulator_shared[] __attribute__((weak)),
	__stop_emulator_shared[] __attribute__((weak));

namespace emulator
{
/* ---- shared memory ------------------------------------------------------------------------------
 */

struct cell { /* of a byte; epochs: slot << CLOCK_BITS | clock, 0: never */
	uint32_t write, write_pc, read[3], read_pc[3];
};
static cell *shadow; /* [MAX_BLOCKS][WINDOW] */

static const void *pc_of(uint32_t pc)
{
	return (const void *)(uintptr_t)pc; /* the program is not position independent */
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

void clear_shadow(block *b, size_t dynamic_bytes, size_t static_bytes)
{
	memset((void *)(cells_of(b) + RESERVED), 0, dynamic_bytes * sizeof(cell));
	memset((void *)(cells_of(b) + STATIC_AT), 0, static_bytes * sizeof(cell));
}

static std::string who(const cluster &c, uint32_t slot, uint32_t pc)
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

static void race(const char *does, const char *did, const std::string &other, uint32_t other_pc,
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
	const bool async = access == ASYNC_READ || access == ASYNC_WRITE;
	const bool writes = access == WRITE || access == ASYNC_WRITE;
	const uint32_t slot = c.write >> CLOCK_BITS, clock = c.write & CLOCK;

	if (slot == IN_FLIGHT) {
		const void *by = flight_pc(*b->cluster, clock);

		report(pc, by,
		       "%s: %s %s %s while the copy of %s is under way: nobody waited for it",
		       where(pc).c_str(), name_of(f).c_str(), writes ? "writes" : "reads",
		       shared_place(b, at, f).c_str(), where(by).c_str());
	} else if (slot == OBJECT) {
		report(pc, nullptr, "%s: %s touches the mbarrier at %s as if it were data",
		       where(pc).c_str(), name_of(f).c_str(), shared_place(b, at, f).c_str());
	} else if (c.write && !knows(f, slot, clock, async ? ASYNC_SHARED : GENERIC)) {
		race(writes  ? "overwrites"
		     : async ? "reads (asynchronously)"
			     : "reads",
		     "wrote", who(*b->cluster, slot, c.write_pc), c.write_pc,
		     shared_place(b, at, f), f, async && knows(f, slot, clock, GENERIC), pc);
	} else if (!c.write && !writes) {
		report(pc, nullptr, "%s: %s reads %s that was never written", where(pc).c_str(),
		       name_of(f).c_str(), shared_place(b, at, f).c_str());
		c.write = mark, c.write_pc = (uint32_t)(uintptr_t)pc; /* once is enough */
	}
	if (writes) {
		for (int r = 0; r < 3; r++)
			if (c.read[r] &&
			    !knows(f, c.read[r] >> CLOCK_BITS, c.read[r] & CLOCK, GENERIC))
				race("overwrites", "may still read",
				     who(*b->cluster, c.read[r] >> CLOCK_BITS, c.read_pc[r]),
				     c.read_pc[r], shared_place(b, at, f), f, false, pc);
		c = {mark, (uint32_t)(uintptr_t)pc, {}, {}};
		return;
	}

	int r = 0; /* a reader that this one knows of may be forgotten, else any */

	while (r < 3 && c.read[r] && c.read[r] >> CLOCK_BITS != mark >> CLOCK_BITS &&
	       !knows(f, c.read[r] >> CLOCK_BITS, c.read[r] & CLOCK, GENERIC))
		r++;
	if (r == 3)
		r = (int)below(3);
	c.read[r] = mark, c.read_pc[r] = (uint32_t)(uintptr_t)pc;
}

void touch(block *b, uint32_t at, int n, access access, const fiber *f, uint32_t mark,
	   const void *pc)
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
	if (access == WRITE && at < STATIC_AT && f == self && !b->mbarriers.empty())
		self->writes.push_back({(uint32_t)b->place * WINDOW + at, (uint32_t)n, f->now});
	if (!options.check)
		return;

	cell *c = cells_of(b) + at, before = {}, after = {};

	for (int i = 0; i < n; i++, c++) {
		if (i && !memcmp(c, &before, sizeof(cell))) { /* with the past of its neighbour */
			*c = after;
			continue;
		}
		before = *c;
		check_cell(*c, b, at + (uint32_t)i, access, f, mark, pc);
		after = *c;
	}
}

void mark_landed(block *b, uint32_t at, int n, uint32_t in_flight, uint32_t mark)
{
	cell *c = cells_of(b) + at;

	for (int i = 0; i < n; i++)
		if (c[i].write == in_flight)
			c[i].write = mark;
}

/* The asynchronous proxy reads a copy of shared memory that generic writes reach by a fence only.
 */
void show_async(fiber *f)
{
	for (fiber *g : f->cluster->fibers) {
		size_t kept = 0;

		for (const unfenced &w : g->writes)
			if (knows(f, g->slot, w.clock, GENERIC))
				memcpy(behind + w.cell, arena + w.cell, w.bytes);
			else
				g->writes[kept++] = w;
		g->writes.resize(kept);
	}
}

char *dynamic_shared()
{
	return self->block->memory + RESERVED;
}

uint32_t shared_address(const void *pointer)
{
	const uintptr_t at = (uintptr_t)pointer - (uintptr_t)arena;
	const uintptr_t in_statics = (uintptr_t)pointer - (uintptr_t)__start_emulator_shared;

	for (const block &b : self->cluster->blocks)
		if (at / WINDOW == (uintptr_t)b.place)
			return (uint32_t)b.rank << RANK_SHIFT | (uint32_t)(at % WINDOW);
	if (in_statics < (uintptr_t)(__stop_emulator_shared - __start_emulator_shared)) {
		touch_statics((char *)pointer, 1);
		return (uint32_t)self->block->rank << RANK_SHIFT |
		       (STATIC_AT + (uint32_t)in_statics);
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
	return offset < STATIC_AT ? (*b)->memory + offset
				  : static_memory(*b) + (offset - STATIC_AT);
}

/* ---- global memory
 * ------------------------------------------------------------------------------- */
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
	uint32_t number;
};
static const size_t HEAP = 1ull << 40;
static char *heap, *heap_next;
static std::map<const char *, allocation> allocations; /* by start */
static const allocation *last_found;
static uint32_t allocated;

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
	allocations[start] = {start,        bytes,      at + page, mapped, (global_cell *)cells,
			      shadow_bytes, ++allocated};
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

void touch_global(const char *at, size_t n, access access, const fiber *f, uint32_t mark,
		  bool atomic, const void *pc)
{
	const uintptr_t shared = (uintptr_t)at - (uintptr_t)arena;
	const bool writes = access == WRITE || access == ASYNC_WRITE;
	const bool async = access == ASYNC_READ || access == ASYNC_WRITE;

	if (shared < (size_t)MAX_BLOCKS * WINDOW) { /* an atomic in shared memory */
		for (block &b : f->cluster->blocks)
			if (shared / WINDOW == (uintptr_t)b.place)
				touch(&b, (uint32_t)(shared % WINDOW), (int)n, access, f, epoch(f),
				      pc);
		return;
	}

	const allocation *a = find_allocation(at);

	counted.global_accesses++;
	if (!a || at + n > a->at + a->bytes) {
		if (is_global(at) || atomic)
			outside(at, n, f, pc);
		return;
	}
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

void host_touches(const char *at, size_t n, bool writes, uint32_t serial, const operations &known)
{
	const allocation *a = find_allocation(at);

	if (!a || !n)
		return;

	const size_t first = (size_t)(at - a->at) / 2, last = ((size_t)(at - a->at) + n - 1) / 2;
	const uint64_t e = global_epoch(serial, 0, 0, false);

	for (size_t i = first; i <= last; i++) {
		global_cell &c = a->cells[i];

		for (uint64_t other : {c.write, c.read[0], c.read[1]})
			if (other && (writes || other == c.write) &&
			    !known.has(operation_of_serial[serial_of(other)])) {
				report(pc_of(c.write_pc), nullptr,
				       "a copy or memset %s %s that the kernel of %s may still "
				       "use: "
				       "nothing orders the two",
				       writes ? "overwrites" : "reads",
				       global_place(*a, a->at + 2 * i).c_str(),
				       where(pc_of(c.write_pc ? c.write_pc : c.read_pc[0]))
					       .c_str());
				break;
			}
		if (writes)
			c = {e, {}, 0, {}, 0};
	}
}

/* ---- at the start
 * ---------------------------------------------------------------------------------- */

static char *reserve(size_t bytes, int protection)
{
	void *at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0);

	if (at == MAP_FAILED) {
		fprintf(stderr, "emulator: no %zu bytes of address space: %m\n", bytes);
		exit(70);
	}
	return (char *)at;
}

void start_clocks()
{
	const size_t windows = (size_t)MAX_BLOCKS * WINDOW;
	char *at = reserve(windows + WINDOW, PROT_READ | PROT_WRITE);

	/* low bits as on the device: swizzles see addresses */
	arena = (char *)(((uintptr_t)at + WINDOW - 1) / WINDOW * WINDOW);
	behind = reserve(windows, PROT_READ | PROT_WRITE);
	shadow = (cell *)reserve(windows * sizeof(cell), PROT_READ | PROT_WRITE);
	heap = heap_next = reserve(HEAP, PROT_NONE);
}

/* ---- what the compiler calls before every access
 * ---------------------------------------------------- */

static inline void access_of(void *address, int n, bool writes, const void *pc)
{
	if (!self)
		return;

	const uintptr_t at = (uintptr_t)address - (uintptr_t)arena;
	const uintptr_t in_statics = (uintptr_t)address - (uintptr_t)__start_emulator_shared;
	const enum access access = writes ? WRITE : READ;
	block *b = self->block;

	if (at < (size_t)MAX_BLOCKS * WINDOW) {
		if (at / WINDOW != (uintptr_t)b->place) {
			report(pc, nullptr,
			       "%s: %s touches another block's shared memory by a generic pointer",
			       where(pc).c_str(), name_of(self).c_str());
			fail();
		}
		preempt();
		touch(b, (uint32_t)(at % WINDOW), n, access, self, epoch(self), pc);
	} else if (in_statics < (uintptr_t)(__stop_emulator_shared - __start_emulator_shared)) {
		preempt();
		touch_statics((char *)address, n);
		touch(b, STATIC_AT + (uint32_t)in_statics, n, access, self, epoch(self), pc);
	} else if (is_global(address)) {
		preempt();
		progress += writes;
		touch_global((const char *)address, (size_t)n, access, self, 0, false, pc);
	}
}

/* volatile: relaxed for the whole device, and what a loop looks at again and again */
static void volatile_access(void *address, int n, bool writes, const void *pc)
{
	if (!self || !is_global(address)) {
		access_of(address, n, writes, pc);
		return;
	}
	preempt();
	progress += writes;
	touch_global((const char *)address, (size_t)n, writes ? WRITE : READ, self, 0, true, pc);
	if (writes)
		return;

	uint64_t value = 0;

	memcpy(&value, address, (size_t)n);
	if (self->polled == address && self->polled_value == value)
		poll(pc, "poll for a change of %s", "global memory");
	self->polled = address, self->polled_value = value;
}
} // namespace emulator

extern "C" {
#define HOOK(name, n, writes)                                                                      \
	void __tsan_##name(void *address);                                                         \
	void __tsan_##name(void *address)                                                          \
	{                                                                                          \
		emulator::access_of(address, n, writes, HERE);                                     \
	}
#define VOLATILE_HOOK(name, n, writes)                                                             \
	void __tsan_##name(void *address);                                                         \
	void __tsan_##name(void *address)                                                          \
	{                                                                                          \
		emulator::volatile_access(address, n, writes, HERE);                               \
	}
HOOK(read1, 1, false)
HOOK(read2, 2, false)
HOOK(read4, 4, false)
HOOK(read8, 8, false)
HOOK(read16, 16, false)
HOOK(write1, 1, true)
HOOK(write2, 2, true)
HOOK(write4, 4, true)
HOOK(write8, 8, true)
HOOK(write16, 16, true)
HOOK(unaligned_read2, 2, false)
HOOK(unaligned_read4, 4, false)
HOOK(unaligned_read8, 8, false)
HOOK(unaligned_read16, 16, false)
HOOK(unaligned_write2, 2, true)
HOOK(unaligned_write4, 4, true)
HOOK(unaligned_write8, 8, true)
HOOK(unaligned_write16, 16, true)
VOLATILE_HOOK(volatile_read1, 1, false)
VOLATILE_HOOK(volatile_read2, 2, false)
VOLATILE_HOOK(volatile_read4, 4, false)
VOLATILE_HOOK(volatile_read8, 8, false)
VOLATILE_HOOK(volatile_read16, 16, false)
VOLATILE_HOOK(volatile_write1, 1, true)
VOLATILE_HOOK(volatile_write2, 2, true)
VOLATILE_HOOK(volatile_write4, 4, true)
VOLATILE_HOOK(volatile_write8, 8, true)
VOLATILE_HOOK(volatile_write16, 16, true)
VOLATILE_HOOK(unaligned_volatile_read4, 4, false)
VOLATILE_HOOK(unaligned_volatile_read8, 8, false)
VOLATILE_HOOK(unaligned_volatile_write4, 4, true)
VOLATILE_HOOK(unaligned_volatile_write8, 8, true)

void __tsan_read_range(void *address, size_t n);
void __tsan_read_range(void *address, size_t n)
{
	emulator::access_of(address, (int)n, false, HERE);
}
void __tsan_write_range(void *address, size_t n);
void __tsan_write_range(void *address, size_t n)
{
	emulator::access_of(address, (int)n, true, HERE);
}
void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_vptr_read(void **);
void __tsan_vptr_read(void **)
{
}
/* Host code of a kernel file only. */
uint64_t __tsan_atomic64_load(const volatile uint64_t *address, int order);
uint64_t __tsan_atomic64_load(const volatile uint64_t *address, int)
{
	return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
void __tsan_atomic64_store(volatile uint64_t *address, uint64_t value, int order);
void __tsan_atomic64_store(volatile uint64_t *address, uint64_t value, int)
{
	__atomic_store_n(address, value, __ATOMIC_SEQ_CST);
}
int __tsan_atomic8_load(const volatile uint8_t *address, int order);
int __tsan_atomic8_load(const volatile uint8_t *address, int)
{
	return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}

/* Structs are copied by memcpy, which no compiler announces: the build sends a kernel's here. */
void *emulator_memcpy(void *to, const void *from, size_t n);
void *emulator_memcpy(void *to, const void *from, size_t n)
{
	emulator::access_of((void *)from, (int)n, false, HERE);
	emulator::access_of(to, (int)n, true, HERE);
	return memcpy(to, from, n);
}
void *emulator_memset(void *to, int byte, size_t n);
void *emulator_memset(void *to, int byte, size_t n)
{
	emulator::access_of(to, (int)n, true, HERE);
	return memset(to, byte, n);
}
}
