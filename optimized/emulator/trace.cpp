/* trace.cpp - what the threads of one block waited for, and what let them go on, as lines of text:
 * step, warp, lanes, event, place in the source. EMULATE_TRACE names the file, EMULATE_TRACE_BLOCK
 * the block (0) of each launch.
 */
#include "emulator/machine.h"

namespace emulator
{
bool tracing;
static FILE *file;
static unsigned traced;

void start_trace()
{
	const char *path = getenv("EMULATE_TRACE"), *number = getenv("EMULATE_TRACE_BLOCK");

	if (!path)
		return;
	file = fopen(path, "we");
	if (!file) {
		fprintf(stderr, "emulator: EMULATE_TRACE=%s: %m\n", path);
		exit(70);
	}
	traced = number ? (unsigned)atoi(number) : 0;
	tracing = true;
	fprintf(file, "step\twarp\tlane\tevent\twhere\n");
}

void trace(const fiber *f, const char *event, const char *what, uint32_t a, uint32_t b,
	   const void *pc)
{
	char words[256];

	if (f && f->block->index.x != traced)
		return;
	snprintf(words, sizeof(words), event, what, a, b);
	fprintf(file, "%llu\t%d\t%d\t%s\t%s\n", (unsigned long long)steps, f ? f->warp->number : -1,
		f ? f->lane : -1, words, where(pc).c_str());
}
} // namespace emulator
