/* ladder.c - the table of kernels and how one is chosen by name, number, idea or "auto". Built with
 * -DMLA_WITHOUT_NVCC the table has the same lines, but no kernels.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "lib/internal.h"

struct ladder_rung {
	const char *name;                /* "01_naive" */
	const char *arch;                /* "sm_80" */
	const struct mla_kernel *kernel; /* NULL: built without nvcc */
};

#ifdef MLA_WITHOUT_NVCC
#define DESCRIPTOR(id) NULL
#else
#include "mla_kernel.h"
#define DESCRIPTOR(id)               &mla_kernel_##id
#define MLA_KERNEL(id, arch, spills) extern const struct mla_kernel mla_kernel_##id;
#include "ladder.def"
#undef MLA_KERNEL
#endif

#define MLA_KERNEL(id, arch, spills) {#id, #arch, DESCRIPTOR(id)},
static const struct ladder_rung ladder[] = {
#include "ladder.def"
};
#undef MLA_KERNEL

enum { RUNGS = sizeof(ladder) / sizeof(ladder[0]) };

int mla_kernel_count(void)
{
	return RUNGS;
}

#ifdef MLA_WITHOUT_NVCC

/* Without nvcc no rung has a descriptor. */
static const char *summary(const struct ladder_rung *rung)
{
	(void)rung;
	return "";
}

static const char *ideas(const struct ladder_rung *rung)
{
	(void)rung;
	return "";
}

static bool promises_fixed_split(const struct ladder_rung *rung)
{
	(void)rung;
	return false;
}

static mla_status accepts(const struct ladder_rung *rung, const mla_config *config,
			  const mla_device *device)
{
	(void)config;
	(void)device;
	return mla_fail(MLA_REFUSED, "%s is not in this library: it was built without nvcc",
			rung->name);
}

static mla_status fill_traits(const struct ladder_rung *rung, const mla_config *config,
			      const mla_device *device, mla_traits *traits)
{
	(void)traits;
	return accepts(rung, config, device);
}

#else

const char *mla_why(const char *format, ...)
{
	static _Thread_local char why[256];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return why;
}

static const char *summary(const struct ladder_rung *rung)
{
	return rung->kernel->summary;
}

static const char *ideas(const struct ladder_rung *rung)
{
	return rung->kernel->ideas;
}

static bool promises_fixed_split(const struct ladder_rung *rung)
{
	return rung->kernel->fixed_split;
}

/* "sm_80": that and newer. "sm_90a": exactly that. */
static bool arch_fits(const char *arch, int32_t device_arch)
{
	char *end;
	const long needed = strtol(arch + strlen("sm_"), &end, 10);

	return *end == 'a' ? device_arch == needed : device_arch >= needed;
}

static mla_status accepts(const struct ladder_rung *rung, const mla_config *config,
			  const mla_device *device)
{
	if (rung->kernel->abi != MLA_KERNEL_ABI)
		return mla_fail(MLA_REFUSED,
				"%s was built for kernel interface %u, this library has %u (its "
				"descriptor begins with .abi = MLA_KERNEL_ABI)",
				rung->name, rung->kernel->abi, MLA_KERNEL_ABI);
	if (!arch_fits(rung->arch, device->arch))
		return mla_fail(MLA_REFUSED, "%s needs %s, this device is sm_%d", rung->name,
				rung->arch, device->arch);
	if (config->fixed_split && !rung->kernel->fixed_split)
		return mla_fail(MLA_REFUSED, "%s cannot promise batch-invariant bits (fixed_split)",
				rung->name);

	const char *why = rung->kernel->refuses ? rung->kernel->refuses(config, device) : NULL;

	if (why)
		return mla_fail(MLA_REFUSED, "%s refuses: %s", rung->name, why);
	return MLA_OK;
}

static mla_status fill_traits(const struct ladder_rung *rung, const mla_config *config,
			      const mla_device *device, mla_traits *traits)
{
	const struct mla_kernel *kernel = rung->kernel;

	*traits = (mla_traits){
		.struct_size = sizeof(*traits),
		.tile_rows = kernel->tile_rows,
		.kv_granule = kernel->kv_granule,
		.ctas_per_worker = kernel->cluster,
		.threads = kernel->threads,
	};
	kernel->traits(config, device, traits);
	return mla_check_traits(traits);
}

#endif

mla_status mla_kernel_get(int index, mla_kernel_info *info)
{
	if (index < 0 || index >= RUNGS)
		return mla_fail(MLA_INVALID, "kernel index is %d, expected 0 to %d", index,
				RUNGS - 1);

	const mla_status status = mla_struct_check(MLA_STRUCT_KERNEL_INFO, info);

	if (status)
		return status;

	const mla_kernel_info whole = {
		.struct_size = sizeof(whole),
		.built = ladder[index].kernel ? 1 : 0,
		.name = ladder[index].name,
		.summary = summary(&ladder[index]),
		.arch = ladder[index].arch,
		.fixed_split = promises_fixed_split(&ladder[index]),
		.ideas = ideas(&ladder[index]),
	};

	mla_struct_give(MLA_STRUCT_KERNEL_INFO, &whole, info);
	return MLA_OK;
}

