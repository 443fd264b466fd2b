/* source.c - where cases come from: capture files, the generator's sequence, a shape.
 */
#include "cli/source.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "capture/capture.h"
#include "case/generate.h"
#include "cli/cli.h"
#include "cli/shape.h"
#include "lib/error.h"

mla_status cli_source_file(struct cli_source *source, const char *file)
{
	mla_status status;

	*source = (struct cli_source){.file = file};
	status = capture_open(file, &source->capture);
	if (!status)
		source->count =
			capture_num_steps(source->capture) * capture_num_layers(source->capture);
	return status;
}

void cli_source_random(struct cli_source *source, uint64_t seed, int first, int count)
{
	*source = (struct cli_source){.seed = seed, .first = first, .count = count};
}

void cli_source_shape(struct cli_source *source, const struct cli_shape *shape)
{
	*source = (struct cli_source){.shape = shape, .count = 1};
}

void cli_source_close(struct cli_source *source)
{
	capture_close(source->capture);
	*source = (struct cli_source){0};
}

void cli_source_id(const struct cli_source *source, int index, char *id, size_t size)
{
	if (source->capture) {
		const int layers = capture_num_layers(source->capture);

		snprintf(id, size, "%03d/%03d",
			 capture_step_number(source->capture, index / layers),
			 capture_layer_number(source->capture, index % layers));
	} else if (source->shape) {
		snprintf(id, size, "shape");
	} else {
		snprintf(id, size, "random:%" PRIu64 ".%d", source->seed, source->first + index);
	}
}

char *cli_source_name(const struct cli_source *source, int index)
{
	const char *slash = source->file ? strrchr(source->file, '/') : NULL;
	char id[CLI_ID_SIZE];

	cli_source_id(source, index, id, sizeof(id));
	return source->file ? text_format("%s:%s", slash ? slash + 1 : source->file, id)
			    : text_format("generated %s", id);
}

/* "1/5" as step and layer; nothing may follow. */
static bool two_numbers(const char *text, int *step, int *layer)
{
	int end = 0;

	return sscanf(text, "%9d/%9d%n", step, layer, &end) == 2 && !text[end];
}

bool cli_id_matches(const char *id, const char *pattern)
{
	int step, layer, wanted_step, wanted_layer;

	if (!pattern || !fnmatch(pattern, id, 0))
		return true;
	return two_numbers(id, &step, &layer) &&
	       two_numbers(pattern, &wanted_step, &wanted_layer) && step == wanted_step &&
	       layer == wanted_layer;
}

bool cli_random_id(const char *pattern, struct cli_source *source)
{
	uint64_t seed;
	int number, end = 0;

	if (!pattern || sscanf(pattern, "random:%" SCNu64 ".%9d%n", &seed, &number, &end) != 2 ||
	    pattern[end] || number < 0)
		return false;
	cli_source_random(source, seed, number, 1);
	return true;
}

static mla_status load_captured(const struct cli_source *source, int index, bool tensors,
				struct mla_case *c)
{
	const int layers = capture_num_layers(source->capture);

	return (tensors ? capture_load : capture_load_batch)(source->capture, index / layers,
							     index % layers, c);
}

mla_status cli_source_load(const struct cli_source *source, int index, struct mla_case *c)
{
	*c = (struct mla_case){0};
	if (source->capture)
		return load_captured(source, index, true, c);
	return source->shape ? generate_case(&source->shape->spec, c)
			     : generate_adversarial(source->seed, source->first + index, c);
}

int cli_source_fail(const struct cli_source *source, mla_status status)
{
	return source->file ? cli_fail_file("mla") : cli_fail("mla", status);
}

int cli_source_lacks(const struct cli_source *source, const char *pattern)
{
	return cli_fail("mla",
			mla_fail(MLA_INVALID, "no case \"%s\" in %s", pattern ? pattern : "*",
				 source->file ? source->file : "the generated cases"));
}

/* The first case of this id; -1: none. */
static int find_first(const struct cli_source *source, const char *pattern, char *id, size_t size)
{
	for (int i = 0; i < source->count; i++) {
		cli_source_id(source, i, id, size);
		if (cli_id_matches(id, pattern))
			return i;
	}
	return -1;
}

int cli_source_first(const struct cli_source *source, const char *pattern, struct mla_case *c,
		     char *id, size_t size)
{
	const int index = find_first(source, pattern, id, size);
	mla_status status;

	if (index < 0)
		return cli_source_lacks(source, pattern);
	status = cli_source_load(source, index, c);
	return status ? cli_source_fail(source, status) : CLI_OK;
}

int cli_source_first_batch(const struct cli_source *source, const char *pattern, struct mla_case *c)
{
	char id[CLI_ID_SIZE];
	const int index = find_first(source, pattern, id, sizeof(id));

	if (index < 0)
		return cli_source_lacks(source, pattern);
	return load_captured(source, index, false, c) ? cli_fail_file("mla") : CLI_OK;
}
