/* test_structs.c - callers built against release 0.1.0: their struct sizes are taken, what they do
 * not know is read as 0, and nothing is written behind what they own.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "plan_fixture.h"

/* What sizeof said in 0.1.0, on every 64-bit machine. Never changed. */
enum {
	CONFIG_0_1 = 56,
	BATCH_0_1 = 40,
	DEVICE_0_1 = 16,
	CAPACITY_0_1 = 40,
	TRAITS_0_1 = 36,
	KERNEL_INFO_0_1 = 40,
	PLAN_INFO_0_1 = 128,
	TENSORS_0_1 = 552,
	MERGE_ARGS_0_1 = 264,
};

/* A caller's struct of so many bytes with what the page behind it may hold. */
struct owned {
	_Alignas(16) unsigned char bytes[1024];
};

static struct owned own(const void *whole, uint32_t size)
{
	struct owned owned = {{0}};

	memset(owned.bytes, 0xa5, sizeof(owned.bytes));
	memcpy(owned.bytes, whole, size);
	memcpy(owned.bytes, &size, sizeof(size));
	return owned;
}

static bool untouched_behind(const struct owned *owned, uint32_t size)
{
	for (size_t i = size; i < sizeof(owned->bytes); i++)
		if (owned->bytes[i] != 0xa5)
			return false;
	return true;
}

static mla_config small_config(void)
{
	return (mla_config){
		.struct_size = sizeof(mla_config),
		.num_heads = 2,
		.head_dim_ckv = 4,
		.head_dim_kpe = 2,
		.page_size = 4,
		.sm_scale = 0.5,
		.q_dtype = MLA_F32,
		.ckv_dtype = MLA_F32,
		.kpe_dtype = MLA_F32,
		.out_dtype = MLA_F32,
	};
}

static const int32_t qo_indptr[] = {0, 1}, kv_indptr[] = {0, 2}, kv_len[] = {5};

static mla_batch small_batch(void)
{
	return (mla_batch){
		.struct_size = sizeof(mla_batch),
		.batch_size = 1,
		.qo_indptr = qo_indptr,
		.kv_indptr = kv_indptr,
		.kv_len = kv_len,
	};
}

Test(structs, a_plan_from_sizes_of_0_1_0)
{
	const mla_config whole_config = small_config();
	const mla_batch whole_batch = small_batch();
	const mla_traits whole_traits = fixture_traits(16, 8);
	const mla_device whole_device = {.arch = 90, .sm_count = 4, .smem_per_block = 1000};
	const struct owned config = own(&whole_config, CONFIG_0_1);
	const struct owned batch = own(&whole_batch, BATCH_0_1);
	const struct owned traits = own(&whole_traits, TRAITS_0_1);
	const struct owned device = own(&whole_device, DEVICE_0_1);
	struct owned capacity = own(&(mla_capacity){0}, CAPACITY_0_1);
	struct owned info = own(&(mla_plan_info){0}, PLAN_INFO_0_1);
	const mla_config *c = (const mla_config *)config.bytes;
	const mla_batch *b = (const mla_batch *)batch.bytes;
	mla_plan_info *i = (mla_plan_info *)info.bytes;
	mla_plan *plan;

	cr_assert_eq(mla_capacity_of(c, b, (mla_capacity *)capacity.bytes), MLA_OK, "%s",
		     mla_last_error());
	cr_expect(untouched_behind(&capacity, CAPACITY_0_1));
	cr_assert_eq(mla_plan_create_for_traits((const mla_traits *)traits.bytes, c,
						(const mla_device *)device.bytes,
						(const mla_capacity *)capacity.bytes, &plan),
		     MLA_OK, "%s", mla_last_error());
	cr_assert_eq(mla_plan_build(plan, b), MLA_OK, "%s", mla_last_error());
	cr_assert_eq(mla_plan_get_info(plan, i), MLA_OK, "%s", mla_last_error());
	cr_expect_eq(i->struct_size, PLAN_INFO_0_1);
	cr_expect_eq(i->total_q, 1);
	cr_expect_eq(i->traits.tile_rows, 16);
	cr_expect_eq(i->traits.threads, 0, "what the caller does not know is read as 0");
	cr_expect(untouched_behind(&info, PLAN_INFO_0_1));
	mla_plan_destroy(plan);
}

/* The traits inside an info are as long as today's, a caller of 0.1.0 copies what it knows of them.
 */
Test(structs, traits_of_an_info_are_taken_back)
{
	const mla_config config = small_config();
	const mla_batch batch = small_batch();
	const mla_traits traits = fixture_traits(16, 8);
	const mla_device device = {
		.struct_size = sizeof(device), .arch = 90, .sm_count = 4, .smem_per_block = 1000};
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan_info info = {.struct_size = sizeof(info)};
	struct owned copy;
	mla_plan *plan, *again;

	cr_assert_eq(mla_capacity_of(&config, &batch, &capacity), MLA_OK, "%s", mla_last_error());
	cr_assert_eq(mla_plan_create_for_traits(&traits, &config, &device, &capacity, &plan),
		     MLA_OK, "%s", mla_last_error());
	cr_assert_eq(mla_plan_get_info(plan, &info), MLA_OK, "%s", mla_last_error());
	memset(copy.bytes, 0xa5, sizeof(copy.bytes));
	memcpy(copy.bytes, &info.traits, TRAITS_0_1);
	cr_expect_eq(mla_plan_create_for_traits((const mla_traits *)copy.bytes, &config, &device,
						&capacity, &again),
		     MLA_OK, "%s", mla_last_error());
	mla_plan_destroy(again);
	mla_plan_destroy(plan);
}

