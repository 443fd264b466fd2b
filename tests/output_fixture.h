/* output_fixture.h - files written by their path, as the verbs do it: opened, written, closed. */
#ifndef MLA_TESTS_OUTPUT_FIXTURE_H
#define MLA_TESTS_OUTPUT_FIXTURE_H

#include "bench/ceilings.h"
#include "capture/capture.h"

static const struct output_plan fixture_replaces = {.kind = OUTPUT_CAPTURE, .force = true};

static inline mla_status put_capture(const char *path, const struct mla_case *c,
				     const struct capture_writing *how)
{
	struct output output;
	mla_status status = output_open(&output, path, &fixture_replaces);

	if (!status)
		status = capture_write(&output, c, how);
	output_abandon(&output);
	return status;
}

static inline mla_status put_part(const char *path, const char *out,
				  const struct capture_part *part)
{
	struct output output;
	mla_status status = output_open(&output, out, &fixture_replaces);

	if (!status)
		status = capture_cut(path, &output, part);
	output_abandon(&output);
	return status;
}

static inline mla_status put_ceilings(const char *path, const struct ceilings *ceilings)
{
	struct output output;
	const mla_status status = ceilings_open(path, &output);

	return status ? status : ceilings_save(&output, ceilings);
}

#endif
