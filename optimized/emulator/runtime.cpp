/* runtime.cpp - the CUDA runtime: memory, streams, graphs. A stream keeps what it is asked to do
 * until somebody waits for it; a graph remembers what was captured.
 */
#include <cuda.h>
#include <limits.h>
#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <map>

#include "emulator/machine.h"

using emulator::grid;
using emulator::operations;

enum kind { LAUNCH, COPY, FILL, RECORD };

struct operation {
	enum kind kind;
	emulator::launch how;
	std::function<void()> body;
	void *to;
	const void *from;
	size_t bytes;
	int byte;
	CUevent_st *event;
};

struct CUevent_st {
	CUstream_st *stream; /* in whose queue it still stands; NULL: it has happened */
};

struct CUgraph_st {
	std::vector<operation> operations;
};

struct CUgraphExec_st : CUgraph_st {
};

struct CUstream_st {
	std::deque<operation> queue;
	CUgraph_st *capture;
	operations known;           /* what a launch here has behind it, and the host too */
	std::shared_ptr<grid> last; /* the last operation, if it was a launch */
};

namespace emulator
{
static uint32_t number_of_operations = 1;
static operations host; /* knows of these */
static CUstream_st default_stream;
static std::vector<CUstream_st *> streams = {&default_stream};
static cudaError_t last_error;

/* ---- options --------------------------------------------------------------------------------- */

static uint64_t number_from(const char *name, uint64_t otherwise, uint64_t least, uint64_t most)
{
	const char *value = getenv(name);
	char *end;

	if (!value)
		return otherwise;

	const uint64_t n = strtoull(value, &end, 10);

	if (*end || end == value || *value == '-' || n < least || n > most) {
		fprintf(stderr, "emulator: %s is \"%s\", expected a number from %llu to %llu\n",
			name, value, (unsigned long long)least, (unsigned long long)most);
		exit(70);
	}
	return n;
}

/* Nine seeds in a row see each order with each time of landing. */
static void start()
{
	static bool started;

	if (started)
		return;
	started = true;

	const uint64_t s = number_from("EMULATE_SEED", 1, 0, ~0ull >> 1);

	options.seed = s;
	options.order = (enum order)number_from("EMULATE_ORDER", s % 3, 0, 2);
	options.timing = (enum timing)number_from("EMULATE_TIMING", (s + s / 3) % 3, 0, 2);
	options.company = (enum company)number_from("EMULATE_COMPANY", (s + s / 9) % 3, 0, 2);
	options.check = number_from("EMULATE_CHECK", 1, 0, 1);
	options.sms = (int)number_from("EMULATE_SMS", 3, 1, 1024);
	options.arch = (int)number_from("EMULATE_ARCH", 90, 80, 120);
	start_shared();
	start_global();
	start_reports();
	start_trace(number_from("EMULATE_TRACE_LAUNCH", 1, 1, ~0u),
		    number_from("EMULATE_TRACE_BLOCK", 0, 0, ~0u));
}

/* ---- the work of a stream -------------------------------------------------------------------- */

static std::shared_ptr<grid> new_grid(const operation &o, CUstream_st &s)
{
	std::shared_ptr<grid> g = std::make_shared<grid>();
	const uint32_t blocks = o.how.grid.x * o.how.grid.y * o.how.grid.z;

	g->how = o.how, g->body = o.body;
	g->number = number_of_operations++;
	g->blocks = blocks;
	g->order.resize(blocks / (uint32_t)o.how.cluster);
	for (size_t i = 0; i < g->order.size(); i++)
		g->order[i] = (uint32_t)i;
	seed_random(options.seed); /* each launch by itself: one can be run again alone */
	for (size_t i = g->order.size(); i > 1; i--)
		std::swap(g->order[i - 1], g->order[below((uint32_t)i)]);
	g->previous = s.last;
	/* early: what the one before had behind it at its own start */
	g->known = o.how.early && s.last ? s.last->known : s.known;
	g->final = g->known;
	counted.launches++;
	trace_launch(*g);
	return g;
}

static void copy_now(const operation &o, const operations &known)
{
	const uint32_t number = number_of_operations++, serial = new_serial(number);

	if (o.kind == COPY) {
		host_touches((const char *)o.from, o.bytes, false, serial, known);
		host_touches((const char *)o.to, o.bytes, true, serial, known);
		memmove(o.to, o.from, o.bytes);
	} else {
		host_touches((const char *)o.to, o.bytes, true, serial, known);
		memset(o.to, o.byte, o.bytes);
	}
}

static void forget(CUstream_st &s)
{
	for (const operation &o : s.queue)
		if (o.kind == RECORD)
			o.event->stream = nullptr;
	s.queue.clear();
	s.last.reset();
}

/* All that the stream has to do. Launches overlap as far as they were allowed to. */
static void work_off(CUstream_st &s)
{
	std::vector<std::shared_ptr<grid>> active;
	bool good = true;

	while (good && !s.queue.empty()) {
		operation o = std::move(s.queue.front());

		s.queue.pop_front();
		if (!active.empty())
			good = run_grids(active, !(o.kind == LAUNCH && o.how.early && below(4)));
		if (!good)
			break;
		if (s.last && s.last->complete) {
			s.known.join(s.last->final);
			s.known.add(s.last->number);
		}
		if (o.kind == LAUNCH) {
			active.push_back(new_grid(o, s));
			s.last = active.back();
			continue;
		}
		s.last.reset();
		if (o.kind == RECORD) {
			o.event->stream = nullptr;
		} else {
			copy_now(o, s.known);
			s.known.add(number_of_operations - 1);
		}
	}
	if (good && !active.empty())
		good = run_grids(active, true);
	if (s.last) {
		s.known.join(s.last->final);
		s.known.add(s.last->number);
	}
	forget(s);
	host.join(s.known);
	if (!good)
		last_error = cudaErrorLaunchFailure;
}

static void work_off_all()
{
	for (CUstream_st *s : streams)
		work_off(*s);
	host.below = number_of_operations; /* nothing is left that could be unordered */
	host.more.clear();
	forget_places();
}

static CUstream_st &stream_of(cudaStream_t stream)
{
	start();
	return stream ? *stream : default_stream;
}

static void ask(cudaStream_t stream, operation o)
{
	CUstream_st &s = stream_of(stream);

	if (s.capture) {
		s.capture->operations.push_back(std::move(o));
		return;
	}
	if (s.queue.empty())
		s.known.join(host);
	s.queue.push_back(std::move(o));
}

static std::map<const void *, size_t> allowed; /* dynamic shared memory of kernels */

cudaError_t allow_shared(const void *kernel, int bytes)
{
	if (bytes < 0 || bytes > 232448)
		return cudaErrorInvalidValue;
	allowed[kernel] = (size_t)bytes;
	return cudaSuccess;
}

cudaError_t enqueue(const launch &how, cudaStream_t stream, std::function<void()> body)
{
	const uint64_t threads = (uint64_t)how.block.x * how.block.y * how.block.z;
	const uint64_t blocks = (uint64_t)how.grid.x * how.grid.y * how.grid.z;
	const size_t most = std::max<size_t>(allowed[how.kernel], 48 << 10);

	if (threads < 1 || threads > 1024 || !blocks || how.grid.x > INT_MAX ||
	    how.grid.y > 65535 || how.grid.z > 65535 || blocks > UINT_MAX || how.cluster < 1 ||
	    how.cluster > 16 || blocks % (uint64_t)how.cluster || how.shared_bytes > most) {
		fprintf(stderr,
			"emulator: a launch of (%u, %u, %u) blocks of %llu threads in clusters of "
			"%d with %zu bytes of shared memory: 1 to 2^31 - 1 blocks (2^16 - 1 in y "
			"and z), whole clusters of at most 16, 1 to 1,024 threads and at most %zu "
			"bytes are possible%s\n",
			how.grid.x, how.grid.y, how.grid.z, (unsigned long long)threads,
			how.cluster, how.shared_bytes, most,
			how.shared_bytes > most && how.shared_bytes <= 232448
				? "; allow_shared permits more"
				: "");
		return last_error = cudaErrorInvalidValue;
	}
	if (slots_of(how) >= OBJECT) {
		fprintf(stderr,
			"emulator: a cluster of %d blocks of %llu threads has more of them than "
			"the "
			"emulator has numbers for\n",
			how.cluster, (unsigned long long)threads);
		return cudaErrorInvalidValue;
	}
	ask(stream, {LAUNCH, how, std::move(body), nullptr, nullptr, 0, 0, nullptr});
	return cudaSuccess;
}
} // namespace emulator

