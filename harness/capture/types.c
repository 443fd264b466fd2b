/* types.c - HDF5's types of the elements, and its words when something went wrong.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <errno.h>
#include <string.h>

void cap_hdf5_quiet(void)
{
	H5dont_atexit(); /* it would touch files again that could not be written */
	H5open();
	H5PLset_loading_state(0); /* a file may name a filter; nothing may load code for it */
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- reasons -------------------------------------------------------------------------------- */

static herr_t keep_innermost(unsigned n, const H5E_error2_t *entry, void *data)
{
	if (n == 0 && entry->desc)
		snprintf(data, 256, "%s", entry->desc);
	return 0;
}

void cap_hdf5_reason(char reason[256])
{
	const char *number;
	int error;

	snprintf(reason, 256, "HDF5 gives no reason");
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
	if (strstr(reason, "Fletcher32"))
		snprintf(reason, 256, "checksum error in chunk (fletcher32)");
	/* HDF5 adds the time, descriptors and addresses: never twice the same */
	number = strstr(reason, "errno = ");
	if (number && sscanf(number, "errno = %9d", &error) == 1)
		snprintf(reason, 256, "%s",
			 error == EAGAIN && strstr(reason, "unable to lock file")
				 ? "it is being written by another process"
				 : strerror(error));
}

mla_status cap_fail_hdf5(const char *file, const char *object)
{
	char reason[256];

	cap_hdf5_reason(reason);
	return cap_fail(file, "%s: %s", object, reason);
}

/* ---- types ---------------------------------------------------------------------------------- */

/* A 16-bit float with the sign on top and the exponent above the mantissa. */
static hid_t float16_type(size_t exponent_bits, size_t bias)
{
	const size_t mantissa_bits = 15 - exponent_bits;
	hid_t type = H5Tcopy(H5T_IEEE_F32LE);

	H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits); /* before size */
	H5Tset_size(type, 2);
	H5Tset_ebias(type, bias);
	return type;
}

void cap_types_make(hid_t type[CAP_NUM_ELEMENTS])
{
	type[CAP_BF16] = float16_type(8, 127);
	type[CAP_F16] = float16_type(5, 15);
	type[CAP_F32] = H5Tcopy(H5T_IEEE_F32LE);
	type[CAP_F64] = H5Tcopy(H5T_IEEE_F64LE);
	type[CAP_I32] = H5Tcopy(H5T_STD_I32LE);
	type[CAP_U8] = H5Tcopy(H5T_STD_U8LE);
}

void cap_types_close(hid_t type[CAP_NUM_ELEMENTS])
{
	for (int i = 0; i < CAP_NUM_ELEMENTS; i++)
		if (type[i] > 0)
			H5Tclose(type[i]);
}

int cap_type_element(const hid_t known[CAP_NUM_ELEMENTS], hid_t type)
{
	for (int i = 0; i < CAP_NUM_ELEMENTS; i++)
		if (H5Tequal(known[i], type) > 0)
			return i;
	return CAP_ANY_ELEMENT;
}

void cap_describe_type(const hid_t known[CAP_NUM_ELEMENTS], hid_t type, char *text, size_t size)
{
	static const char *const class_names[H5T_NCLASSES] = {
		[H5T_INTEGER] = "integer",    [H5T_FLOAT] = "float",
		[H5T_TIME] = "time",          [H5T_STRING] = "string",
		[H5T_BITFIELD] = "bit field", [H5T_OPAQUE] = "opaque",
		[H5T_COMPOUND] = "compound",  [H5T_REFERENCE] = "reference",
		[H5T_ENUM] = "enumeration",   [H5T_VLEN] = "variable-length sequence",
		[H5T_ARRAY] = "array",
	};
	const int element = cap_type_element(known, type);
	const H5T_class_t class = H5Tget_class(type);
	const size_t bytes = H5Tget_size(type);

	if (element >= 0)
		snprintf(text, size, "%s", cap_element_name(element));
	else if (class == H5T_OPAQUE && bytes <= 2)
		snprintf(text, size, "opaque %zu-byte (h5py + ml_dtypes writes this)", bytes);
	else if (class < 0 || class >= H5T_NCLASSES)
		snprintf(text, size, "unknown");
	else
		snprintf(text, size, "%s%zu-byte %s%s",
			 H5Tget_order(type) == H5T_ORDER_BE ? "big-endian " : "", bytes,
			 class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE ? "unsigned "
										   : "",
			 class_names[class]);
}
