/* verify.c - everything that can be found wrong with a capture, found by a child process:
 * limited memory, a watchdog that is wound up again with each piece of work, no core file. Whatever
 * a hostile file does to the parser, the caller gets a sentence.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WATCHDOG_SECONDS = 10, /* for one piece of work: opening, or one slab of a dataset */
	EXIT_GOOD = 0,
	EXIT_BAD = 3, /* apart from what a sanitizer ends with */
	EXIT_NO_MEMORY = 4,
};

#define MEMORY_LIMIT ((rlim_t)8 << 30) /* beyond what the parent has mapped already */

/* What the child works on. Lines go to the parent through a pipe: 'W' warnings, 'E' the error, 'G'
 * the verdict. */
struct verify {
	struct capture *capture;
	bool strict;
	int pipe;
	int32_t *visible; /* over all steps */
	uint64_t num_datasets, bytes;
};

static void send_line(int to, char kind, const char *text)
{
	dprintf(to, "%c%s\n", kind, text);
}

/* A warning, which strictness makes an error. */
static mla_status warn(struct verify *verify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static mla_status warn(struct verify *verify, const char *format, ...)
{
	char text[ERROR_SIZE - 64];
	va_list arguments;
	mla_status status;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	status = cap_fail(verify->capture->path, verify->strict ? "%s" : "warning: %s", text);
	if (verify->strict)
		return status;
	send_line(verify->pipe, 'W', mla_last_error());
	return MLA_OK;
}

/* ---- attributes ----------------------------------------------------------------------------- */

static const char *text_of(const struct verify *verify, const char *object, const char *name)
{
	const struct cap_attribute *one =
		cap_attributes_find(&verify->capture->attributes, object, name);

	return one && one->type == CAP_STRING ? one->text : NULL;
}

static mla_status check_content(struct verify *verify)
{
	const struct capture *capture = verify->capture;
	const char *stored = text_of(verify, "/", "content_sha256");
	char hex[SHA256_TEXT];
	mla_status status;

	if (!stored)
		return warn(verify, "no /@content_sha256: a changed attribute would not be found");
	status = cap_content_sha256(&capture->attributes, capture->path, hex);
	if (status)
		return status;
	if (strcmp(stored, hex))
		return cap_fail(verify->capture->path,
				"content_sha256 mismatch (file %.16s..., attributes %.16s...): an "
				"attribute was changed",
				stored, hex);
	return MLA_OK;
}

/* mscale as the softmax scale takes it: 0.1 * mscale_all_dim * ln(factor) + 1 under YaRN, else 1.
 * false: the JSON does not say. */
static bool implied_mscale(const char *rope_scaling, double *mscale)
{
	json_t *root = json_loads(rope_scaling, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "rope_type"));
	const double factor = json_number_value(json_object_get(root, "factor"));
	const double all_dim = json_number_value(json_object_get(root, "mscale_all_dim"));
	bool known;

	if (!type)
		type = json_string_value(json_object_get(root, "type"));
	known = type && (!strcmp(type, "default") || (!strcmp(type, "yarn") && factor >= 1));
	*mscale = known && !strcmp(type, "yarn") ? 0.1 * all_dim * log(factor) + 1 : 1;
	json_decref(root);
	return known;
}

static mla_status check_scale(struct verify *verify)
{
	const struct cap_config *config = &verify->capture->config;
	const char *rope_scaling = text_of(verify, "/config", "rope_scaling");
	const double dim = (double)config->qk_nope_head_dim + config->qk_rope_head_dim;
	double mscale = 1, implied;

	if (!config->qk_nope_head_dim || !rope_scaling)
		return MLA_OK;
	if (strcmp(rope_scaling, "none") && !implied_mscale(rope_scaling, &mscale))
		return warn(verify,
			    "/config@rope_scaling is not \"none\" nor JSON with rope_type "
			    "\"yarn\" and factor, or \"default\": softmax_scale not checked");
	implied = mscale * mscale / sqrt(dim);
	if (fabs(config->softmax_scale - implied) <= 1e-6 * implied)
		return MLA_OK;
	return warn(verify, "/config@softmax_scale = %.7g but rope_scaling implies %.7g%s",
		    config->softmax_scale, implied,
		    fabs(config->softmax_scale * sqrt(dim) - 1) < 1e-6
			    ? " (mscale missing? some versions of transformers leave it out)"
			    : "");
}

static mla_status check_software(struct verify *verify)
{
	const char *software = text_of(verify, "/", "software");
	json_t *root;

	if (!software || !strcmp(software, "none"))
		return MLA_OK;
	root = json_loads(software, 0, NULL);
	if (!root)
		return warn(verify, "/@software is not JSON");
	json_decref(root);
	return MLA_OK;
}

