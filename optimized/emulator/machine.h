/* machine.h - the emulated GPU as its own files see it: fibers, warps, blocks, clusters and grids;
 * what each knows of the others' past (clocks); the shadow of shared and of global memory.
 *
 * Clocks. A cluster has slots: its threads, then three agents per warp (its wgmma; what its bulk
 * stores read and what they write), then one per mbarrier (what copies write on its behalf). A
 * thread knows a number of each slot: what that slot did up to there has happened before. Two more
 * parts of a clock say how far a fence.proxy.async has carried that over to the asynchronous proxy,
 * for shared and for global memory. A barrier joins clocks; an access that is not ordered by them
 * is a race, whatever the schedule of this run was. Of other clusters a thread knows what came by
 * an atomic or with the end of a grid.
 */
#pragma once

#define EMULATOR_CORE
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulator/asynchronous.h"

#define HERE __builtin_return_address(0)

/* Static shared memory of the kernels that were linked, of whichever block runs. */
extern "C" char __start_emulator_shared[] __attribute__((weak)),
	__stop_emulator_shared[] __attribute__((weak));

namespace emulator
{
enum : uint32_t {
	WINDOW = 1u << 19,    /* shared addresses of a block */
	RESERVED = 1024,      /* the first KiB is the hardware's: address 0 is never valid */
	STATIC_AT = 1u << 18, /* of static shared memory, in a window */
	RANK_SHIFT = 24,
	MAX_BLOCKS = 96,   /* alive at a time */
	MAX_BARRIERS = 64, /* mbarriers of a block */
	STACK = 256 << 10, /* of a thread, in bytes */
	CLOCK_BITS = 19,
	CLOCK = (1u << CLOCK_BITS) - 1,
	IN_FLIGHT = 8191, /* a slot: a copy that nobody has waited for */
	OBJECT = 8190,    /* a slot: an mbarrier lies here */
};

/* ---- what happened before -------------------------------------------------------------------- */

template <typename T> class ref /* counts references; T has `references` and destroy() */
{
	T *p = nullptr;

      public:
	ref() = default;
	ref(T *x) : p(x)
	{
		if (p)
			p->references++;
	}
	ref(const ref &other) : ref(other.p)
	{
	}
	ref(ref &&other) noexcept : p(other.p)
	{
		other.p = nullptr;
	}
	ref &operator=(ref other)
	{
		std::swap(p, other.p);
		return *this;
	}
	~ref()
	{
		if (p && !--p->references)
			p->destroy();
	}
	T *get() const
	{
		return p;
	}
	T *operator->() const
	{
		return p;
	}
	explicit operator bool() const
	{
		return p;
	}
	bool operator==(const ref &other) const
	{
		return p == other.p;
	}
};

struct clocks {
	uint32_t references, slots;
	uint32_t at[]; /* [3][slots]: by enum proxy */

	static ref<clocks> make(uint32_t slots);
	void destroy();
};

struct operations {         /* grids and copies that are over, by number */
	uint32_t below = 0; /* all of them up to here */
	std::vector<uint32_t> more;

	bool has(uint32_t operation) const;
	void add(uint32_t operation);
	void join(const operations &other);
};

struct elsewhere { /* outside of a thread's own cluster; never changed once shared */
	uint32_t references = 0;
	operations done;
	/* by serial; by block_key what was released for one block alone */
	std::vector<std::pair<uint64_t, ref<clocks>>> clusters;

