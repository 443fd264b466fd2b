/* trace.cpp - what one block of one launch waited for, and who let it go on: tab-separated lines of
 * text, from the first to the last. EMULATE_TRACE names the file, EMULATE_TRACE_LAUNCH the launch
 * (1: the first), EMULATE_TRACE_BLOCK the block (0).
 *
 * Columns: begin, end, warp, lanes, event, what, by, where. Steps are counted by the block itself:
 * one for each access of a thread to memory, and for its part in an instruction of the warp or in a
 * barrier. So they go on with the block's work and with nobody else's; which of its threads does
 * the next one is the adversary's choice.
 *
 *   wait, poll  lanes of a warp that were let go together, from when the last of them came; by: the
 *               thread or the copy that let them. "never": still waiting when all was over
 *   arrive      at a barrier, without waiting there
 *   copy        from its issue until it has landed; by: who issued it, if another block did
 *   mma         products that a warp made one after the other, in one function, without waiting
 *   wgmma       products of a group of a warp, from their issue until they are done
 *   end         of the threads of a warp
 *   report      what the emulator said meanwhile
 *   launch      each launch of the run, by number; no step, as reports about other blocks
 *
 * Where an instruction brings a warp together nothing is written, unless lanes waited there for one
 * that itself had to wait for others.
 */
#include <stdarg.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "emulator/machine.h"

