/* test_device.c - the GPU as the program sees it: figures of GPUs that are not here, outputs
 * between guards, and rigs. What needs a GPU is skipped without one; where none is, each says so.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/poison.h"
#include "device/guarded.h"
#include "device/known.h"
#include "device/rig.h"
#include "plan_fixture.h"

/* ---- figures --------------------------------------------------------------------------------- */

Test(known, figures_are_those_of_the_tables)
{
	static const struct {
		const char *name;
		int32_t arch, sm_count, smem_per_block;
	} expected[] = {
		{"h200", 90, 132, 232448},
		{"H100", 90, 132, 232448},
		{"A100", 80, 108, 166912},
		{"l40s", 89, 142, 101376},
	};

	for (size_t i = 0; i < COUNT(expected); i++) {
		const mla_device *device = known_device(expected[i].name);

		cr_assert(device, "%s", expected[i].name);
		cr_expect_eq(device->arch, expected[i].arch, "%s", expected[i].name);
		cr_expect_eq(device->sm_count, expected[i].sm_count, "%s", expected[i].name);
		cr_expect_eq(device->smem_per_block, expected[i].smem_per_block, "%s",
			     expected[i].name);
	}
	cr_expect_null(known_device("h2000"));
	cr_expect_null(known_device(""));
}

Test(known, each_name_is_one_gpu_that_plans_are_made_for)
{
	const mla_traits traits = fixture_traits(64, 64);
	const mla_config config = fixture_config(16, 1);
	struct ragged batch = ragged_uniform(3, 1, 1000, 64);
	const mla_capacity capacity = fixture_capacity(&config, &batch.view);

	for (int i = 0; i < known_num_gpus; i++) {
		const struct known_gpu *known = &known_gpus[i];
		mla_plan *plan;

		cr_expect_eq(known_device(known->name), &known->device, "%s", known->name);
		cr_expect(!mla_plan_create_for_traits(&traits, &config, &known->device, &capacity,
						      &plan),
			  "%s: %s", known->name, mla_last_error());
		mla_plan_destroy(plan);
	}
	ragged_free(&batch);
}

Test(known, a_number_of_multiprocessors_changes_nothing_else)
{
	mla_device device = known_with_sms(8);

	cr_expect_eq(device.sm_count, 8);
	device.sm_count = known_gpus[0].device.sm_count;
	cr_expect(!memcmp(&device, &known_gpus[0].device, sizeof(device)));
}

/* ---- without a GPU --------------------------------------------------------------------------- */

static void forget_error(void)
{
	mla_plan_build(NULL, NULL);
}

Test(none, each_door_says_so_and_leaves_nothing)
{
	const mla_config config = fixture_config(16, 1);
	struct ragged batch = ragged_uniform(3, 1, 1000, 64);
	struct guarded guarded;
	struct rig rig;

	if (!gpu_missing())
		cr_skip_test("there is a GPU");
	forget_error();
	cr_expect(guarded_make(&guarded, 100));
	cr_expect(strstr(mla_last_error(), "CUDA"), "%s", mla_last_error());
	cr_expect(!guarded.block && !guarded.data && !guarded.bytes);
	guarded_free(&guarded);
	forget_error();
	cr_expect_eq(rig_open(&rig, "01_naive", &config, &batch.view, NULL), MLA_NO_CUDA);
	cr_expect(strstr(mla_last_error(), "CUDA"), "%s", mla_last_error());
	cr_expect(!rig.plan && !rig_stream(&rig));
	rig_close(&rig);
	ragged_free(&batch);
}

/* ---- guards ---------------------------------------------------------------------------------- */

static void need_gpu(void)
{
	if (gpu_missing())
		cr_skip_test("no GPU");
}

static bool is_intact(const struct guarded *guarded)
{
	bool intact = false;

	cr_assert(!guarded_look(guarded, &intact), "%s", mla_last_error());
	return intact;
}

/* cppcheck-suppress unknownMacro */
TestSuite(guarded, .init = need_gpu);

Test(guarded, holds_nan_between_its_guards)
{
	enum { BYTES = 1000 };
	unsigned char found[BYTES];
	struct guarded guarded;

	cr_assert(!guarded_make(&guarded, BYTES), "%s", mla_last_error());
	cr_assert(!guarded_poison(&guarded) && !gpu_sync(NULL), "%s", mla_last_error());
	cr_assert(!gpu_download(found, guarded.data, BYTES));
	for (int i = 0; i < BYTES; i++)
		cr_assert_eq(found[i], POISON_BYTE, "byte %d", i);
	cr_expect(is_intact(&guarded));
	guarded_free(&guarded);
	cr_expect_null(guarded.block);
}

