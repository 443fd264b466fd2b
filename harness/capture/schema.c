/* schema.c - data/FORMAT.md as tables: the datasets of each group, the attributes and their words.
 */
#include "capture/internal.h"

enum {
	IN_ALL = 1 << CAPTURE_KERNEL_CALL | 1 << CAPTURE_MODEL_FORWARD | 1 << CAPTURE_SYNTHETIC,
	IN_MODEL = 1 << CAPTURE_MODEL_FORWARD,
};

const struct cap_rule cap_layer_rules[] = {
	{"ckv_cache", TYPE_CKV, 3, {DIM_PAGES, DIM_PAGE_SIZE, DIM_CKV}, IN_ALL, false, false},
	{"kpe_cache", TYPE_KPE, 3, {DIM_PAGES, DIM_PAGE_SIZE, DIM_KPE}, IN_ALL, true, false},
	{"w_uk", TYPE_MAIN, 3, {DIM_HEADS, DIM_NOPE, DIM_CKV}, IN_MODEL, false, false},
	{"w_uv", TYPE_MAIN, 3, {DIM_HEADS, DIM_V, DIM_CKV}, IN_MODEL, false, false},
	{0},
};

/* In an order in which each shape follows from what was read before. */
const struct cap_rule cap_step_rules[] = {
	{"kv_len", TYPE_I32, 1, {DIM_REQUESTS}, IN_ALL, false, false},
	{"qo_indptr", TYPE_I32, 1, {DIM_OFFSETS}, IN_ALL, false, false},
	{"kv_indptr", TYPE_I32, 1, {DIM_OFFSETS}, IN_ALL, false, false},
	{"kv_page_indices", TYPE_I32, 1, {DIM_PAGE_ENTRIES}, IN_ALL, false, false},
	{"positions", TYPE_I32, 1, {DIM_QUERIES}, IN_ALL, false, false},
	{"q_pos0", TYPE_I32, 1, {DIM_REQUESTS}, 0, false, false},
	{"token_ids", TYPE_I32, 1, {DIM_QUERIES}, 0, false, false},
	{0},
};

const struct cap_rule cap_problem_rules[] = {
	{"q_nope", TYPE_MAIN, 3, {DIM_QUERIES, DIM_HEADS, DIM_Q}, IN_ALL, false, false},
	{"q_pe", TYPE_MAIN, 3, {DIM_QUERIES, DIM_HEADS, DIM_KPE}, IN_ALL, true, false},
	{"out_model", TYPE_MAIN, 3, {DIM_QUERIES, DIM_HEADS, DIM_D}, 0, false, false},
	{"out_ref", TYPE_F32, 3, {DIM_QUERIES, DIM_HEADS, DIM_D}, 0, false, true},
	{"lse_ref", TYPE_F32, 2, {DIM_QUERIES, DIM_HEADS}, 0, false, true},
	{0},
};

/* In the order of enum capture_kind, enum mla_lse_base, enum mla_dtype. */
const char *const cap_kind_words[] = {"kernel-call", "model-forward", "synthetic", NULL};
const char *const cap_base_words[] = {"e", "2", NULL};
const char *const cap_dtype_words[] = {"bf16", "fp16", "f32", NULL};
const char *const cap_rope_layout_words[] = {"interleaved", "half", "none", NULL};

#define AT(field) offsetof(struct cap_config, field)

const struct cap_number_rule cap_numbers[] = {
	{"num_heads", AT(num_heads), 1, CAP_MAX_NUMBER},
	{"head_start", AT(head_start), 0, CAP_MAX_NUMBER},
	{"hidden_size", AT(hidden_size), 0, CAP_MAX_NUMBER},
	{"q_lora_rank", AT(q_lora_rank), 0, CAP_MAX_NUMBER},
	{"kv_lora_rank", AT(kv_lora_rank), 1, CAP_MAX_NUMBER},
	{"qk_nope_head_dim", AT(qk_nope_head_dim), 0, CAP_MAX_NUMBER},
	{"qk_rope_head_dim", AT(qk_rope_head_dim), 0, CAP_MAX_NUMBER},
	{"v_head_dim", AT(v_head_dim), 0, CAP_MAX_NUMBER},
	{"num_layers", AT(num_layers), 0, CAP_MAX_NUMBER},
	{"page_size", AT(page_size), 1, CAP_MAX_NUMBER},
	{"causal", AT(causal), 0, 1},
	{0},
};

const struct cap_real_rule cap_reals[] = {
	{"softmax_scale", AT(softmax_scale)},
	{"rope_theta", AT(rope_theta)},
	{"rms_norm_eps", AT(rms_norm_eps)},
	{0},
};

const struct cap_choice_rule cap_choices[] = {
	{"rope_layout", AT(rope_layout), cap_rope_layout_words, false},
	{"lse_base", AT(lse_base), cap_base_words, false},
	{"dtype", AT(dtype), cap_dtype_words, false}, /* before those that default to it */
	{"ckv_dtype", AT(ckv_dtype), cap_dtype_words, true},
	{"kpe_dtype", AT(kpe_dtype), cap_dtype_words, true},
	{"out_dtype", AT(out_dtype), cap_dtype_words, true},
	{0},
};

const char *const cap_provenance[] = {
	"model_id",     "model_revision",   "weights_sha256",
	"tokenizer_id", "tokenizer_sha256", "prompt_sha256",
	"created_utc",  "capture_tool",     "capture_point",
	"software",     "device",           "notes",
	NULL,
};

bool cap_rule_applies(const struct cap_rule *rule, const struct cap_config *config)
{
	return !rule->rope || config->qk_rope_head_dim > 0;
}

enum cap_element cap_rule_element(const struct cap_rule *rule, const struct cap_config *config)
{
	switch (rule->type) {
	case TYPE_MAIN:
		return (enum cap_element)config->dtype;
	case TYPE_CKV:
		return (enum cap_element)config->ckv_dtype;
	case TYPE_KPE:
		return (enum cap_element)config->kpe_dtype;
	case TYPE_F32:
		return CAP_F32;
	default:
		return CAP_I32;
	}
}
