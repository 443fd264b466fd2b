/* cuda_runtime.h - CUDA's name for what cuda_runtime_api.h has here. */
#pragma once
#include <cuda_runtime_api.h>
