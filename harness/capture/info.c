/* info.c - a capture described for people. */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

static const char *text_of(const struct capture *capture, const char *object, const char *name)
{
	const char *text = cap_text_of(capture, object, name);

	return text ? text : "none";
}

static void print_config(const struct capture *capture, FILE *out)
{
	const struct cap_config *config = &capture->config;

	text_print(out,
		   "  heads        %" PRIu32 " (from head %" PRIu32 " of the model), ckv %" PRIu32
		   ", kpe %" PRIu32 ", nope %" PRIu32 ", v %" PRIu32 "\n",
		   config->num_heads, config->head_start, config->kv_lora_rank,
		   config->qk_rope_head_dim, config->qk_nope_head_dim, config->v_head_dim);
	text_print(out, "  types        q %s, ckv %s, kpe %s, out %s\n",
		   cap_dtype_words[config->dtype], cap_dtype_words[config->ckv_dtype],
		   cap_dtype_words[config->kpe_dtype], cap_dtype_words[config->out_dtype]);
	text_print(out, "  attention    %s, scale %.10g, page size %" PRIu32 ", lse base %s\n",
		   config->causal ? "causal" : "not causal", config->softmax_scale,
		   config->page_size, cap_base_words[config->lse_base]);
	text_print(out, "  rope         %s, theta %g, scaling %s\n",
		   cap_rope_layout_words[config->rope_layout], config->rope_theta,
		   text_of(capture, "/config", "rope_scaling"));
	text_print(out,
		   "  model        %" PRIu32 " layers, hidden %" PRIu32 ", q_lora_rank %" PRIu32
		   ", rms_norm_eps %g (0: not known)\n",
		   config->num_layers, config->hidden_size, config->q_lora_rank,
		   config->rms_norm_eps);
}

static void print_provenance(const struct capture *capture, FILE *out)
{
	static const char *const more[] = {"content_sha256", "derived_from", NULL};

	for (int i = 0; cap_provenance[i]; i++)
		if (strcmp(text_of(capture, "/", cap_provenance[i]), "none"))
			text_print(out, "  %-16s %s\n", cap_provenance[i],
				   text_of(capture, "/", cap_provenance[i]));
	for (int i = 0; more[i]; i++)
		if (strcmp(text_of(capture, "/", more[i]), "none"))
			text_print(out, "  %-16s %s\n", more[i], text_of(capture, "/", more[i]));
}

/* Bytes of the elements of all datasets right in a group. */
static uint64_t group_bytes(const struct capture *capture, const char *group)
{
	const struct cap_object *object = cap_find(capture, group);
	const struct cap_object *end = capture->listing.objects + capture->listing.num_objects;
	const size_t length = strlen(group);
	uint64_t bytes = 0;

	/* sorted: what lies in a group follows it */
	for (; object && object < end && !strncmp(object->path, group, length); object++)
		if (!object->group && object->path[length] == '/' &&
		    !strchr(object->path + length + 1, '/'))
			bytes += object->dataset.bytes;
	return bytes;
}

static bool has(const struct capture *capture, const char *group, const char *name)
{
	char path[CAP_PATH];

	cap_join(path, group, name);
	return cap_find(capture, path);
}

static void print_layers(const struct capture *capture, FILE *out)
{
	for (int i = 0; i < capture->num_layers; i++) {
		char group[CAP_PATH];

		snprintf(group, sizeof(group), "/layers/%03d", capture->layers[i]);
		text_print(out, "  layer %03d    %" PRId64 " pages%s, %.2f MB\n",
			   capture->layers[i], capture->extent[DIM_PAGES],
			   has(capture, group, "w_uk") ? ", with W_UK and W_UV" : "",
			   (double)group_bytes(capture, group) * 1e-6);
	}
}

static void print_step(const struct capture *capture, const struct cap_step *step, FILE *out)
{
	int64_t keys = 0;
	int32_t shortest = INT32_MAX, longest = 0;
	uint64_t bytes = 0;
	char group[CAP_PATH];

	for (int64_t r = 0; r < step->extent[DIM_REQUESTS]; r++) {
		const int32_t length = step->kv_len[r];

		keys += length;
		shortest = length < shortest ? length : shortest;
		longest = length > longest ? length : longest;
	}
	for (int i = 0; i < capture->num_layers; i++) {
		snprintf(group, sizeof(group), "/steps/%03d/layers/%03d", step->number,
			 capture->layers[i]);
		bytes += group_bytes(capture, group);
	}
	text_print(out,
		   "  step %03d     %s: %" PRId64 " requests, %" PRId64 " queries, %" PRId64
		   " keys (%" PRId32 " to %" PRId32 " each)%s%s, %.2f MB\n",
		   step->number, step->name, step->extent[DIM_REQUESTS], step->extent[DIM_QUERIES],
		   keys, keys ? shortest : 0, longest,
		   has(capture, group, "out_model") ? ", with the model's output" : "",
		   has(capture, group, "out_ref") ? ", with a reference" : "",
		   (double)bytes * 1e-6);
}

void capture_print_info(struct capture *capture, FILE *out)
{
	text_print(out, "%s: mla-capture 1, %s, %.2f MB, %d layers, %d steps\n", capture->path,
		   cap_kind_words[capture->kind], (double)capture->file_bytes * 1e-6,
		   capture->num_layers, capture->num_steps);
	print_config(capture, out);
	print_layers(capture, out);
	for (int i = 0; i < capture->num_steps; i++)
		print_step(capture, &capture->steps[i], out);
	print_provenance(capture, out);
}
