/* schedule.cpp - runs grids: a fiber per CUDA thread, all on one thread of the operating system, so
 * that a seed gives the same run again. Which cluster starts, which warp and lane goes next, is the
 * adversary's choice; so is when asynchronous work lands (copies.cpp, wgmma.cpp).
 */
#include <sys/mman.h>

#include <algorithm>

#include "emulator/machine.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator
{
struct options options;
fiber *self;
char *arena, *behind;
uint32_t progress;
uint64_t steps;
counts counted;

enum { PATIENCE = 40, ENDLESS = 1 << 26 };

static std::vector<std::shared_ptr<grid>> *active; /* that run or may start clusters */
static std::vector<cluster *> alive;
static std::vector<warp *> ready_warps;
static std::vector<fiber *> pollers;
/* Outlives all destructors, or those in it would count as leaks. */
static std::vector<fiber *> &idle_fibers = *new std::vector<fiber *>();
static std::vector<int> free_places;
static fiber *dying; /* runs its last steps on a stack that is free already */
static warp *last_warp;
static block *loaded; /* whose static shared memory is in its place */
static bool failed, all_of_it;
static int fuel;
static void *main_sp;

/* ---- chance ---------------------------------------------------------------------------------- */

static uint64_t chance;

void seed_random(uint64_t seed)
{
	chance = seed;
}

uint64_t random_number()
{
	uint64_t x = chance += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint32_t below(uint32_t n)
{
	return (uint32_t)((random_number() >> 32) * n >> 32);
}

/* ---- static shared memory -------------------------------------------------------------------- */
/* One place for the static shared memory of all blocks: what of it the kernels use is copied when
 * another block goes on. Outside of what was touched so far all of it is poison. */

static char *touched_begin, *touched_end;

char *static_memory(block *b)
{
	return b == loaded ? __start_emulator_shared : b->fixed;
}

static void swap_statics(block *next)
{
	const size_t bytes = (size_t)(touched_end - touched_begin);
	const size_t at = (size_t)(touched_begin - __start_emulator_shared);

	if (bytes && loaded)
		memcpy(loaded->fixed + at, touched_begin, bytes);
	if (bytes)
		memcpy(touched_begin, next->fixed + at, bytes);
	loaded = next;
}

void touch_statics(char *at, int bytes)
{
	if (at >= touched_begin && at + bytes <= touched_end)
		return;

	char *const copies = self->block->fixed; /* as they are where nobody was so far */

	if (touched_end)
		memcpy(copies + (touched_begin - __start_emulator_shared), touched_begin,
		       (size_t)(touched_end - touched_begin));
	touched_begin = touched_end ? std::min(touched_begin, at) : at;
	touched_end = std::max(touched_end, at + bytes);
	memcpy(touched_begin, copies + (touched_begin - __start_emulator_shared),
	       (size_t)(touched_end - touched_begin));
}

/* ---- fibers ---------------------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
extern "C" void emulator_switch(void **save, void *load);
asm(R"(
	.text
	.globl emulator_switch
	.hidden emulator_switch
	.type emulator_switch, @function
emulator_switch:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
	.size emulator_switch, . - emulator_switch
)");

static void run_fiber();

static void *first_frame(char *stack)
{
	void **top = (void **)(stack + STACK - 64);

	*--top = nullptr; /* run_fiber never returns */
	*--top = (void *)run_fiber;
	for (int i = 0; i < 6; i++)
		*--top = nullptr;
	return top;
}
#else /* any other processor: a fifth to a half slower */
static void run_fiber();

static void emulator_switch(void **save, void *load)
{
	ucontext_t here;

	*save = &here;
	swapcontext(&here, (ucontext_t *)load);
}

static void *first_frame(char *stack)
{
	ucontext_t *context = (ucontext_t *)stack; /* at its far end */

	getcontext(context);
	context->uc_stack.ss_sp = stack + sizeof(*context);
	context->uc_stack.ss_size = STACK - sizeof(*context);
	context->uc_link = nullptr;
	makecontext(context, run_fiber, 0);
	return context;
}
#endif

static void enter(fiber *next)
{
	self = next;
	if (!next)
		return;
	if (loaded != next->block)
		swap_statics(next->block);
	threadIdx = next->thread, blockIdx = next->block->index;
	blockDim = next->cluster->grid->how.block, gridDim = next->cluster->grid->how.grid;
}

/* The address sanitizer is told of every switch of stacks. */
#ifdef __SANITIZE_ADDRESS__
static const void *main_stack;
static size_t main_size;
static bool from_main;

static void leave(bool for_good, void **fake, fiber *next)
{
	from_main = !self;
	__sanitizer_start_switch_fiber(for_good ? nullptr : fake, next ? next->stack : main_stack,
				       next ? (size_t)STACK : main_size);
}

static void arrive(void *fake)
{
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(fake, &bottom, &size);
	if (from_main)
		main_stack = bottom, main_size = size;
}

/* Its last thread never returned: what its frames had poisoned is still poisoned. */
static void reuse(const char *stack)
{
	__asan_unpoison_memory_region(stack, STACK);
}
#else
static void leave(bool, void **, fiber *)
{
}
static void arrive(void *)
{
}
static void reuse(const char *)
{
}
#endif

static void go(fiber *next)
{
	static void *nowhere;
	fiber *last = self;
	void **save = !last ? &main_sp : last->state == DONE ? &nowhere : &last->sp;
	void *fake = nullptr;

	if (next == last)
		return;
	steps++;
	leave(last && last->state == DONE, &fake, next);
	enter(next);
	emulator_switch(save, next ? next->sp : main_sp);
	arrive(fake);
}

static fiber *new_fiber()
{
	if (idle_fibers.empty()) {
		const size_t page = 4096;
		char *stack = (char *)mmap(nullptr, STACK + page, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (stack == MAP_FAILED) {
			fprintf(stderr, "emulator: no memory for another thread: %m\n");
			exit(70);
		}
		mprotect(stack, page, PROT_NONE);
		idle_fibers.push_back(new fiber());
		idle_fibers.back()->stack = stack + page;
	}

	fiber *f = idle_fibers.back();
	char *const stack = f->stack;

	idle_fibers.pop_back();
	reuse(stack);
	*f = fiber();
	f->stack = stack;
	f->sp = first_frame(stack);
	return f;
}

static void make_ready(fiber *f)
{
	warp *w = f->warp;

	f->state = READY;
	w->ready.push_back(f);
	if (w->position < 0) {
		w->position = (int)ready_warps.size();
		ready_warps.push_back(w);
	}
}

static fiber *take(warp *w, size_t i)
{
	fiber *f = w->ready[i];

	w->ready[i] = w->ready.back();
	w->ready.pop_back();
	if (w->ready.empty()) {
		ready_warps.back()->position = w->position;
		ready_warps[(size_t)w->position] = ready_warps.back();
		ready_warps.pop_back();
		w->position = -1;
	}
	return f;
}

/* ---- clusters -------------------------------------------------------------------------------- */

static void start_block(cluster &c, block &b, int rank, uint32_t number)
{
	const launch &how = c.grid->how;
	const uint32_t threads = how.block.x * how.block.y * how.block.z;
	const size_t static_bytes = (size_t)(__stop_emulator_shared - __start_emulator_shared);

	counted.blocks++;
	b.cluster = &c, b.rank = rank, b.live = (int)threads;
	b.place = free_places.back();
	free_places.pop_back();
	b.index = {number % how.grid.x, number / how.grid.x % how.grid.y,
		   number / how.grid.x / how.grid.y};
	b.memory = arena + (size_t)b.place * WINDOW;
	b.fixed = b.memory + STATIC_AT;
	poison(b.memory + RESERVED, how.shared_bytes);
	poison(behind + (size_t)b.place * WINDOW + RESERVED, how.shared_bytes);
	poison(b.fixed, static_bytes);
	poison(behind + (size_t)b.place * WINDOW + STATIC_AT, static_bytes);
	clear_shadow(&b, how.shared_bytes, static_bytes);
	b.warps.resize((threads + 31) / 32);
	for (size_t i = 0; i < b.warps.size(); i++) {
		warp &w = b.warps[i];
		const uint32_t before = (uint32_t)((size_t)rank * b.warps.size() + i);

		w.block = &b, w.number = (int)i, w.position = -1;
		w.priority = (uint32_t)random_number();
		w.agent = c.first_agent + before, w.bulk_agent = c.first_bulk + before;
		w.count = (int)std::min<uint32_t>(32, threads - 32 * (uint32_t)i);
	}
}

static void number_slots(cluster &c, const launch &how)
{
	const uint32_t threads = how.block.x * how.block.y * how.block.z;
	const uint32_t blocks = (uint32_t)how.cluster;

	c.threads = threads * blocks;
	c.warps = (threads + 31) / 32 * blocks;
	c.first_agent = 1 + c.threads;
	c.first_bulk = c.first_agent + c.warps;
	c.first_barrier = c.first_bulk + 2 * c.warps;
	c.slots = c.first_barrier + blocks * MAX_BARRIERS;
}

uint32_t slots_of(const launch &how)
{
	cluster c = {};

	number_slots(c, how);
	return c.slots;
}

static void start_cluster(grid &g, uint32_t number)
{
	const launch &how = g.how;
	const uint32_t threads = how.block.x * how.block.y * how.block.z;
	const uint32_t blocks = (uint32_t)how.cluster;
	cluster *c = new cluster();

	c->grid = &g;
	c->serial = new_serial(g.number);
	number_slots(*c, how);
	c->live = (int)c->threads;
	c->blocks.resize(blocks);
	c->arrived.resize(c->threads);

	past first = {clocks::make(c->slots), new elsewhere()};

	first.there->done = g.known;
	for (uint32_t r = 0; r < blocks; r++) {
		block &b = c->blocks[r];

		start_block(*c, b, (int)r, number * blocks + r);
		for (uint32_t t = 0; t < threads; t++) {
			fiber *f = new_fiber();

			f->thread = {t % how.block.x, t / how.block.x % how.block.y,
				     t / how.block.x / how.block.y};
			f->block = &b, f->cluster = c, f->warp = &b.warps[t / 32];
			f->lane = (int)(t % 32), f->slot = 1 + r * threads + t;
			f->now = 1, f->past = first;
			f->warp->lanes[f->lane] = f;
			c->fibers.push_back(f);
			make_ready(f);
		}
		trace_block(&b, number * blocks + r);
	}
	alive.push_back(c);
}

static void drop(cluster *c)
{
	if (traced && traced->cluster == c)
		end_trace();
	for (block &b : c->blocks) {
		free_places.push_back(b.place);
		if (loaded == &b)
			loaded = nullptr;
		for (warp &w : b.warps) {
			while (!w.ready.empty())
				take(&w, 0);
			if (last_warp == &w)
				last_warp = nullptr;
		}
	}
	for (fiber *f : c->fibers) {
		f->copies.clear(), f->stores.clear();
		if (f == self)
			dying = f; /* still on its stack */
		else
			idle_fibers.push_back(f);
	}
	alive.erase(std::find(alive.begin(), alive.end(), c));
	delete c;
}

/* Clusters of the first grid that has some left. beyond: also where the adversary keeps it small.
 */
static bool admit(bool beyond)
{
	static const size_t companies[] = {MAX_BLOCKS, 1, 3};

	for (auto &g : *active) {
		const size_t blocks = (size_t)g->how.cluster;

		if (g->started == g->order.size())
			continue;
		if (free_places.size() < blocks ||
		    (!beyond && alive.size() >= companies[options.company]))
			return false;
		start_cluster(*g, g->order[g->started++]);
		return true;
	}
	return false;
}

/* May the next operation of the stream start, or is all of it over? */
static bool reached()
{
	const grid &last = *active->back();

	return all_of_it ? alive.empty() && last.complete
			 : last.triggered == last.blocks && last.started == last.order.size();
}

/* ---- waiting --------------------------------------------------------------------------------- */

static fiber *pick();

static void wait_in(enum state state, const void *pc, const char *waits, const char *what,
		    uint32_t a, uint32_t b)
{
	self->alone = 0;
	self->state = state, self->pc = pc, self->waits = waits, self->what = what;
	self->numbers[0] = a, self->numbers[1] = b;
}

void block_on(const void *pc, const char *waits, const char *what, uint32_t a, uint32_t b)
{
	wait_in(WAITING, pc, waits, what, a, b);
	if (traced)
		trace_wait(self, pc, waits, what, a, b);
	go(pick());
}

void wake(fiber *f)
{
	if (traced)
		trace_go_on(f);
	make_ready(f);
}

void poll(const void *pc, const char *waits, const char *what, uint32_t a, uint32_t b)
{
	self->idle = self->seen == progress ? self->idle + 1 : 0;
	self->seen = progress;
	wait_in(POLLING, pc, waits, what, a, b);
	if (traced)
		trace_poll(self, pc, waits, what, a, b);
	pollers.push_back(self);
	go(pick());
}

static void again(size_t i)
{
	fiber *f = pollers[i];

	pollers[i] = pollers.back();
	pollers.pop_back();
	make_ready(f);
}

void preempt()
{
	self->block->work++;
	if (++self->alone > ENDLESS) {
		report(HERE, nullptr, "%s: %s runs on and on without waiting for anybody",
		       where(HERE).c_str(), name_of(self).c_str());
		fail();
	}
	if (--fuel >= 0)
		return;
	fuel = (int)below(options.order == ORDER_WARPS ? 20000 : 1000);
	make_ready(self);
	go(pick());
}

void fail()
{
	failed = true;
	if (self)
		self->state = DONE;
	go(nullptr);
	abort();
}

/* ---- the adversary chooses ------------------------------------------------------------------- */

static warp *choose_warp()
{
	if (options.order == ORDER_WARPS && last_warp && last_warp->position >= 0 && below(64))
		return last_warp;
	if (options.order != ORDER_PRIORITY)
		return ready_warps[below((uint32_t)ready_warps.size())];

	warp *best = *std::max_element(
		ready_warps.begin(), ready_warps.end(),
		[](const warp *a, const warp *b) { return a->priority < b->priority; });

	if (below(256) == 0) /* roles starve for long, but not for ever */
		best->priority = (uint32_t)random_number();
	return best;
}

static bool land_any()
{
	const size_t first = alive.empty() ? 0 : below((uint32_t)alive.size());

	for (size_t i = 0; i < alive.size(); i++)
		if (land_something(*alive[(first + i) % alive.size()]))
			return true;
	return false;
}

static fiber *pick()
{
	for (;;) {
		if (reached())
			return nullptr;
		if (options.timing == TIMING_RANDOM && below(16) == 0)
			land_any();
		if (!pollers.empty() && below(8) == 0)
			again(below((uint32_t)pollers.size()));
		while (admit(false))
			;
		if (!ready_warps.empty()) {
			warp *w = last_warp = choose_warp();

			return take(w, options.order == ORDER_WARPS
					       ? w->ready.size() - 1
					       : below((uint32_t)w->ready.size()));
		}

		bool any = false; /* polls that may still see something new */

		for (size_t i = 0; i < pollers.size();)
			if (pollers[i]->seen != progress || pollers[i]->idle < PATIENCE)
				again(i), any = true;
			else
				i++;
		if (any || admit(true))
			continue;
		if (land_any()) {
			progress++;
		} else {
			describe_deadlock(alive);
			fail();
		}
	}
}

/* ---- the end of a thread --------------------------------------------------------------------- */

static void end_block(block &b)
{
	grid &g = *b.cluster->grid;
	fiber *const mine = self;

	check_finished(b);
	if (g.how.early && g.previous && !b.waited)
		report(nullptr, nullptr,
		       "%s: block %u of a kernel that was launched early ends without "
		       "wait_for_previous: what follows does not wait for the kernel before either",
		       name_of(&g).c_str(), b.index.x);
	if (!b.triggered)
		g.triggered++;
	if (++g.over < g.blocks)
		return;
	g.complete = true;
	self = nullptr; /* arguments of the kernel before end with it, which is the host's work */
	g.previous.reset();
	self = mine;
	for (fiber *f : g.waiting)
		wake(f);
	g.waiting.clear();
}

static void run_fiber()
{
	arrive(nullptr);
	self->cluster->grid->body();

	fiber *f = self;
	cluster *c = f->cluster;
	bool last = true;

	f->state = DONE;
	if (traced)
		trace_end(f);
	if (!f->copies.empty())
		report(nullptr, nullptr, "%s ends while its cp.async is under way",
		       name_of(f).c_str());
	c->grid->final.join(f->past.there->done);
	for (int i = 0; i < f->warp->count; i++)
		last = last && f->warp->lanes[i]->state == DONE;
	f->block->live--;
	if (last)
		check_finished(*f->warp);
	if (!f->block->live)
		end_block(*f->block);
	if (dying) {
		idle_fibers.push_back(dying);
		dying = nullptr;
	}
	if (--c->live == 0)
		drop(c);
	go(pick());
}

/* ---- launches that overlap ------------------------------------------------------------------- */

void let_next_start()
{
	if (!self->block->triggered)
		self->cluster->grid->triggered++;
	self->block->triggered = true;
}

void wait_for_previous()
{
	grid &g = *self->cluster->grid;

	self->block->waited = true;
	if (!g.how.early || !g.previous)
		return;
	while (!g.previous->complete) {
		g.previous->waiting.push_back(self);
		block_on(HERE, "wait for the end of %s", "the kernel before");
	}

	ref<elsewhere> there = new elsewhere();

	there->done = g.previous->final;
	there->done.add(g.previous->number);
	join(self->past, {nullptr, there});
}

uint64_t global_timer()
{
	return steps;
}

/* ---- a run ----------------------------------------------------------------------------------- */

bool run_grids(std::vector<std::shared_ptr<grid>> &grids, bool to_the_end)
{
	active = &grids;
	all_of_it = to_the_end;
	failed = false;
	if (free_places.empty() && alive.empty())
		for (int i = MAX_BLOCKS; i--;)
			free_places.push_back(i);
	if (!reached()) {
		fuel = (int)below(1000);
		go(pick());
	}
	if (failed) {
		while (!alive.empty())
			drop(alive.back());
		pollers.clear();
		grids.clear();
	}
	while (!grids.empty() && grids.front()->complete && (grids.size() > 1 || to_the_end))
		grids.erase(grids.begin());
	return !failed;
}
} // namespace emulator
