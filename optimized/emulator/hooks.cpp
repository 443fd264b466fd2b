/* hooks.cpp - every load and store of a kernel. The compiler calls __tsan_read4(address) and its
 * like before each of them (-fsanitize=thread, whose own runtime is not linked): that is the door.
 */
#include <algorithm>

#include "emulator/machine.h"

extern "C" const char __executable_start[], _end[];

namespace emulator
{
/* Its stack, constants of the program, and the call that it began with. */
static bool is_own(const char *at)
{
	const char *body = (const char *)&self->cluster->grid->body;

	return (size_t)(at - self->stack) < STACK || (at >= __executable_start && at < _end) ||
	       (size_t)(at - body) < sizeof(self->cluster->grid->body);
}

static void touch_shared(block *b, uint32_t at, void *address, int n, access access, const void *pc)
{
	if (at >= STATIC_AT)
		touch_statics((char *)address, n);
	touch(b, at, n, access, self, epoch(self), pc);
}

static inline void access_of(void *address, int n, bool writes, const void *pc)
{
	const enum access access = writes ? WRITE : READ;
	block *b;
	uint32_t at;

	if (!self)
		return;
	if (find_shared(address, &b, &at)) {
		if (b != self->block) {
			report(pc, nullptr,
			       "%s: %s touches another block's shared memory by a generic pointer",
			       where(pc).c_str(), name_of(self).c_str());
			fail();
		}
		preempt();
		touch_shared(b, at, address, n, access, pc);
	} else if (is_global(address)) {
		preempt();
		progress += writes;
		touch_global((const char *)address, (size_t)n, access, self, 0, pc);
	} else if (!is_own((const char *)address)) {
		report(pc, nullptr,
		       "%s: %s %s %d bytes at %p, which is neither device nor shared memory nor "
		       "its own: a NULL pointer, one of the host, or another thread's variable",
		       where(pc).c_str(), name_of(self).c_str(), writes ? "writes" : "reads", n,
		       address);
		fail();
	}
}

static bool is_shared(const void *address)
{
	block *b;
	uint32_t at;

	return find_shared(address, &b, &at);
}

void touch_atomic(void *address, int n, access access, const void *pc)
{
	block *b;
	uint32_t at;

	if (find_shared(address, &b, &at) && b)
		touch_shared(b, at, address, n, access, pc);
	else
		touch_global((const char *)address, (size_t)n, access, self, 0, pc);
}

/* Of a copy; a kernel's arguments come from the host's memory. */
static void source_of(const void *from, size_t n, const void *pc)
{
	if (self && (is_global(from) || is_shared(from)))
		access_of((void *)from, (int)n, false, pc);
}

/* volatile: relaxed for all who look, and what a loop looks at again and again */
static void volatile_access(void *address, int n, bool writes, const void *pc)
{
	const bool global = is_global(address);

	if (!self || !(global || is_shared(address))) {
		access_of(address, n, writes, pc);
		return;
	}
	preempt();
	progress += writes;
	touch_atomic(address, n, writes ? ATOMIC_WRITE : ATOMIC_READ, pc);
	order_relaxed(address, writes);
	if (writes)
		return;

	uint64_t value = 0;

	memcpy(&value, address, (size_t)std::min(n, 8));
	if (self->polled == address && self->polled_value == value) {
		poll(pc, "poll for a change of %s memory", global ? "global" : "shared");
		order_relaxed(address, false); /* the load comes behind this */
	} else if (traced) {
		trace_seen(self, nullptr);
	}
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

/* Structs are copied by memcpy or memmove, which no compiler announces: the build sends those of a
 * kernel here. */
void *emulator_memmove(void *to, const void *from, size_t n);
void *emulator_memmove(void *to, const void *from, size_t n)
{
	emulator::source_of(from, n, HERE);
	emulator::access_of(to, (int)n, true, HERE);
	return memmove(to, from, n);
}
void *emulator_memcpy(void *to, const void *from, size_t n);
void *emulator_memcpy(void *to, const void *from, size_t n)
{
	emulator::source_of(from, n, HERE);
	emulator::access_of(to, (int)n, true, HERE);
	return memcpy(to, from, n);
}
void *emulator_memset(void *to, int byte, size_t n);
void *emulator_memset(void *to, int byte, size_t n)
{
	emulator::access_of(to, (int)n, true, HERE);
	return memset(to, byte, n);
}

/* Where a pointer is not aligned to what it points to (-fsanitize=alignment), NULL among them. */
struct unaligned {
	const char *file;
	uint32_t line, column;
	const void *type;
	unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(const unaligned *what, uintptr_t address);
void __ubsan_handle_type_mismatch_v1(const unaligned *what, uintptr_t address)
{
	const char *slash = strrchr(what->file, '/');

	emulator::report(HERE, nullptr,
			 "%s:%u: %s uses the address %#lx as one of a type that is aligned to %u "
			 "bytes",
			 slash ? slash + 1 : what->file, what->line,
			 emulator::self ? emulator::name_of(emulator::self).c_str() : "the host",
			 (unsigned long)address, 1u << what->log_alignment);
	if (emulator::self)
		emulator::fail();
}
}