Test(structs, the_reference_from_sizes_of_0_1_0)
{
	float q[2 * 4] = {1}, q_pe[2 * 2] = {0}, ckv[8 * 4], kpe[8 * 2] = {0}, out[2 * 4];
	const int32_t pages[] = {0, 1};
	const mla_config whole_config = small_config();
	const mla_batch whole_batch = small_batch();
	const mla_tensors whole = {
		.q_nope = {q, MLA_F32, 3, {1, 2, 4}, {32, 16, 4}},
		.q_pe = {q_pe, MLA_F32, 3, {1, 2, 2}, {16, 8, 4}},
		.ckv = {ckv, MLA_F32, 3, {2, 4, 4}, {64, 16, 4}},
		.kpe = {kpe, MLA_F32, 3, {2, 4, 2}, {32, 8, 4}},
		.out = {out, MLA_F32, 3, {1, 2, 4}, {32, 16, 4}},
		.kv_indices = pages,
		.num_kv_indices = 2,
	};
	const struct owned config = own(&whole_config, CONFIG_0_1);
	const struct owned batch = own(&whole_batch, BATCH_0_1);
	const struct owned tensors = own(&whole, TENSORS_0_1);

	for (int i = 0; i < 8 * 4; i++)
		ckv[i] = 3;
	cr_assert_eq(mla_reference((const mla_config *)config.bytes, (const mla_batch *)batch.bytes,
				   (const mla_tensors *)tensors.bytes),
		     MLA_OK, "%s", mla_last_error());
	cr_expect_eq(out[0], 3);
}

Test(structs, a_merge_from_the_size_of_0_1_0)
{
	float states[2 * 1 * 2] = {1, 2, 3, 4}, lses[2] = {0, 0}, out[2];
	const mla_merge_args whole = {
		.states = {states, MLA_F32, 3, {2, 1, 2}, {8, 8, 4}},
		.states_lse = {lses, MLA_F32, 2, {2, 1}, {4, 4}},
		.out = {out, MLA_F32, 2, {1, 2}, {8, 4}},
	};
	const struct owned args = own(&whole, MERGE_ARGS_0_1);

	cr_assert_eq(mla_merge_host((const mla_merge_args *)args.bytes), MLA_OK, "%s",
		     mla_last_error());
	cr_expect(out[0] == 2 && out[1] == 3);
}

Test(structs, outputs_are_filled_as_far_as_their_owner_knows)
{
	struct owned info = own(&(mla_kernel_info){0}, KERNEL_INFO_0_1);
	mla_kernel_info today = {.struct_size = sizeof(today)};

	cr_assert_eq(mla_kernel_get(0, (mla_kernel_info *)info.bytes), MLA_OK, "%s",
		     mla_last_error());
	cr_expect_str_eq(((mla_kernel_info *)info.bytes)->name, "01_naive");
	cr_expect_eq(((mla_kernel_info *)info.bytes)->struct_size, KERNEL_INFO_0_1);
	cr_expect(untouched_behind(&info, KERNEL_INFO_0_1));
	cr_assert_eq(mla_kernel_get(0, &today), MLA_OK);
	cr_expect_not_null(today.ideas);
	cr_expect_eq(today.struct_size, sizeof(today));
}

Test(structs, traits_are_filled_as_far_as_their_owner_knows)
{
	const mla_config config = {
		.struct_size = sizeof(config),
		.num_heads = 16,
		.head_dim_ckv = 512,
		.head_dim_kpe = 64,
		.page_size = 64,
		.sm_scale = 0.1,
	};
	const mla_device device = {
		.struct_size = sizeof(device), .arch = 90, .sm_count = 4, .smem_per_block = 232448};
	struct owned traits = own(&(mla_traits){0}, TRAITS_0_1);
	mla_traits today = {.struct_size = sizeof(today)};
	mla_kernel_info info = {.struct_size = sizeof(info)};

	if (mla_kernel_get(0, &info) || !info.built)
		cr_skip_test("built without nvcc: no kernel has traits");
	cr_assert_eq(mla_kernel_traits("01", &config, &device, (mla_traits *)traits.bytes), MLA_OK,
		     "%s", mla_last_error());
	cr_expect_eq(((mla_traits *)traits.bytes)->ctas_per_worker, 1);
	cr_expect(untouched_behind(&traits, TRAITS_0_1));
	cr_assert_eq(mla_kernel_traits("08", &config, &device, &today), MLA_OK);
	cr_expect_eq(today.threads, 256);
	cr_expect_eq(today.tile_rows, 64);
}

/* No release had these: one byte less, one more, nothing. */
Test(structs, other_sizes_are_refused_in_words)
{
	const mla_batch batch = small_batch();
	const uint32_t bad[] = {0, CONFIG_0_1 - 4, CONFIG_0_1 + 4, 4096};
	mla_config config = small_config();
	mla_capacity capacity;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.struct_size = bad[i];
		cr_expect_eq(mla_capacity_of(&config, &batch, &capacity), MLA_INVALID);
		cr_expect(strstr(mla_last_error(), "mla_config.struct_size is"), "%s",
			  mla_last_error());
	}
}
