/* clocks.cpp - who knows what of whose past. Vectors are shared: after a barrier all of its threads
 * point to the same one, and a thread's own number is kept apart, so that the next barrier joins a
 * vector once and not once a thread.
 */
#include <algorithm>
#include <unordered_map>

#include "emulator/machine.h"

namespace emulator
{
/* ---- vectors --------------------------------------------------------------------------------- */

ref<clocks> clocks::make(uint32_t slots)
{
	clocks *c = (clocks *)calloc(1, sizeof(clocks) + 3 * slots * sizeof(uint32_t));

	if (!c)
		abort();
	c->slots = slots;
	return c;
}

void clocks::destroy()
{
	free(this);
}

static ref<clocks> copy_of(const ref<clocks> &from)
{
	ref<clocks> c = clocks::make(from->slots);

	memcpy(c->at, from->at, 3 * from->slots * sizeof(uint32_t));
	return c;
}

static void raise(clocks &to, const clocks &from)
{
	uint32_t *a = to.at;
	const uint32_t *b = from.at;

	for (uint32_t i = 0; i < 3 * to.slots; i++)
		a[i] = std::max(a[i], b[i]);
}

/* Lanes that wait for the same thing with the same past ask the same again. */
static ref<clocks> joined(const ref<clocks> &a, const ref<clocks> &b)
{
	static ref<clocks> last_a, last_b, last;

	if (!a || !b || a == b)
		return a ? a : b;
	if (!(a == last_a && b == last_b)) {
		last_a = a, last_b = b;
		last = copy_of(a);
		raise(*last.get(), *b.get());
	}
	return last;
}

/* ---- operations, other clusters -------------------------------------------------------------- */

bool operations::has(uint32_t operation) const
{
	return operation < below || std::find(more.begin(), more.end(), operation) != more.end();
}

void operations::add(uint32_t operation)
{
	if (has(operation))
		return;
	more.push_back(operation);
	for (bool again = true; again;) {
		again = false;
		for (size_t i = 0; i < more.size(); i++)
			if (more[i] <= below) {
				below += more[i] == below;
				more.erase(more.begin() + (long)i);
				again = true;
				break;
			}
	}
}

void operations::join(const operations &other)
{
	if (other.below > below)
		below = other.below;
	for (uint32_t operation : other.more)
		add(operation);
	add(below ? below - 1 : 0); /* what is below now needs no place of its own */
}

static ref<elsewhere> joined(const ref<elsewhere> &a, const ref<elsewhere> &b)
{
	static ref<elsewhere> last_a, last_b, last;

	if (!a || !b || a == b)
		return a ? a : b;
	if (a == last_a && b == last_b)
		return last;
	last_a = a, last_b = b;
	last = new elsewhere();
	last->done = a->done;
	last->done.join(b->done);
	last->clusters = a->clusters;
	for (const auto &theirs : b->clusters) {
		auto mine = std::find_if(last->clusters.begin(), last->clusters.end(),
					 [&](const auto &x) { return x.first == theirs.first; });

		if (mine == last->clusters.end())
			last->clusters.push_back(theirs);
		else
			mine->second = joined(mine->second, theirs.second);
	}
	return last;
}

void join(past &to, const past &from)
{
	to.here = joined(to.here, from.here);
	to.there = joined(to.there, from.there);
}

/* ---- threads --------------------------------------------------------------------------------- */

void tick(fiber *f)
{
	if (++f->now < CLOCK)
		return;
	report(nullptr, nullptr,
	       "%s has been through %u barriers, more than there are numbers for: "
	       "use a smaller case",
	       name_of(f).c_str(), CLOCK);
	fail();
}

/* f's past becomes part of it, and f goes on with a new number. */
void release(gathering &to, fiber *f)
{
	if (!to.all.here) {
		to.all = {copy_of(f->past.here), f->past.there};
	} else {
		if (!(to.last.here == f->past.here))
			raise(*to.all.here.get(), *f->past.here.get());
		if (!(to.last.there == f->past.there))
			to.all.there = joined(to.all.there, f->past.there);
	}
	to.last = f->past;

	uint32_t *own = to.all.here->at + f->slot;

	own[0] = std::max(own[0], f->now);
	for (int proxy = ASYNC_SHARED; proxy <= ASYNC_GLOBAL; proxy++) {
		uint32_t &carried = own[(uint32_t)proxy * to.all.here->slots];

		carried = std::max(carried, f->fenced[proxy]);
	}
	tick(f);
}

bool knows(const fiber *f, uint32_t slot, uint32_t clock, proxy proxy)
{
	if (slot == f->slot)
		return proxy == GENERIC || f->fenced[proxy] >= clock;
	if (slot > f->cluster->threads) /* what an agent did all proxies know by the same wait */
		proxy = GENERIC;
	return f->past.here->at[proxy * f->cluster->slots + slot] >= clock;
}

void tell(gathering &to, const cluster &c, uint32_t slot, uint32_t clock)
{
	if (!to.all.here)
		to.all.here = clocks::make(c.slots);
	to.all.here->at[slot] = std::max(to.all.here->at[slot], clock);
}

void tell(fiber *f, uint32_t slot, uint32_t clock)
{
	static ref<clocks> before, after;
	static uint32_t last_slot, last_clock;

	if (f->past.here->at[slot] >= clock)
		return;
	if (!(before == f->past.here) || last_slot != slot || last_clock != clock) {
		before = f->past.here, last_slot = slot, last_clock = clock;
		after = copy_of(before);
		after->at[slot] = clock;
	}
	f->past.here = after;
}

static void carry(clocks &c, proxy to)
{
	uint32_t *carried = c.at + to * c.slots;

	for (uint32_t i = 0; i < c.slots; i++)
		carried[i] = std::max(carried[i], c.at[i]);
}

/* What came from other clusters, too. */
static void carry_elsewhere(past &of)
{
	if (!of.there || of.there->clusters.empty())
		return;

	ref<elsewhere> there = new elsewhere();

	there->done = of.there->done;
	for (const auto &c : of.there->clusters) {
		there->clusters.push_back({c.first, copy_of(c.second)});
		carry(*there->clusters.back().second.get(), ASYNC_GLOBAL);
	}
	of.there = there;
}

void fence_proxy_async(proxy to)
{
	static ref<clocks> before[3], after[3];

	if (!(before[to] == self->past.here)) {
		before[to] = self->past.here;
		after[to] = copy_of(before[to]);
		carry(*after[to].get(), to);
	}
	self->past.here = after[to];
	self->fenced[to] = self->now;
	if (to == ASYNC_SHARED)
		show_async(self);
	else
		carry_elsewhere(self->past);
	tick(self); /* what it writes from now on is not carried over */
}

/* ---- atomics and fences ---------------------------------------------------------------------- */

/* Under which what is for one block alone is kept. */
static uint64_t block_key(const fiber *f)
{
	return f->cluster->serial | (uint64_t)(f->block->rank + 1) << 32;
}

/* What a thread tells a thread of any cluster, or of its own block only. */
static past for_others(fiber *f, uint64_t key)
{
	gathering g;
	release(g, f);

	ref<elsewhere> there = new elsewhere();

	if (f->past.there)
		there->done = f->past.there->done, there->clusters = f->past.there->clusters;
	there->clusters.erase(std::remove_if(there->clusters.begin(), there->clusters.end(),
					     [&](const auto &x) { return x.first == key; }),
			      there->clusters.end());
	there->clusters.push_back({key, g.all.here});
	return {nullptr, there};
}

static void learn(fiber *f, const past &from)
{
	past mine = from;

	if (!from.there)
		return;
	for (const auto &x : from.there->clusters)
		if (x.first == f->cluster->serial || x.first == block_key(f))
			mine.here = joined(mine.here, x.second);
	join(f->past, mine);
}

/* Released at a place, by address. Forgotten when the device is idle. */
static std::unordered_map<const void *, past> places;

void forget_places()
{
	places.clear();
}

/* A fence for the block alone learns of it only what its own threads have told. */
static bool told_here(const fiber *f, const past &from)
{
	const uint64_t key = f->cluster->blocks.size() == 1 ? f->cluster->serial : block_key(f);

	if (!from.there)
		return false;
	for (const auto &x : from.there->clusters)
		if (x.first == key || x.first == block_key(f))
			return true;
	return false;
}

void threadfence(bool device)
{
	if (device || told_here(self, self->acquired)) {
		learn(self, self->acquired);
		self->acquired = {};
	}
	if (device)
		self->released = for_others(self, self->cluster->serial);
	else
		join(self->released, for_others(self, block_key(self)));
}

static void order_read(fiber *f, const past &from, ordering order)
{
	if (order == ACQUIRE || order == ACQUIRE_RELEASE)
		learn(f, from);
	else
		join(f->acquired, from);
}

/* A read-modify-write hands on what the place had: it goes on with the chain of releases. */
static void order_write(fiber *f, past &to, ordering order, bool modifies)
{
	const past mine = order == RELEASE || order == ACQUIRE_RELEASE
				  ? for_others(f, f->cluster->serial)
				  : f->released;

	if (modifies)
		join(to, mine);
	else
		to = mine;
}

void order_relaxed(const void *address, bool writes)
{
	if (writes)
		order_write(self, places[address], RELAXED, false);
	else
		order_read(self, places[address], RELAXED);
}

static uint64_t load_bits(const void *address, int bytes)
{
	uint64_t value = 0;

	memcpy(&value, address, (size_t)bytes);
	return value;
}

enum { MANY = 1000 };

uint64_t atomic(void *address, int bytes, ordering order, update change, uint64_t operand,
		uint64_t other)
{
	preempt();
	touch_atomic((void *)address, bytes, ATOMIC_WRITE, HERE);

	past &p = places[address];
	const uint64_t old = load_bits(address, bytes), value = change(old, operand, other);

	order_read(self, p, order);
	order_write(self, p, order, true);
	memcpy(address, &value, (size_t)bytes);
	if (value != old || self->polled != address) {
		progress += value != old;
		self->unchanged = 0;
	} else if (++self->unchanged > MANY) { /* a loop around it, and not a maximum of many */
		poll(HERE, "poll for a change of %s memory",
		     is_global(address) ? "global" : "shared");
	}
	self->polled = address, self->polled_value = value;
	return old;
}

uint64_t atomic_load(const void *address, int bytes, ordering order)
{
	preempt();
	touch_atomic((void *)address, bytes, ATOMIC_READ, HERE);

	const uint64_t value = load_bits(address, bytes);

	order_read(self, places[address], order);
	if (self->polled == address && self->polled_value == value)
		poll(HERE, "poll for a change of %s memory",
		     is_global(address) ? "global" : "shared");
	else if (traced)
		trace_seen(self, nullptr);
	self->polled = address, self->polled_value = value;
	return value;
}

void atomic_store(void *address, int bytes, ordering order, uint64_t value)
{
	preempt();
	touch_atomic((void *)address, bytes, ATOMIC_WRITE, HERE);
	order_write(self, places[address], order, false);
	memcpy(address, &value, (size_t)bytes);
	progress++;
}
} // namespace emulator
