/* case.cuh - one case of a test kernel: its device memory, its first error, its verdict. A call
 * behind an error does nothing, so that a case is written down as if nothing could fail.
 */
#pragma once

#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test_case {
	char name[96]; /* the test and what is special about the case */
	cudaError_t error;
	const char *failed; /* the call that returned it */
	char wrong[160];    /* what the first wrong result was */
	void *memory[24];
	int blocks;
};

static inline __attribute__((format(printf, 1, 2))) test_case case_begin(const char *format, ...)
{
	test_case c = {};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(c.name, sizeof(c.name), format, arguments);
	va_end(arguments);
	return c;
}

/* Keeps the first error; says whether there was none so far. */
static inline bool case_did(test_case &c, cudaError_t error, const char *call)
{
	if (!c.error && error) {
		c.error = error;
		c.failed = call;
	}
	return !c.error;
}

/* Device memory of n elements that nobody wrote. */
template <typename T> static inline T *case_memory(test_case &c, size_t n)
{
	void *data = NULL;

	if (c.error)
		return NULL;
	if (c.blocks == (int)(sizeof(c.memory) / sizeof(*c.memory))) {
		case_did(c, cudaErrorMemoryAllocation, "more memory than a case keeps");
		return NULL;
	}
	if (!case_did(c, cudaMalloc(&data, n * sizeof(T)), "cudaMalloc"))
		return NULL;
	c.memory[c.blocks++] = data;
#ifndef MLA_EMULATED /* which knows what nobody wrote; here it is NaN */
	case_did(c, cudaMemset(data, 0xff, n * sizeof(T)), "cudaMemset");
#endif
	return (T *)data;
}

template <typename T> static inline T *case_upload(test_case &c, const T *host, size_t n)
{
	T *data = case_memory<T>(c, n);

	if (!c.error)
		case_did(c, cudaMemcpy(data, host, n * sizeof(T), cudaMemcpyHostToDevice),
			 "copy to the device");
	return data;
}

template <typename T> static inline T *case_zeros(test_case &c, size_t n)
{
	T *data = case_memory<T>(c, n);

	if (!c.error)
		case_did(c, cudaMemset(data, 0, n * sizeof(T)), "cudaMemset");
	return data;
}

/* Waits for all kernels before. */
template <typename T>
static inline void case_download(test_case &c, T *host, const T *device, size_t n)
{
	if (!c.error && case_did(c, cudaDeviceSynchronize(), "kernel"))
		case_did(c, cudaMemcpy(host, device, n * sizeof(T), cudaMemcpyDeviceToHost),
			 "copy from the device");
}

/* Only the first wrong result is kept. */
static inline __attribute__((format(printf, 2, 3))) void case_wrong(test_case &c,
								    const char *format, ...)
{
	va_list arguments;

	if (c.wrong[0])
		return;
	va_start(arguments, format);
	vsnprintf(c.wrong, sizeof(c.wrong), format, arguments);
	va_end(arguments);
}

static inline void case_free(test_case &c)
{
	while (c.blocks)
		cudaFree(c.memory[--c.blocks]);
	if (c.error)
		(void)cudaGetLastError(); /* or the next launch would be blamed for it */
}

/* Prints the verdict: 0 if the case passed, else 1. */
static inline int case_end(test_case &c)
{
	case_free(c);
	if (c.error)
		printf("FAIL %s: %s: %s\n", c.name, c.failed, cudaGetErrorString(c.error));
	else if (c.wrong[0])
		printf("FAIL %s: %s\n", c.name, c.wrong);
	else
		printf("PASS %s\n", c.name);
	return c.error || c.wrong[0];
}