/* ---- datasets ------------------------------------------------------------------------------- */

/* Which values of a dataset must be finite: 0 none, 1 all, 2 the visible ones. */
static int finite_of(const char *path)
{
	static const struct {
		const char *name;
		int finite;
	} known[] = {
		{"ckv_cache", 2}, {"kpe_cache", 2}, {"w_uk", 1},
		{"w_uv", 1},      {"q_nope", 1},    {"q_pe", 1},
	};
	const char *name = strrchr(path, '/') + 1;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(name, known[i].name))
			return known[i].finite;
	return 0;
}

/* Rows that are read at once: whole chunks, as many as fit a slab. */
static hsize_t slab_rows(const struct cap_dataset *dataset)
{
	const hsize_t chunk = dataset->chunk_rows;
	const hsize_t fit =
		dataset->row_bytes < CAP_SLAB_BYTES ? CAP_SLAB_BYTES / (dataset->row_bytes + 1) : 1;

	return fit > chunk ? fit / chunk * chunk : chunk;
}

/* Reads slab after slab: sha256 over all, and what is not finite. */
static mla_status scan_slabs(struct verify *verify, const struct cap_dataset *dataset, void *slab,
			     struct sha256 *sha)
{
	const int finite = finite_of(dataset->path);
	const hsize_t step = slab_rows(dataset), rows = dataset->extent[0];
	uint64_t bad = 0, first = 0, at = 0;
	mla_status status;

	for (hsize_t row = 0; dataset->bytes && row < rows; row += step) {
		const hsize_t start[CAP_MAX_RANK] = {row};
		hsize_t count[CAP_MAX_RANK];
		uint64_t found = 0;

		memcpy(count, dataset->extent, sizeof(count));
		count[0] = rows - row < step ? rows - row : step;
		alarm(WATCHDOG_SECONDS);
		status = cap_dataset_read(verify->capture, dataset, start, count, slab);
		if (status)
			return status;
		sha256_add(sha, slab, count[0] * dataset->row_bytes);
		if (finite)
			found = cap_count_bad(dataset, slab, row, count[0],
					      finite == 2 ? verify->visible : NULL, &at);
		if (found && !bad)
			first = at;
		bad += found;
	}
	if (bad)
		return cap_fail_non_finite(verify->capture->path, dataset, bad, first);
	return MLA_OK;
}

static mla_status compare_sha256(struct verify *verify, const char *path, const char *hex)
{
	const char *stored = text_of(verify, path, "sha256");

	if (stored && !strcmp(stored, hex))
		return MLA_OK;
	return cap_fail(verify->capture->path, "%s: sha256 mismatch (file %.16s..., data %.16s...)",
			path, stored ? stored : "none", hex);
}

static mla_status scan_dataset(struct verify *verify, const char *path)
{
	struct cap_dataset dataset;
	char hex[SHA256_TEXT];
	struct sha256 *sha;
	mla_status status;
	hsize_t rows;
	void *slab;

	status = cap_dataset_open(verify->capture, path, CAP_ANY_ELEMENT, &dataset);
	if (status)
		return status;
	rows = slab_rows(&dataset);
	if (rows > dataset.extent[0])
		rows = dataset.extent[0];
	slab = malloc(rows * dataset.row_bytes + 1);
	sha = sha256_begin();
	if (slab && sha)
		status = scan_slabs(verify, &dataset, slab, sha);
	else
		status = cap_fail_memory(verify->capture->path);
	sha256_finish(sha, status ? NULL : hex);
	if (!status)
		status = compare_sha256(verify, path, hex);
	verify->num_datasets++;
	verify->bytes += dataset.bytes;
	free(slab);
	cap_dataset_close(&dataset);
	return status;
}

static mla_status scan_datasets(struct verify *verify)
{
	struct capture *capture = verify->capture;
	mla_status status = MLA_OK;

	verify->visible = calloc((size_t)capture->extent[DIM_PAGES] + 1, sizeof(*verify->visible));
	if (!verify->visible)
		return cap_fail_memory(capture->path);
	for (int i = 0; i < capture->num_steps; i++)
		cap_mark_visible(&capture->steps[i], (int32_t)capture->config.page_size,
				 verify->visible);
	for (size_t i = 0; !status && i < capture->num_objects; i++)
		if (!capture->objects[i].group)
			status = scan_dataset(verify, capture->objects[i].path);
	free(verify->visible);
	return status;
}