using namespace emulator;

/* ---- errors, the device ---------------------------------------------------------------------- */

extern "C" {
cudaError_t cudaGetLastError()
{
	const cudaError_t error = last_error;

	last_error = cudaSuccess;
	return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
	switch (error) {
	case cudaSuccess:
		return "no error";
	case cudaErrorInvalidValue:
		return "invalid argument";
	case cudaErrorMemoryAllocation:
		return "out of memory";
	case cudaErrorLaunchFailure:
		return "the emulator ended the kernel";
	case cudaErrorNotSupported:
		return "not supported by the emulator";
	default:
		return "error";
	}
}

const char *cudaGetErrorName(cudaError_t error)
{
	switch (error) {
	case cudaSuccess:
		return "cudaSuccess";
	case cudaErrorInvalidValue:
		return "cudaErrorInvalidValue";
	case cudaErrorMemoryAllocation:
		return "cudaErrorMemoryAllocation";
	case cudaErrorLaunchFailure:
		return "cudaErrorLaunchFailure";
	case cudaErrorNotSupported:
		return "cudaErrorNotSupported";
	default:
		return "cudaError";
	}
}

cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	*count = 1;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
	start();
	snprintf(p->name, sizeof(p->name), "emulated GPU (seed %llu)",
		 (unsigned long long)options.seed);
	p->multiProcessorCount = options.sms;
	p->l2CacheSize = 1 << 20;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int)
{
	start();
	switch (attribute) {
	case cudaDevAttrMultiProcessorCount:
		*value = options.sms;
		break;
	case cudaDevAttrL2CacheSize:
		*value = 1 << 20;
		break;
	case cudaDevAttrComputeCapabilityMajor:
		*value = options.arch / 10;
		break;
	case cudaDevAttrComputeCapabilityMinor:
		*value = options.arch % 10;
		break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin:
		*value = options.arch >= 90 ? 232448 : 166912;
		break;
	}
	return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int)
{
	snprintf(id, (size_t)size, "none");
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

/* ---- memory ---------------------------------------------------------------------------------- */

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
	*available = *total = 1ull << 32;
	return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
	start();
	*pointer = bytes ? allocate_global(bytes) : nullptr;
	return *pointer || !bytes ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *pointer)
{
	if (!pointer)
		return cudaSuccess;
	work_off_all();
	return free_global(pointer) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
	*pointer = malloc(bytes ? bytes : 1);
	return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *pointer)
{
	free(pointer);
	return cudaSuccess;
}

