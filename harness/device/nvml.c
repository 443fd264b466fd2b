/* nvml.c - nvml.h by dlopen. The few declarations that nvml.h of the driver would give are here:
 * its ABI is stable.
 */
#define _GNU_SOURCE
#include "device/nvml.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { CLOCK_SM = 1, CLOCK_MEM = 2 }; /* NVML_CLOCK_SM, NVML_CLOCK_MEM */

typedef void *device_handle;
typedef int (*plain_call)(void);
typedef int (*text_call)(char *, unsigned);
typedef int (*find_call)(const char *, device_handle *);
typedef int (*number_call)(device_handle, unsigned *);
typedef int (*choice_call)(device_handle, int, unsigned *);

struct nvml {
	void *library;
	device_handle device;
	plain_call shutdown;
	number_call power;
	choice_call clock, max_clock;
	char driver[80];
};

/* ISO C has no cast from an object pointer to a function pointer; POSIX has the representation. */
static void find(void *library, const char *name, void *function, size_t size)
{
	void *address = dlsym(library, name);

	memcpy(function, &address, size);
}

static bool find_device(struct nvml *nvml, const char *bus_id)
{
	plain_call init;
	find_call by_bus_id;
	text_call driver;

	find(nvml->library, "nvmlInit_v2", &init, sizeof(init));
	find(nvml->library, "nvmlDeviceGetHandleByPciBusId_v2", &by_bus_id, sizeof(by_bus_id));
	find(nvml->library, "nvmlSystemGetDriverVersion", &driver, sizeof(driver));
	if (!init || !by_bus_id || init())
		return false;
	find(nvml->library, "nvmlShutdown", &nvml->shutdown, sizeof(nvml->shutdown));
	find(nvml->library, "nvmlDeviceGetPowerUsage", &nvml->power, sizeof(nvml->power));
	find(nvml->library, "nvmlDeviceGetClockInfo", &nvml->clock, sizeof(nvml->clock));
	find(nvml->library, "nvmlDeviceGetMaxClockInfo", &nvml->max_clock, sizeof(nvml->max_clock));
	if (!driver || driver(nvml->driver, sizeof(nvml->driver)))
		nvml->driver[0] = '\0';
	return !by_bus_id(bus_id, &nvml->device);
}

struct nvml *nvml_open(const char *library, const char *bus_id)
{
	struct nvml *nvml = calloc(1, sizeof(*nvml));

	if (!nvml)
		return NULL;
	nvml->library = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!nvml->library || !find_device(nvml, bus_id)) {
		nvml_close(nvml);
		return NULL;
	}
	return nvml;
}

void nvml_close(struct nvml *nvml)
{
	if (!nvml)
		return;
	if (nvml->shutdown)
		nvml->shutdown();
	if (nvml->library)
		dlclose(nvml->library);
	free(nvml);
}

static double choice(const struct nvml *nvml, choice_call call, int which)
{
	unsigned value = 0;

	return call && !call(nvml->device, which, &value) ? value : 0;
}

bool nvml_read(const struct nvml *nvml, struct nvml_reading *reading)
{
	unsigned milliwatts = 0;

	*reading = (struct nvml_reading){0};
	if (!nvml)
		return false;
	reading->sm_mhz = choice(nvml, nvml->clock, CLOCK_SM);
	reading->mem_mhz = choice(nvml, nvml->clock, CLOCK_MEM);
	if (nvml->power && !nvml->power(nvml->device, &milliwatts))
		reading->power_w = milliwatts * 1e-3;
	return reading->sm_mhz > 0;
}

double nvml_max_sm_mhz(const struct nvml *nvml)
{
	return nvml ? choice(nvml, nvml->max_clock, CLOCK_SM) : 0;
}

const char *nvml_driver(const struct nvml *nvml)
{
	return nvml ? nvml->driver : "";
}

/* ---- readings over a while ------------------------------------------------------------------- */

void nvml_log_add(struct nvml_log *log, const struct nvml *nvml)
{
	struct nvml_reading reading;

	if (!nvml_read(nvml, &reading))
		return;
	if (log->n == log->room) {
		const int room = log->room ? 2 * log->room : 64;
		struct nvml_reading *more = realloc(log->readings, (size_t)room * sizeof(*more));

		if (!more)
			return;
		log->readings = more;
		log->room = room;
	}
	log->readings[log->n++] = reading;
}

void nvml_log_free(struct nvml_log *log)
{
	free(log->readings);
	*log = (struct nvml_log){0};
}

/* One of the figures of a reading, over those that told it. */
static struct stats figure(const struct nvml_log *log, size_t offset)
{
	double *values = malloc(((size_t)log->n + 1) * sizeof(*values));
	struct stats stats = {0};
	int n = 0;

	for (int i = 0; i < log->n && values; i++) {
		memcpy(&values[n], (const char *)&log->readings[i] + offset, sizeof(*values));
		n += values[n] > 0;
	}
	if (n > 0)
		stats_of(values, n, &stats);
	free(values);
	return stats;
}

struct nvml_load nvml_log_load(const struct nvml_log *log)
{
	return (struct nvml_load){
		.sm_mhz = figure(log, offsetof(struct nvml_reading, sm_mhz)),
		.mem_mhz = figure(log, offsetof(struct nvml_reading, mem_mhz)),
		.power_w = figure(log, offsetof(struct nvml_reading, power_w)),
	};
}