namespace emulator
{
block *traced;

enum : uint64_t { NEVER = ~0ull };

struct row {
	uint64_t begin, end;
	int warp; /* -1: not one of the block's */
	uint32_t lanes;
	const char *event;
	std::string what, by;
	const void *pc;
	/* of copies, products and arrivals: how many, of how many bytes, not landed, lacking */
	uint32_t count, bytes, open, lacking;
};

struct waiting {
	std::string what;
	const void *pc;
	uint64_t begin;
};

struct lane {
	bool waits;
	waiting now;
	uint32_t mask;              /* of the lanes that meet; 0: it waits for others than these */
	uint64_t released;          /* when it was last let go by others than lanes that meet */
	std::vector<waiting> polls; /* what it looked at in vain, since it last did anything else */
};

static FILE *file;
static uint64_t wanted_launch, wanted_block, launches;
static const grid *wanted; /* the launch, once it runs */
static bool over;
static std::vector<row> rows;
static std::map<std::string, size_t> known; /* rows that may still grow, by what makes them one */
static std::vector<lane> lanes;             /* of the traced block */
static std::map<const mbarrier *, std::pair<uint64_t, std::string>> completed; /* last: when, by */
static std::map<const warp *, std::map<uint32_t, size_t>> groups;              /* of wgmma: rows */
static std::vector<size_t> runs; /* of mma, by warp: rows from 1 on; 0: none goes on */
static const copy *cause;        /* that lands now */
static uint32_t copies;

static std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static std::string text(const char *format, ...)
{
	char words[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	return words;
}

/* ---- the file -------------------------------------------------------------------------------- */

static bool may_be_replaced(const char *path)
{
	char begin[10] = "";
	struct stat status;
	FILE *old = stat(path, &status) || !S_ISREG(status.st_mode) ? nullptr : fopen(path, "re");

	if (!old)
		return true;

	const bool some = fgets(begin, sizeof(begin), old);

	fclose(old);
	return !some || !strcmp(begin, "mla-trace");
}

void start_trace(uint64_t launch, uint64_t block)
{
	const char *path = getenv("EMULATE_TRACE");

	if (!path || !*path)
		return;
	if (!may_be_replaced(path)) {
		fprintf(stderr,
			"emulator: EMULATE_TRACE is \"%s\", which is there and is no trace: it is "
			"not replaced\n",
			path);
		exit(70);
	}
	file = fopen(path, "we");
	if (!file) {
		fprintf(stderr, "emulator: EMULATE_TRACE is \"%s\": %m\n", path);
		exit(70);
	}
	wanted_launch = launch, wanted_block = block;
	fprintf(file,
		"mla-trace\t1\tseed %llu order %d timing %d company %d\tlaunch %llu\tblock %llu\n"
		"begin\tend\twarp\tlanes\tevent\twhat\tby\twhere\n",
		(unsigned long long)options.seed, options.order, options.timing, options.company,
		(unsigned long long)launch, (unsigned long long)block);
	fflush(file);
}

/* "0-15,31" */
static std::string ranges(uint32_t mask)
{
	std::string list;

	for (int i = 0; i < 32; i++) {
		int last = i;

		if (!(mask >> i & 1))
			continue;
		while (last < 31 && mask >> (last + 1) & 1)
			last++;
		list += (list.empty() ? "" : ",") + std::to_string(i);
		if (last > i)
			list += "-" + std::to_string(last);
		i = last;
	}
	return list;
}

static std::string some(uint32_t n, const char *one, const char *many)
{
	return text("%u %s", n, n == 1 ? one : many);
}

static void write(const row &r)
{
	std::string what = r.what;

	if (!strcmp(r.event, "arrive"))
		what += text(": %s, %u lacking", some(r.count, "arrival", "arrivals").c_str(),
			     r.lacking);
	else if (!strcmp(r.event, "copy"))
		what += ": " + some(r.count, "copy", "copies");
	else if (r.count)
		what += ": " + some(r.count, "product", "products");
	if (r.bytes)
		what += text(strcmp(r.event, "arrive") ? ", %u bytes" : ", expects %u bytes",
			     r.bytes);
	fprintf(file, "%llu\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", (unsigned long long)r.begin,
		r.end == NEVER ? "never" : std::to_string(r.end).c_str(),
		r.warp < 0 ? "-" : std::to_string(r.warp).c_str(),
		r.lanes ? ranges(r.lanes).c_str() : "-", r.event, what.c_str(),
		r.by.empty() ? "-" : r.by.c_str(), r.pc ? where(r.pc).c_str() : "-");
}

/* What is said of the run, not of the block. */
static void write_aside(const char *event, const std::string &what)
{
	fprintf(file, "-\t-\t-\t-\t%s\t%s\t-\t-\n", event, what.c_str());
	fflush(file);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static row &row_of(const std::string &key, const char *event, const std::string &what, int warp,
		   const void *pc)
{
	const auto found = known.insert({key, rows.size()});

	if (found.second)
		rows.push_back(
			{traced->work, traced->work, warp, 0, event, what, "", pc, 0, 0, 0, 0});
	return rows[found.first->second];
}

static uint32_t number_of(const block *b)
{
	const dim3 &grid = b->cluster->grid->how.grid;

	return b->index.x + grid.x * (b->index.y + grid.y * b->index.z);
}

static std::string of_block(const block *b)
{
	return b == traced ? "" : text(" of block %u", number_of(b));
}

static std::string name(const fiber *f)
{
	return (f->block == traced ? "" : text("block %u ", number_of(f->block))) +
	       text("warp %d lane %d", f->warp->number, f->lane);
}

/* "copy 7" */
static std::string name(const row &r)
{
	return r.what.substr(0, r.what.find(':'));
}

/* Who is at work when a thread of that grid is let go. */
static std::string who(const grid *g)
{
	if (cause)
		return name(rows[cause->traced - 1]);
	if (!self)
		return "";
	return self->cluster->grid == g ? name(self) : name_of(self->cluster->grid);
}

static int own_warp(const fiber *f)
{
	return f->block == traced ? f->warp->number : -1;
}

static lane &lane_of(const fiber *f)
{
	return lanes[(size_t)(f->warp->number * 32 + f->lane)];
}

/* Lanes that were let go at the same step by the same are one row. */
static void put_wait(const fiber *f, const char *event, const waiting &w, uint64_t end,
		     const std::string &by)
{
	row &r = row_of(text("%s %d %llu ", event, f->warp->number, (unsigned long long)end) +
				where(w.pc) + w.what + by,
			event, w.what, f->warp->number, w.pc);

	r.begin = r.lanes ? std::max(r.begin, w.begin) : w.begin;
	r.end = end, r.by = by;
	r.lanes |= 1u << f->lane;
}

/* ---- the block ------------------------------------------------------------------------------- */

void trace_launch(const grid &g)
{
	if (!file)
		return;
	write_aside("launch",
		    text("%llu: ", (unsigned long long)++launches) + name_of(&g) +
			    text(", %s of %u threads", some(g.blocks, "block", "blocks").c_str(),
				 g.how.block.x * g.how.block.y * g.how.block.z));
	if (launches != wanted_launch)
		return;
	wanted = &g;
	if (wanted_block >= g.blocks)
		report(nullptr, nullptr,
		       "EMULATE_TRACE_BLOCK is %llu, expected a block of launch %llu, 0 to %u: "
		       "nothing is traced",
		       (unsigned long long)wanted_block, (unsigned long long)launches,
		       g.blocks - 1);
}

void trace_block(block *b, uint32_t number)
{
	if (over || b->cluster->grid != wanted || number != wanted_block)
		return;
	traced = b;
	lanes.resize(b->warps.size() * 32);
	runs.resize(b->warps.size());
}

/* What never came. */
static void end_lane(const fiber *f)
{
	const lane &l = lane_of(f);

	if (l.waits)
		put_wait(f, "wait", l.now, NEVER, "");
	for (const waiting &w : l.polls)
		put_wait(f, "poll", w, NEVER, "");
}

void end_trace()
{
	if (!traced)
		return;
	for (const warp &w : traced->warps)
		for (int l = 0; l < w.count; l++)
			end_lane(w.lanes[l]);
	std::stable_sort(rows.begin(), rows.end(),
			 [](const row &a, const row &b) { return a.begin < b.begin; });
	for (const row &r : rows)
		write(r);
	fflush(file);
	traced = nullptr;
	over = true;
}

bool close_trace()
{
	if (!file || launches >= wanted_launch)
		return true;
	fprintf(stderr,
		"emulator: EMULATE_TRACE_LAUNCH is %llu, expected the number of a launch, of which "
		"there were %llu: nothing is traced\n",
		(unsigned long long)wanted_launch, (unsigned long long)launches);
	return false;
}

void trace_end(const fiber *f)
{
	if (f->block != traced)
		return;

	row &r = row_of(text("end %d", f->warp->number), "end", "of these threads", f->warp->number,
			nullptr);

	r.begin = r.end = traced->work;
	r.lanes |= 1u << f->lane;
	lane_of(f).polls.clear();
}

void trace_report(const char *sentence)
{
	const bool of_thread = self && self->state == READY; /* else nobody runs: a deadlock */

	if (!file)
		return;
	if (!traced || (of_thread && self->block != traced)) {
		write_aside("report", sentence);
		return;
	}

	row &r = row_of(text("report %zu", rows.size()), "report", sentence, -1, nullptr);

	if (of_thread)
		r.warp = self->warp->number, r.lanes = 1u << self->lane;
}

/* ---- waiting --------------------------------------------------------------------------------- */

void trace_wait(const fiber *f, const void *pc, const char *waits, const char *what, uint32_t a,
		uint32_t b)
{
	if (f->block != traced)
		return;

	lane &l = lane_of(f);
	const std::string words = text(waits, what, a, b); /* "wait in ..." */
	const std::string thing = words.substr(words.find(' ', words.find(' ') + 1) + 1);

	l.waits = true, l.mask = 0;
	l.now = {thing, pc, traced->work};
	for (const meeting &m : f->warp->meetings)
		if (m.here >> f->lane & 1)
			l.mask = m.mask;
	if (l.mask)
		return;
	l.polls.clear();
	runs[(size_t)f->warp->number] = 0;
}

void trace_go_on(const fiber *f)
{
	if (f->block != traced)
		return;

	lane &l = lane_of(f);

	if (!l.waits)
		return;
	l.waits = false;
	if (!l.mask) {
		l.released = traced->work;
		put_wait(f, "wait", l.now, traced->work, who(f->cluster->grid));
		return;
	}
	for (int i = 0; i < f->warp->count; i++)
		if (l.mask >> i & 1 && lane_of(f->warp->lanes[i]).released > l.now.begin) {
			put_wait(f, "wait", l.now, traced->work, name(self));
			return;
		}
}

void trace_poll(const fiber *f, const void *pc, const char *waits, const char *what, uint32_t a,
		uint32_t b)
{
	if (f->block != traced)
		return;

	lane &l = lane_of(f);
	const std::string thing = text(waits, what, a, b).substr(strlen("poll for "));

	for (const waiting &w : l.polls)
		if (w.what == thing)
			return;
	l.polls.push_back({thing, pc, l.polls.empty() ? traced->work : l.polls[0].begin});
	runs[(size_t)f->warp->number] = 0;
}

void trace_seen(const fiber *f, const mbarrier *m)
{
	if (f->block != traced || lane_of(f).polls.empty())
		return;

	lane &l = lane_of(f);
	const std::string thing = m ? text("mbarrier +%u ", m->offset) : "a change";
	const auto done = completed.find(m);

	for (const waiting &w : l.polls) {
		if (w.what.compare(0, thing.size(), thing))
			continue;
		l.released = done == completed.end() ? traced->work
						     : std::max(done->second.first, w.begin);
		put_wait(f, "poll", w, l.released,
			 done == completed.end() ? "" : done->second.second);
		break;
	}
	l.polls.clear(); /* of the others nothing came */
}

void trace_phase(const mbarrier *b)
{
	if (b->block == traced)
		completed[b] = {traced->work, who(traced->cluster->grid)};
}

/* This thread is one of those that did it. */
static void put_issuer(row &r)
{
	if (self->block != traced) {
		r.by = name(self);
		return;
	}
	r.lanes |= 1u << self->lane;
	lane_of(self).polls.clear();
}

/* ---- arrivals -------------------------------------------------------------------------------- */

static void put_arrival(const std::string &what, const void *of, uint32_t phase, uint32_t count,
			uint32_t lacking, uint32_t bytes, const void *pc)
{
	row &r = row_of(text("arrive %p %p %u ", (void *)self->warp, of, phase) + where(pc),
			"arrive", what, own_warp(self), pc);

	r.end = traced->work;
	r.count += count, r.lacking = lacking, r.bytes += bytes;
	put_issuer(r);
}

void trace_arrive(const mbarrier *b, uint32_t count, uint32_t bytes, const void *pc)
{
	if (b->block == traced || self->block == traced)
		put_arrival(text("mbarrier +%u", b->offset) + of_block(b->block) +
				    text(" phase %u", b->phase),
			    b, b->phase, count, b->pending, bytes, pc);
}

void trace_arrive(const named_barrier *b, const char *name, uint32_t id, uint32_t phase,
		  int lacking, const void *pc)
{
	if (self->block == traced)
		put_arrival(id ? text("%s %u", name, id) : name, b, phase, 1, (uint32_t)lacking, 0,
			    pc);
}

/* ---- copies, products ------------------------------------------------------------------------ */

void trace_copy(copy *c, const char *kind)
{
	if (self->block != traced && c->target != traced)
		return;

	const uint32_t number = c->tells ? c->tells->phase : c->group;
	std::string what = text("copy %u: %s", copies + 1, kind);
	uint32_t bytes = c->tells ? c->bytes : 0;

	if (c->tells)
		what += text(" for mbarrier +%u", c->tells->offset) + of_block(c->target) +
			text(" phase %u", number);
	else
		what += text(" group %u", number);
	for (const piece &p : c->pieces)
		if (!c->tells)
			bytes += p.to ? p.bytes : (uint32_t)c->width;

	const size_t before = rows.size();
	row &r =
		row_of(text("copy %p %s %p %u", (void *)self->warp, kind, (void *)c->tells, number),
		       "copy", what, own_warp(self), c->pc);

	copies += rows.size() > before;
	r.end = NEVER;
	r.count++, r.open++, r.bytes += bytes;
	put_issuer(r);
	c->traced = (uint32_t)(&r - rows.data()) + 1;
}

void trace_landing(const copy *c)
{
	cause = c && c->traced && c->tells ? c : nullptr;
	if (!c || !c->traced)
		return;

	row &r = rows[c->traced - 1];

	if (!--r.open)
		r.end = traced->work;
}

void trace_mma(const warp &w, const void *pc)
{
	if (w.block != traced)
		return;

	size_t &run = runs[(size_t)w.number];
	const std::string what = "mma in " + function_of(pc);

	if (!run || rows[run - 1].what != what) {
		run = rows.size() + 1;
		row_of(text("mma %zu", run), "mma", what, w.number, pc).lanes = ~0u;
	}
	rows[run - 1].end = traced->work;
	rows[run - 1].count++;
}

void trace_product(const warp &w, const void *pc)
{
	if (w.block != traced)
		return;

	const size_t before = rows.size();
	row &r = row_of(text("wgmma %d %u", w.number, w.committed), "wgmma",
			text("wgmma %d.%u: group %u", w.number, w.committed, w.committed), w.number,
			pc);

	if (rows.size() > before)
		groups[&w][w.committed] = before;
	r.lanes = ~0u;
	r.end = NEVER;
	r.count++, r.open++;
}

void trace_computed(const warp &w, uint32_t group)
{
	if (w.block != traced)
		return;

	row &r = rows[groups[&w][group]];

	if (!--r.open)
		r.end = traced->work;
}

/* Waiting makes these land, so that it takes no steps here. */
static void put_passed(const fiber *f, const std::string &what, size_t awaited, const void *pc)
{
	const std::string by = name(rows[awaited]);
	row &r = row_of(text("passed %d ", f->warp->number) + where(pc) + what + by, "wait", what,
			f->warp->number, pc);

	r.begin = r.end = traced->work, r.by = by;
	r.lanes |= 1u << f->lane;
}

static std::string all_but(const char *what, uint32_t left)
{
	return left ? text("%s, all groups but %u", what, left) : text("%s, all groups", what);
}

void trace_passed(const fiber *f, const std::vector<copy *> &copies, uint32_t committed, int left,
		  const char *what, const void *pc)
{
	const copy *last = nullptr;

	for (const copy *c : copies)
		if (c->traced && (int)(committed - c->group) > left &&
		    (!last || c->group >= last->group))
			last = c;
	if (f->block == traced && last)
		put_passed(f, all_but(what, (uint32_t)left), last->traced - 1, pc);
}

void trace_passed(const warp &w, uint32_t left, const void *pc)
{
	if (w.block != traced || groups[&w].empty() || w.committed <= left)
		return;

	auto after = groups[&w].upper_bound(w.committed - left - 1);

	if (after == groups[&w].begin())
		return;
	for (const fiber *f : w.lanes)
		put_passed(f, all_but("wgmma", left), std::prev(after)->second, pc);
}
} // namespace emulator
