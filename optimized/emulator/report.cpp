/* report.cpp - what the emulator says: a sentence per fault, each fault once, with the lines of
 * both sides; who waits for what when nothing can go on. A comment that begins with "waived:" on
 * the line of either side, or on the line above it, makes a report a note.
 */
#include <cxxabi.h>
#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "emulator/machine.h"

namespace emulator
{
static uint32_t reports;

uint32_t reports_so_far()
{
	return reports;
}

/* ---- places ---------------------------------------------------------------------------------- */

struct source_line {
	std::string path; /* "" if it is not known */
	long line;
	std::string function; /* mangled */
};

static bool is_ours(const std::string &path)
{
	return path.find("/optimized/emulator/") != std::string::npos ||
	       path.find("optimized/emulator/") == 0 ||
	       path.find("/parts/shared.cuh") != std::string::npos;
}

/* The innermost line that is not the emulator's. */
static const source_line &line_of(const void *pc)
{
	static std::map<const void *, source_line> known;
	auto found = known.find(pc);

	if (found != known.end())
		return found->second;

	source_line &best = known[pc];
	char command[128], text[2048];
	std::string function;

	best.line = 0;
	if (!pc)
		return best;
	snprintf(command, sizeof(command), "addr2line -i -f -e /proc/%d/exe %#lx 2>/dev/null",
		 getpid(), (unsigned long)pc - 1);

	FILE *pipe = popen(command, "r");

	for (int i = 0; pipe && fgets(text, sizeof(text), pipe); i++) {
		std::string found = text;

		found = found.substr(0, found.find_first_of("\n"));
		if (i % 2 == 0) {
			function = found;
			continue;
		}
		found = found.substr(0, found.find(" (disc"));

		const size_t colon = found.rfind(':');
		source_line here = {found.substr(0, colon), 0, function};

		here.line = colon == std::string::npos ? 0 : atol(found.c_str() + colon + 1);
		if (here.path[0] == '?' || here.line == 0)
			continue;
		if (best.line == 0 || !is_ours(here.path))
			best = here;
		if (!is_ours(here.path))
			break;
	}
	if (pipe)
		pclose(pipe);

	static bool told;

	if (!best.line && best.function.empty() && !told) {
		told = true;
		fprintf(stderr, "emulator: lines are not known (\"?\"): addr2line of binutils says "
				"nothing about this program; is it there, and has the program "
				"symbols?\n");
	}
	return best;
}

std::string where(const void *pc)
{
	const source_line &line = line_of(pc);

	if (!line.line)
		return "?";
	return line.path.substr(line.path.rfind('/') + 1) + ":" + std::to_string(line.line);
}

std::string function_of(const void *pc)
{
	const source_line &line = line_of(pc);
	int status = 0;
	char *words = abi::__cxa_demangle(line.function.c_str(), nullptr, nullptr, &status);
	std::string name = status ? line.function : words;

	free(words);
	name = name.substr(0, name.find_first_of("(<"));
	return name.substr(name.rfind(' ') + 1);
}

std::string name_of(const grid *g)
{
	const void *const pc = (const char *)g->how.kernel + 1;
	const std::string &path = line_of(pc).path;

	return "kernel " + function_of(pc) + " (" + path.substr(path.rfind('/') + 1) + ")";
}

std::string name_of(const fiber *f)
{
	const uint3 &b = f->block->index;
	char text[128], index[48];

	snprintf(index, sizeof(index), b.y || b.z ? "(%u, %u, %u)" : "%u", b.x, b.y, b.z);
	snprintf(text, sizeof(text), "block %s thread %d (warp %d lane %d)", index,
		 f->warp->number * 32 + f->lane, f->warp->number, f->lane);
	return text;
}

/* ---- reports --------------------------------------------------------------------------------- */

/* Why the access of that line is waived, "" if it is not. */
static std::string waiver_of(const void *pc)
{
	const source_line &here = line_of(pc);
	std::ifstream file(here.path);
	std::string text, before, why;

	for (long i = 1; here.line && std::getline(file, text) && i <= here.line; i++) {
		if (i >= here.line - 1 && text.find("waived:") != std::string::npos)
			why = text.substr(text.find("waived:") + 8);
		before = text;
	}
	return why.substr(0, why.find("*/"));
}

void report(const void *pc, const void *pc2, const char *format, ...)
{
	static std::set<std::pair<std::string, std::string>> said;
	const bool first = said.insert({format + where(pc), where(pc2)}).second;
	static std::map<std::pair<const void *, const void *>, std::string> waivers;
	auto waiver = waivers.find({pc, pc2});
	va_list arguments;
	char text[2048];

	if (waiver == waivers.end()) {
		std::string why = waiver_of(pc);

		waiver = waivers.insert({{pc, pc2}, why.empty() ? waiver_of(pc2) : why}).first;
	}
	reports += waiver->second.empty();
	if (!first)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	trace_report(text);
	if (self && !strstr(text, ".cu:") && !strstr(text, "kernel "))
		fprintf(stderr, "emulator: seed %llu: %s: %s\n", (unsigned long long)options.seed,
			name_of(self->cluster->grid).c_str(), text);
	else
		fprintf(stderr, "emulator: seed %llu: %s%s\n", (unsigned long long)options.seed,
			text, waiver->second.empty() ? "" : " [waived]");
	if (!waiver->second.empty())
		fprintf(stderr, "emulator:     waived: %s\n", waiver->second.c_str());
}

void trap()
{
	report(HERE, nullptr, "%s: %s traps", where(HERE).c_str(), name_of(self).c_str());
	fail();
}

/* ---- nothing can go on ----------------------------------------------------------------------- */

/* "0..31, 96" */
static std::string ranges(std::vector<int> threads)
{
	std::string list;

	std::sort(threads.begin(), threads.end());
	for (size_t i = 0; i < threads.size();) {
		size_t j = i;

		while (j + 1 < threads.size() && threads[j + 1] == threads[j] + 1)
			j++;
		list += (list.empty() ? "" : ", ") + std::to_string(threads[i]) +
			(j > i ? ".." + std::to_string(threads[j]) : "");
		i = j + 1;
	}
	return list;
}

static void describe_block(const block &b)
{
	std::map<std::string, std::vector<int>> groups;
	int all = 0;

	for (const warp &w : b.warps)
		for (int l = 0; l < w.count; l++, all++) {
			const fiber *f = w.lanes[l];
			char how[256];

			if (f->state == DONE)
				continue;
			snprintf(how, sizeof(how), f->waits ? f->waits : "are ready", f->what,
				 f->numbers[0], f->numbers[1]);
			groups[std::string(how) + " (" + where(f->pc) + ")"].push_back(
				w.number * 32 + l);
		}
	for (const auto &g : groups)
		fprintf(stderr, "emulator:     threads %s of block %u %s\n",
			ranges(g.second).c_str(), b.index.x, g.first.c_str());
	if (b.live < all)
		fprintf(stderr, "emulator:     %d threads of block %u have ended\n", all - b.live,
			b.index.x);
	for (const auto &m : b.mbarriers)
		if (m->pending != m->count || m->tx)
			fprintf(stderr,
				"emulator:     block %u mbarrier +%u: phase %u lacks %u of %u "
				"arrivals and %ld bytes%s\n",
				b.index.x, m->offset, m->phase, m->pending, m->count,
				labs((long)m->tx),
				m->tx < 0 ? " of expectation: more have come than were expected"
					  : "");
}

void describe_deadlock(const std::vector<cluster *> &alive)
{
	int shown = 0;

	reports++;
	trace_report("nothing can go on");
	fprintf(stderr, "emulator: seed %llu: %s: nothing can go on:\n",
		(unsigned long long)options.seed,
		alive.empty() ? "no kernel" : name_of(alive[0]->grid).c_str());
	for (const cluster *c : alive)
		for (const block &b : c->blocks)
			if (b.live && shown++ < 4)
				describe_block(b);
	if (shown > 4)
		fprintf(stderr, "emulator:     and %d more blocks\n", shown - 4);
}

/* ---- an address that nobody has -------------------------------------------------------------- */

static void on_fault(int number, siginfo_t *info, void *)
{
	void *trace[16];
	const int n = backtrace(trace, 16);
	const char *const at = (const char *)info->si_addr;
	std::string places;
	char what[96], text[512];

	for (int i = 2; i < n && i < 8; i++)
		places += " " + where(trace[i]);
	if (number == SIGFPE)
		snprintf(what, sizeof(what), "divides by zero, for which a GPU has any result");
	else if (self && at >= self->stack - 4096 && at < self->stack)
		snprintf(what, sizeof(what), "needs more than the %u bytes of its stack", STACK);
	else
		snprintf(what, sizeof(what), "touches the address %p, which is not mapped", at);
	snprintf(text, sizeof(text), "%s %s; at%s", self ? name_of(self).c_str() : "the host", what,
		 places.c_str());
	fprintf(stderr, "emulator: seed %llu: %s\n", (unsigned long long)options.seed, text);
	trace_report(text);
	end_trace();
	fflush(nullptr);
	_exit(70);
}

static void at_exit()
{
	reports += !close_trace();
	if (getenv("EMULATE_VERBOSE"))
		fprintf(stderr,
			"emulator: seed %llu: %llu launches, %llu blocks, %llu switches, %llu "
			"shared and "
			"%llu global accesses, %llu copies, %llu wgmma (a warp's part), %llu "
			"meetings\n",
			(unsigned long long)options.seed, (unsigned long long)counted.launches,
			(unsigned long long)counted.blocks, (unsigned long long)steps,
			(unsigned long long)counted.accesses,
			(unsigned long long)counted.global_accesses,
			(unsigned long long)counted.copies, (unsigned long long)counted.products,
			(unsigned long long)counted.meetings);
	if (!reports)
		return;
	fprintf(stderr, "emulator: seed %llu: %u report%s; EMULATE_SEED=%llu repeats them\n",
		(unsigned long long)options.seed, reports, reports == 1 ? "" : "s",
		(unsigned long long)options.seed);
	fflush(nullptr); /* the table, and the trace */
	_exit(70);
}

void start_reports()
{
	static char signal_stack[1 << 16];
	stack_t stack = {};
	struct sigaction action = {};

	stack.ss_sp = signal_stack, stack.ss_size = sizeof(signal_stack);
	sigaltstack(&stack, nullptr);
	action.sa_sigaction = on_fault, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaction(SIGSEGV, &action, nullptr);
	sigaction(SIGBUS, &action, nullptr);
	sigaction(SIGFPE, &action, nullptr);
	atexit(at_exit);
}
} // namespace emulator
