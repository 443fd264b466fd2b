/* nvml.h - clocks and power of the GPU, from the driver's own library, which is loaded when it is
 * there: nothing needs it to build or to run.
 */
#ifndef MLA_DEVICE_NVML_H
#define MLA_DEVICE_NVML_H

#include <stdbool.h>

#include "base/stats.h"

struct nvml_reading {
	double sm_mhz, mem_mhz, power_w; /* 0: not told */
};

struct nvml;
/* The device with this PCI bus id, through this library (NULL: libnvidia-ml.so.1). NULL if there is
 * no such library or device. */
struct nvml *nvml_open(const char *library, const char *bus_id);
void nvml_close(struct nvml *nvml); /* NULL is fine */
/* NULL gives false and zeroes. */
bool nvml_read(const struct nvml *nvml, struct nvml_reading *reading);
/* The fastest that the SMs may be clocked; 0 if unknown. */
double nvml_max_sm_mhz(const struct nvml *nvml);
/* "580.65.06"; "" if unknown. */
const char *nvml_driver(const struct nvml *nvml);

/* Readings while something runs. Zeroed: none. */
struct nvml_log {
	struct nvml_reading *readings;
	int n, room;
};
/* Reads once more; without nvml, an answer or memory there is no reading. */
void nvml_log_add(struct nvml_log *log, const struct nvml *nvml);
void nvml_log_free(struct nvml_log *log);

/* What they say: statistics over the readings, n 0 for what was not told. The driver averages power
 * over a second. */
struct nvml_load {
	struct stats sm_mhz, mem_mhz, power_w;
};
struct nvml_load nvml_log_load(const struct nvml_log *log);

#endif