Test(guarded, shows_what_was_written_beside_it)
{
	enum { BYTES = 1000 };
	static const struct {
		ptrdiff_t at;
		bool beside;
	} writes[] = {{-GUARD_BYTES, true}, {-1, true},    {0, false},
		      {BYTES - 1, false},   {BYTES, true}, {BYTES + GUARD_BYTES - 1, true}};
	struct guarded guarded;

	cr_assert(!guarded_make(&guarded, BYTES), "%s", mla_last_error());
	for (size_t i = 0; i < COUNT(writes); i++) {
		const char byte = 1;

		cr_assert(!guarded_poison(&guarded) && !gpu_sync(NULL), "%s", mla_last_error());
		cr_assert(!gpu_upload(guarded.data + writes[i].at, &byte, 1));
		cr_expect_eq(is_intact(&guarded), !writes[i].beside, "at %td", writes[i].at);
	}
	guarded_free(&guarded);
}

/* ---- rigs ------------------------------------------------------------------------------------ */

TestSuite(rig, .init = need_gpu);

static void expect_nan(const void *device, int64_t bytes)
{
	unsigned char *found = malloc((size_t)bytes);
	int64_t other = 0;

	cr_assert(found && !gpu_download(found, device, (size_t)bytes), "%s", mla_last_error());
	for (int64_t i = 0; i < bytes; i++)
		other += found[i] != POISON_BYTE;
	cr_expect_eq(other, 0, "%lld of %lld bytes", (long long)other, (long long)bytes);
	free(found);
}

/* 02_splitk on a few long requests needs scratch wherever there are several multiprocessors. */
Test(rig, has_scratch_of_its_own_that_holds_nan)
{
	const mla_config config = fixture_config(16, 1);
	struct ragged batch = ragged_uniform(2, 1, 9000, 64);
	const mla_tensors none = {.struct_size = sizeof(none)};
	mla_tensors tensors;
	struct rig rig;

	cr_assert(!rig_open(&rig, "02_splitk", &config, &batch.view, NULL), "%s", mla_last_error());
	tensors = rig_tensors(&rig, &none);
	cr_assert(tensors.scratch && tensors.scratch_bytes > 0);
	cr_expect_not_null(rig_stream(&rig));
	expect_nan(tensors.scratch, tensors.scratch_bytes);
	rig_close(&rig);
	cr_expect_null(rig.plan);
	ragged_free(&batch);
}

Test(rig, takes_turns_on_the_scratch_of_the_one_that_needs_most)
{
	const mla_config narrow = fixture_config(4, 1), wide = fixture_config(16, 1);
	struct ragged batch = ragged_uniform(2, 1, 9000, 64);
	const mla_tensors none = {.struct_size = sizeof(none)};
	struct rig_shared shared = {0};
	struct rig a, b;
	mla_tensors of_a, of_b;

	cr_assert(!gpu_stream_create(&shared.stream));
	cr_assert(!rig_open(&a, "02_splitk", &wide, &batch.view, &shared), "%s", mla_last_error());
	cr_assert(!rig_open(&b, "02_splitk", &narrow, &batch.view, &shared), "%s",
		  mla_last_error());
	cr_assert(!rig_share(&shared), "%s", mla_last_error());
	of_a = rig_tensors(&a, &none);
	of_b = rig_tensors(&b, &none);
	cr_expect(of_a.scratch && of_a.scratch == of_b.scratch);
	cr_assert(of_a.scratch_bytes > of_b.scratch_bytes && of_b.scratch_bytes > 0);
	cr_expect_eq(shared.scratch_bytes, of_a.scratch_bytes);
	cr_expect_eq(rig_stream(&a), shared.stream);
	cr_assert(!gpu_fill(shared.scratch, 0, (size_t)shared.scratch_bytes) && !rig_poison(&b));
	expect_nan(shared.scratch, of_b.scratch_bytes);
	rig_close(&a);
	rig_close(&b);
	rig_unshare(&shared);
	gpu_stream_destroy(shared.stream);
	ragged_free(&batch);
}

Test(rig, says_why_it_does_not_open)
{
	mla_config config = fixture_config(16, 1);
	struct ragged batch = ragged_uniform(2, 1, 100, 64);
	struct rig rig;

	cr_expect_eq(rig_open(&rig, "99_none", &config, &batch.view, NULL), MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "99_none"), "%s", mla_last_error());
	config.ckv_dtype = MLA_E4M3;
	cr_expect(rig_open(&rig, "01_naive", &config, &batch.view, NULL));
	cr_expect(strlen(mla_last_error()) > 0 && !rig.plan);
	ragged_free(&batch);
}