static cudaError_t outside_of_memory(const void *pointer, size_t bytes, const char *what)
{
	if (!is_global(pointer) || global_bytes_from(pointer) >= bytes)
		return cudaSuccess;
	fprintf(stderr, "emulator: %s of %zu bytes: %zu are left in that allocation\n", what, bytes,
		global_bytes_from(pointer));
	return cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
			    cudaStream_t stream)
{
	cudaError_t error = outside_of_memory(to, bytes, "a copy to device memory");

	start();
	if (!error)
		error = outside_of_memory(from, bytes, "a copy from device memory");
	if (!error)
		ask(stream, {COPY, {}, {}, to, from, bytes, 0, nullptr});
	return error;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);

	work_off(default_stream);
	return error;
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream)
{
	const cudaError_t error = outside_of_memory(to, bytes, "a memset");

	start();
	if (!error)
		ask(stream, {FILL, {}, {}, to, nullptr, bytes, byte, nullptr});
	return error;
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
	return cudaMemsetAsync(to, byte, bytes, nullptr);
}

/* ---- streams --------------------------------------------------------------------------------- */

cudaError_t cudaDeviceSynchronize()
{
	work_off_all();
	return cudaGetLastError();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	work_off(stream_of(stream));
	return cudaGetLastError();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
	*stream = new CUstream_st();
	streams.push_back(*stream);
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	if (!stream)
		return cudaErrorInvalidValue;
	work_off(*stream);
	streams.erase(std::find(streams.begin(), streams.end(), stream));
	delete stream;
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	*status = stream_of(stream).capture ? cudaStreamCaptureStatusActive
					    : cudaStreamCaptureStatusNone;
	return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
	if (!stream || stream->capture)
		return cudaErrorStreamCaptureUnsupported;
	stream->capture = new CUgraph_st();
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	if (!stream || !stream->capture)
		return cudaErrorInvalidValue;
	*graph = stream->capture;
	stream->capture = nullptr;
	return cudaSuccess;
}

