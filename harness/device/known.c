/* known.c - the table of GPUs: multiprocessors from NVIDIA's data sheets, shared memory per block
 * from the table of compute capabilities in the CUDA programming guide.
 */
#include "device/known.h"

#include <strings.h>

enum {
	SMEM_80 = 163 * 1024,
	SMEM_89 = 99 * 1024,
	SMEM_90 = 227 * 1024,
};

#define DEVICE(capability, sms, smem)                                                              \
	{                                                                                          \
		.struct_size = sizeof(mla_device), .arch = (capability), .sm_count = (sms),        \
		.smem_per_block = (smem)                                                           \
	}

const struct known_gpu known_gpus[] = {
	{"h200", DEVICE(90, 132, SMEM_90)},
	/* as a module (SXM), and as a card */
	{"h100", DEVICE(90, 132, SMEM_90)},
	{"h100-pcie", DEVICE(90, 114, SMEM_90)},
	{"a100", DEVICE(80, 108, SMEM_80)},
	{"l40s", DEVICE(89, 142, SMEM_89)},
};
const int known_num_gpus = sizeof(known_gpus) / sizeof(known_gpus[0]);

const mla_device *known_device(const char *name)
{
	for (int i = 0; i < known_num_gpus; i++)
		if (!strcasecmp(known_gpus[i].name, name))
			return &known_gpus[i].device;
	return NULL;
}

mla_device known_with_sms(int32_t sm_count)
{
	mla_device device = known_gpus[0].device;

	device.sm_count = sm_count;
	return device;
}