static mla_status verify_all(struct verify *verify, const char *path)
{
	char verdict[256];
	mla_status status = capture_open(path, &verify->capture);

	if (!status)
		status = scan_datasets(verify);
	if (!status)
		status = check_content(verify);
	if (!status)
		status = check_scale(verify);
	if (!status)
		status = check_software(verify);
	if (!status) {
		snprintf(verdict, sizeof(verdict),
			 "good: %s, %d steps, %d layers, %" PRIu64 " datasets, %.1f MB checked",
			 cap_kind_words[verify->capture->kind], verify->capture->num_steps,
			 verify->capture->num_layers, verify->num_datasets,
			 (double)verify->bytes * 1e-6);
		send_line(verify->pipe, 'G', verdict);
	}
	capture_close(verify->capture);
	return status;
}

/* ---- the child ------------------------------------------------------------------------------ */

/* Sanitizers need address space without end, and their reports are wanted. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* Address space in use: a parent that has used a GPU brings terabytes of it along. */
static rlim_t mapped_bytes(void)
{
	FILE *stream = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (stream) {
		if (fscanf(stream, "%lu", &pages) != 1)
			pages = 0;
		fclose(stream);
	}
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void confine_child(void)
{
	const rlim_t limit = mapped_bytes() + MEMORY_LIMIT;
	const struct rlimit memory = {limit, limit}, none = {0, 0};
	sigset_t all;
	int null;

	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	setrlimit(RLIMIT_CORE, &none);
	alarm(WATCHDOG_SECONDS);
	if (sanitized)
		return;
	setrlimit(RLIMIT_AS, &memory);
	null = open("/dev/null", O_WRONLY); /* malloc's last words about a damaged heap */
	if (null >= 0)
		dup2(null, STDERR_FILENO);
}

static void run_child(const char *path, bool strict, int to)
{
	struct verify verify = {.strict = strict, .pipe = to};
	mla_status status;

	confine_child();
	status = verify_all(&verify, path);
	if (!status)
		_exit(EXIT_GOOD);
	send_line(to, 'E', mla_last_error());
	_exit(status == MLA_NO_MEMORY ? EXIT_NO_MEMORY : EXIT_BAD);
}

/* ---- the parent ----------------------------------------------------------------------------- */

/* Passes lines of the child on; its error is kept. They are its word only: the exit status decides.
 */
static void read_lines(int from, const char *path, FILE *log, char error[ERROR_SIZE])
{
	FILE *stream = fdopen(from, "r");
	char line[ERROR_SIZE + 2]; /* kind and line feed */

	if (!stream) {
		close(from);
		return;
	}
	while (fgets(line, sizeof(line), stream)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0] == 'E')
			snprintf(error, ERROR_SIZE, "%.*s", ERROR_SIZE - 1, line + 1);
		else if (line[0] == 'G' && log)
			fprintf(log, "%s: %s\n", path, line + 1);
		else if (log)
			fprintf(log, "%s\n", line + 1);
	}
	fclose(stream);
}

/* Turns the end of the child into an outcome. */
static mla_status judge(int status, const char *path, const char *error)
{
	const int signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == EXIT_GOOD)
		return MLA_OK;
	if (code == EXIT_BAD && *error)
		return mla_fail(MLA_INVALID, "%s", error);
	if (code == EXIT_NO_MEMORY && *error)
		return mla_fail(MLA_NO_MEMORY, "%s", error);
	if (signal_number == SIGALRM)
		return cap_fail(path,
				"parser made no progress in %d s: treat it as hostile or damaged",
				WATCHDOG_SECONDS);
	if (signal_number)
		return cap_fail(path,
				"parser crashed (signal %d) reading this file: treat it as hostile "
				"or damaged",
				signal_number);
	return cap_fail(path,
			"parser ended with status %d reading this file: treat it as hostile or "
			"damaged",
			code);
}

/* Nothing is known about the file then. */
static mla_status fail_to_run(const char *path, const char *what)
{
	cap_fail(path, "%s: %s", what, strerror(errno));
	return MLA_NO_MEMORY;
}

mla_status capture_verify(const char *path, bool strict, FILE *log)
{
	char error[ERROR_SIZE] = "";
	int ends[2], status;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return fail_to_run(path, "no pipe to the verifying process");
	child = fork();
	if (!child) {
		close(ends[0]);
		run_child(path, strict, ends[1]);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return fail_to_run(path, "no verifying process");
	}
	read_lines(ends[0], path, log, error);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail_to_run(path, "lost the verifying process");
	return judge(status, path, error);
}