/* "01_naive" is meant by "01_naive", "01" and "naive". */
static bool is_called(const struct ladder_rung *rung, const char *kernel)
{
	const char *idea = strchr(rung->name, '_');
	const size_t digits = (size_t)(idea - rung->name);

	return !strcmp(kernel, rung->name) || !strcmp(kernel, idea + 1) ||
	       (strlen(kernel) == digits && !strncmp(kernel, rung->name, digits));
}

/* Would a request of so many packed rows leave more than half of the rung's tiles empty? Tiles of
 * 16 rows, the least that tensor cores take, are never too tall. */
static bool too_tall(const struct ladder_rung *rung, const mla_config *config,
		     const mla_device *device, int64_t rows)
{
	mla_traits traits = {0};

	return fill_traits(rung, config, device, &traits) ||
	       (traits.tile_rows > 16 && traits.tile_rows > 2 * rows);
}

static mla_status find_fastest(const mla_config *config, const mla_device *device, int64_t rows,
			       const struct ladder_rung **rung)
{
	const struct ladder_rung *fallback = NULL;

	for (int i = RUNGS - 1; i >= 0; i--) {
		if (accepts(&ladder[i], config, device))
			continue;
		fallback = &ladder[i];
		if (!too_tall(fallback, config, device, rows))
			break;
	}
	*rung = fallback;
	return fallback ? MLA_OK : MLA_REFUSED; /* with the reason of the most general rung */
}

/* Finds the rung that takes the config on the device. "auto": the highest rung that does and whose
 * tiles a request of so many packed rows does not leave more than half empty. */
static mla_status find(const char *kernel, const mla_config *config, const mla_device *device,
		       int64_t rows, const struct ladder_rung **rung)
{
	mla_status status = mla_check_config(config);

	if (!status)
		status = mla_check_device(device);
	if (!status && !kernel)
		status = mla_fail(MLA_INVALID, "kernel is NULL");
	if (status)
		return status;
	if (!strcmp(kernel, "auto"))
		return find_fastest(config, device, rows, rung);
	for (int i = 0; i < RUNGS; i++)
		if (is_called(&ladder[i], kernel)) {
			*rung = &ladder[i];
			return accepts(&ladder[i], config, device);
		}
	return mla_fail(MLA_INVALID, "no kernel is called \"%s\"; the ladder has %s to %s", kernel,
			ladder[0].name, ladder[RUNGS - 1].name);
}

mla_status mla_kernel_accepts(const char *kernel, const mla_config *config,
			      const mla_device *device)
{
	const struct ladder_rung *rung;

	return find(kernel, config, device, config ? config->num_heads : 0, &rung);
}

mla_status mla_kernel_traits(const char *kernel, const mla_config *config, const mla_device *device,
			     mla_traits *traits)
{
	const struct ladder_rung *rung;
	mla_traits whole;
	mla_status status = find(kernel, config, device, config ? config->num_heads : 0, &rung);

	if (!status && !traits)
		status = mla_fail(MLA_INVALID, "traits is NULL");
	if (!status)
		status = fill_traits(rung, config, device, &whole);
	if (!status)
		mla_struct_give(MLA_STRUCT_TRAITS, &whole, traits);
	return status;
}

/* Packed rows of the largest request that the plan may get; 0 if not known yet to be valid. */
static int64_t most_rows(const mla_config *config, const mla_capacity *capacity)
{
	if (!config || !capacity)
		return 0;

	const int64_t queries = capacity->max_qo_len ? capacity->max_qo_len : capacity->max_queries;

	return queries * config->num_heads;
}

mla_status mla_plan_create(const char *kernel, const mla_config *config, const mla_device *device,
			   const mla_capacity *capacity, mla_plan **plan)
{
	const struct ladder_rung *rung;
	mla_traits traits;
	mla_status status;

	if (!plan)
		return mla_fail(MLA_INVALID, "plan is NULL: nowhere to put the new plan");
	*plan = NULL;
	status = find(kernel, config, device, most_rows(config, capacity), &rung);
	if (!status)
		status = fill_traits(rung, config, device, &traits);
	if (!status)
		status = mla_plan_create_for_traits(&traits, config, device, capacity, plan);
	if (status)
		return status;
	(*plan)->kernel_name = rung->name;
	(*plan)->kernel = rung->kernel;
	return MLA_OK;
}