	void destroy()
	{
		delete this;
	}
};

struct past {
	ref<clocks> here;
	ref<elsewhere> there;
};
void join(past &to, const past &from);

struct gathering { /* of what many release, one after the other */
	past all;
	past last; /* the one that was joined last: neighbours mostly share it */
	bool empty() const
	{
		return !all.here;
	}
	void clear()
	{
		all = {}, last = {};
	}
};

/* ---- threads --------------------------------------------------------------------------------- */

struct block;
struct warp;
struct cluster;
struct grid;
struct copy;

enum state { READY, WAITING, POLLING, DONE };

struct unfenced { /* a generic write that the asynchronous proxy may not see yet */
	emulator::block *block;
	uint32_t at, bytes, clock;
};

struct fiber {
	uint3 thread;
	void *sp;
	char *stack;
	emulator::block *block;
	emulator::warp *warp;
	emulator::cluster *cluster;
	int lane;
	uint32_t slot, now, fenced[3]; /* its own clock; how far a fence carried it to a proxy */
	emulator::past past;           /* of the others */
	emulator::state state;
	/* for what it waits, made into words only when nothing can go on */
	const char *waits, *what;
	uint32_t numbers[2];
	const void *pc;
	uint32_t seen, idle; /* progress at its last poll that failed; how many since */
	uint32_t alone;      /* accesses since it last waited for anybody */
	uint32_t phases;     /* of the cluster's barrier that it is past */
	bool vote;
	/* cp.async, bulk stores */
	std::vector<copy *> copies, stores;
	uint32_t committed, stores_committed;
	std::vector<unfenced> writes;
	/* relaxed atomics and fences */
	emulator::past acquired; /* by relaxed loads, until a fence */
	emulator::past released; /* at the last fence, for relaxed stores */
	uint32_t fence_epoch;
	const void *polled; /* the place that it looks at again and again */
	uint64_t polled_value;
	uint32_t unchanged; /* atomics there that changed nothing, one after the other */
};

struct meeting { /* lanes that come together in one instruction */
	const char *name;
	uint32_t mask, here;
	void *arguments[32];
};

struct chain { /* accumulators of a warp between the first wgmma and the last */
	float *d[32];
	int n, pending;
	std::vector<float> sum; /* [16][n] */
};

struct product {
	emulator::chain *chain;
	uint32_t group;
	operands how;
	registers a[32];
	const void *pc;
};

struct warp {
	emulator::block *block;
	fiber *lanes[32];
	int count, number, position; /* position: among the ready ones, -1: nobody is ready */
	std::vector<fiber *> ready;
	std::vector<meeting> meetings;
	uint32_t priority;
	/* wgmma: groups; instructions */
	uint32_t agent, committed, waited, issued;
	bool fenced;
	uint32_t bulk_agent,
		bulk_clock; /* the agent that reads; the one that writes is [warps] on */
	std::vector<std::unique_ptr<product>> queue;
	std::vector<std::unique_ptr<chain>> chains;
};

struct named_barrier {
	int arrived, expected;
	bool any;
	int count;
	uint32_t opened; /* how often so far */
	std::vector<fiber *> waiting;
	gathering clocks;
};

struct mbarrier {
	emulator::block *block;
	uint32_t offset, count, pending, phase, agent, agent_clock;
	int64_t tx;
	gathering now, now_wide; /* released for the phase that runs; by other blocks */
	past done, done_wide;    /* for all that are complete */
	uint32_t init_slot, init_clock;
	bool fenced;   /* copies and other blocks may know of the init */
	uint32_t told; /* by the fence: to who is past more phases of the cluster's barrier */
	const void *pc;
	std::vector<fiber *> waiting;
};

struct piece {       /* 16 bytes of a copy to shared memory; some of a store to global memory */
	uint32_t at; /* in the target block's window */
	const char *from; /* in global memory; NULL: zeros, or from_at */
	char *to;         /* in global memory; NULL: shared */
	uint32_t from_at; /* in the source block's window */
	uint8_t bytes;    /* that are copied; the rest of 16 is zero */
};

struct copy {
	uint32_t id, group, flight; /* flight: its place among those in the air */
	const void *pc;
	bool landed, waited;    /* waited: for its reading, which frees shared memory */
	block *target, *source; /* NULL: global memory */
	int width;              /* bytes that a piece writes */
	mbarrier *tells;        /* NULL: cp.async and stores */
	uint32_t bytes, clock;  /* clock: of a store, its agent's */
	uint32_t words[4];      /* of st.async */
	uint32_t traced;        /* row of the trace, from 1 on */
	std::vector<piece> pieces;
};

struct block {
	emulator::cluster *cluster;
	int rank, live, place; /* place: of its window in the arena */
	uint3 index;
	char *memory; /* WINDOW bytes */
	char *fixed;  /* static shared memory while another block runs */
	std::vector<warp> warps;
	named_barrier barriers[16];
	std::vector<std::unique_ptr<mbarrier>> mbarriers;
	bool triggered, waited; /* let_next_start, wait_for_previous */
	uint64_t work;          /* steps of its threads */
};

struct cluster {
	emulator::grid *grid;
	uint32_t serial, slots, threads, warps, first_agent, first_bulk, first_barrier;
	std::vector<block> blocks;
	std::vector<fiber *> fibers;
	int live;
	named_barrier barrier;
	past passed;                  /* released for the last phase of the cluster's barrier */
	std::vector<uint8_t> arrived; /* [threads]: at the cluster's barrier, not yet past it */
	std::vector<std::unique_ptr<copy>>
		flights; /* copies that somebody has to wait for, by id */
	std::vector<uint32_t> free_flights;
	std::vector<copy *> air;       /* not landed */
	bool proxy;                    /* uses the asynchronous proxy: unfenced writes count */
	bool forgotten;                /* some were not kept */
	std::vector<warp *> computing; /* with wgmma queued */
};

struct grid {
	launch how;
	std::function<void()> body;
	uint32_t number;             /* of the operation */
	std::vector<uint32_t> order; /* of clusters, the adversary's */
	size_t started;
	uint32_t over, triggered; /* blocks */
	uint32_t blocks;
	operations known; /* at its start */
	operations final; /* at its end, by any of its threads */
	bool complete;
	std::shared_ptr<grid> previous; /* of its stream; NULL: not a kernel, or long over */
	std::vector<fiber *> waiting;   /* for the previous one's end, in this grid */
};

/* ---- the run --------------------------------------------------------------------------------- */

enum order { ORDER_RANDOM, ORDER_WARPS, ORDER_PRIORITY };
enum timing { TIMING_EARLY, TIMING_LATE, TIMING_RANDOM };
enum company { COMPANY_ALL, COMPANY_ONE, COMPANY_FEW }; /* clusters alive at a time */
struct options {
	uint64_t seed;
	emulator::order order;
	emulator::timing timing;
	emulator::company company;
	bool check; /* clocks: report races */
	int sms, arch;
};
extern emulator::options options;
extern fiber *self;
extern char *arena, *behind; /* shared memory of all blocks; as the asynchronous proxy sees it */
extern uint32_t progress;    /* of what a poll can see */
extern uint64_t steps;       /* switches so far */

struct counts {
	uint64_t accesses, global_accesses, copies, products, meetings, blocks, launches;
};
extern counts counted;

/* schedule.cpp */
uint64_t random_number();
uint32_t below(uint32_t n);
void seed_random(uint64_t seed);
void block_on(const void *pc, const char *waits, const char *what, uint32_t a = 0, uint32_t b = 0);
void wake(fiber *f);
void poll(const void *pc, const char *waits, const char *what, uint32_t a = 0, uint32_t b = 0);
void preempt();
uint32_t slots_of(const launch &how); /* of a cluster */
[[noreturn]] void fail();             /* ends the launches that run */
void meet(const char *name, uint32_t mask, void *mine,
	  void (*combine)(warp &w, uint32_t mask, void **arguments), const void *pc);
/* Runs what is active until all of it is over, or as much as it takes to start another operation.
 * false: the kernels were ended. */
bool run_grids(std::vector<std::shared_ptr<grid>> &active, bool to_the_end);
void touch_statics(char *at, int bytes);
char *static_memory(block *b);

/* report.cpp */
void report(const void *pc, const void *pc2, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
std::string where(const void *pc);
std::string function_of(const void *pc); /* its name alone */
std::string name_of(const fiber *f);
std::string name_of(const grid *g);
void describe_deadlock(const std::vector<cluster *> &alive);
void start_reports();
uint32_t reports_so_far();

/* clocks.cpp */
void release(gathering &to, fiber *f);
void tick(fiber *f);
void forget_places(); /* what was released by atomics: nothing runs any more */
bool knows(const fiber *f, uint32_t slot, uint32_t clock, proxy proxy);
/* A relaxed read or write of a thread: what fences around it make of it. */
void order_relaxed(const void *address, bool writes);
/* The agent's clock, known to a gathering or to a thread. */
void tell(gathering &to, const cluster &c, uint32_t slot, uint32_t clock);
void tell(fiber *f, uint32_t slot, uint32_t clock);
inline uint32_t epoch(uint32_t slot, uint32_t clock)
{
	return slot << CLOCK_BITS | clock;
}
inline uint32_t epoch(const fiber *f)
{
	return epoch(f->slot, f->now);
}
uint32_t new_serial(uint32_t operation); /* of a cluster or a copy */

/* shared.cpp, global.cpp: the shadows */
enum access { READ, WRITE, ASYNC_READ, ASYNC_WRITE, ATOMIC_READ, ATOMIC_WRITE };
inline bool is_write(access a)
{
	return a % 2;
}
inline bool is_async(access a)
{
	return a == ASYNC_READ || a == ASYNC_WRITE;
}
inline bool is_atomic(access a)
{
	return a >= ATOMIC_READ;
}
const void *pc_of(uint32_t pc);
std::string who(const cluster &c, uint32_t slot, uint32_t pc);
/* f does to a place what nothing orders with what the other did there. fence: only a proxy fence is
 * lacking. */
void race(const char *does, const char *did, const std::string &other, uint32_t other_pc,
	  const std::string &place, const fiber *f, bool fence, const void *pc);
char *reserve(size_t bytes, int protection); /* address space */
void start_shared();
void start_global();
/* An atomic access of either kind of memory. */
void touch_atomic(void *address, int bytes, access access, const void *pc);
/* n bytes of shared memory from a cell of a block's window; f: whose knowledge counts; mark: the
 * epoch that is left behind. */
void touch(block *b, uint32_t at, int n, access access, fiber *f, uint32_t mark, const void *pc);
void mark_landed(block *b, uint32_t at, int n, uint32_t in_flight, uint32_t mark);
void clear_shadow(block *b, size_t dynamic_bytes, size_t static_bytes);
char *host_address(uint32_t address, int bytes, block **b, uint32_t *at, const char *what,
		   const void *pc);
void show_async(fiber *f);
void use_proxy(cluster &c);
void keep_write(fiber *f, const unfenced &write);
char *shared_at(block *b, uint32_t at);
/* The block of self's cluster and the place in its window where a pointer points to, static shared
 * memory being self's own; false: somewhere else. *b NULL: in a block of another cluster. */
bool find_shared(const void *pointer, block **b, uint32_t *at);
void poison(char *at, size_t bytes); /* NaN in bf16, fp16 and fp32, no valid index */
/* Global memory, by a thread, or by a copy of the host's (f NULL). mark 0: f's own epoch. */
bool is_global(const void *address);
void touch_global(const char *at, size_t n, access access, fiber *f, uint32_t mark, const void *pc);
void host_touches(const char *at, size_t n, bool writes, uint32_t serial, const operations &known);
void *allocate_global(size_t bytes);
bool free_global(void *pointer);
size_t global_bytes_from(const void *pointer); /* to the end of its allocation; 0: none */

/* copies.cpp, wgmma.cpp */
bool land_something(cluster &c); /* false: nothing is under way */
const void *flight_pc(const cluster &c, uint32_t id);
void check_finished(warp &w); /* its last thread has ended */
void check_finished(block &b);
void run_products(warp &w, uint32_t groups, bool one);
/* Now, or later? */
bool at_once();

/* trace.cpp */
void start_trace(uint64_t launch, uint64_t block);
void trace_launch(const grid &g);
void trace_block(block *b, uint32_t number); /* starts */
void trace_report(const char *sentence);
void end_trace();     /* writes what there is of the block */
bool close_trace();   /* false: what was to be traced never ran */
extern block *traced; /* NULL: it does not run, and nobody needs to tell what follows */
void trace_end(const fiber *f);
void trace_wait(const fiber *f, const void *pc, const char *waits, const char *what, uint32_t a,
		uint32_t b);
void trace_poll(const fiber *f, const void *pc, const char *waits, const char *what, uint32_t a,
		uint32_t b);
void trace_go_on(const fiber *f);                   /* is let go by whoever is at work */
void trace_seen(const fiber *f, const mbarrier *b); /* what it polled for; NULL: global memory */
void trace_phase(const mbarrier *b);                /* is complete */
void trace_arrive(const mbarrier *b, uint32_t count, uint32_t bytes, const void *pc);
void trace_arrive(const named_barrier *b, const char *name, uint32_t id, uint32_t phase,
		  int lacking, const void *pc);
void trace_copy(copy *c, const char *kind);
void trace_landing(const copy *c); /* NULL: it has */
void trace_mma(const warp &w, const void *pc);
void trace_product(const warp &w, const void *pc);
void trace_computed(const warp &w, uint32_t group);
/* Waits that make copies or products land: all of the groups so far but some. */
void trace_passed(const fiber *f, const std::vector<copy *> &copies, uint32_t committed, int left,
		  const char *what, const void *pc);
void trace_passed(const warp &w, uint32_t left, const void *pc);
} // namespace emulator