/* ---- graphs, events -------------------------------------------------------------------------- */

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	*exec = new CUgraphExec_st{*graph};
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	delete exec;
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	bool first = true;

	for (operation o : exec->operations) {
		o.how.early = o.how.early && !first; /* a graph waits for what is before it */
		first = false;
		ask(stream, o);
	}
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
	*event = new CUevent_st();
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	if (event->stream)
		work_off(*event->stream);
	delete event;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	if (!stream_of(stream).capture)
		event->stream = &stream_of(stream);
	ask(stream, {RECORD, {}, {}, nullptr, nullptr, 0, 0, event});
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	if (event->stream)
		work_off(*event->stream);
	return cudaGetLastError();
}

cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t)
{
	return cudaErrorNotSupported;
}

/* ---- tensor maps ----------------------------------------------------------------------------- */

/* What the driver refuses: CUDA Driver API, cuTensorMapEncodeTiled. */
static CUresult encode(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *data,
		       const cuuint64_t *extent, const cuuint64_t *stride, const cuuint32_t *box,
		       const cuuint32_t *element_stride, CUtensorMapInterleave,
		       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
	tensor_map_fields f = {};

	if (rank < 1 || rank > 5 || (uintptr_t)data % 16 || (uintptr_t)map % 64)
		return CUDA_ERROR_INVALID_VALUE;
	f.data = (const char *)data, f.rank = (uint8_t)rank, f.magic = 0x4d54414d;
	f.swizzle = (uint8_t)swizzle;
	for (cuuint32_t d = 0; d < rank; d++) {
		const bool strided = d + 1 < rank;

		if (!extent[d] || extent[d] > 1ull << 32 || !box[d] || box[d] > 256 ||
		    element_stride[d] != 1 ||
		    (strided && (stride[d] % 16 || stride[d] >= 1ull << 40)))
			return CUDA_ERROR_INVALID_VALUE;
		f.extent[d] = extent[d], f.box[d] = box[d];
		if (strided)
			f.stride[d] = stride[d];
	}
	if (box[0] * 2 % 16 || (swizzle && box[0] * 2 > 16u << swizzle))
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(map, &f, sizeof(f));
	return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned,
					     unsigned long long,
					     cudaDriverEntryPointQueryResult *result)
{
	const bool known = !strcmp(symbol, "cuTensorMapEncodeTiled");

	*function = known ? (void *)encode : nullptr;
	*result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
	return cudaSuccess;
}
}
static_assert(sizeof(emulator::tensor_map_fields) <= sizeof(CUtensorMap), "it fits");
