/* nvml.h - clocks and power of the GPU, from the driver's own library, which is loaded when it is
 * there: nothing needs it to build or to run.
 */
#ifndef MLA_DEVICE_NVML_H
#define MLA_DEVICE_NVML_H

#include <stdbool.h>

struct nvml_reading {
	double sm_mhz, max_sm_mhz, power_w, celsius; /* 0: not told */
};

struct nvml;
/* The device with this PCI bus id, through this library (NULL: libnvidia-ml.so.1). NULL if there is
 * no such library or device. */
struct nvml *nvml_open(const char *library, const char *bus_id);
void nvml_close(struct nvml *nvml); /* NULL is fine */
/* NULL gives false and zeroes. */
bool nvml_read(const struct nvml *nvml, struct nvml_reading *reading);
/* "580.65.06"; "" if unknown. */
const char *nvml_driver(const struct nvml *nvml);

#endif
