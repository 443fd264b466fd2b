/* test_output.c - files that the program writes: whole or not at all, and nothing else touched. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/output.h"
#include "lib/error.h"

static char folder[64];

/* Every test works in a folder of its own. */
static void enter(void)
{
	snprintf(folder, sizeof(folder), "/tmp/mla-output-XXXXXX");
	cr_assert(mkdtemp(folder) && !chdir(folder));
}

static void leave(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert(!chdir("/") && !system(command));
}

/* cppcheck-suppress unknownMacro */
TestSuite(output, .init = enter, .fini = leave);

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	cr_assert(file && fputs(text, file) >= 0 && !fclose(file));
}

static void expect_text(const char *path, const char *expected)
{
	char found[256] = "";
	FILE *file = fopen(path, "r");

	cr_assert(file, "%s is not there", path);
	found[fread(found, 1, sizeof(found) - 1, file)] = 0;
	fclose(file);
	cr_expect_str_eq(found, expected, "%s holds \"%s\", expected \"%s\"", path, found,
			 expected);
}

/* Names in a folder, "." and ".." left out. */
static int count_files(const char *path)
{
	DIR *list = opendir(path);
	int count = 0;

	cr_assert(list);
	while (readdir(list))
		count++;
	closedir(list);
	return count - 2;
}

#define OLD "{\"old\": 1}"
#define NEW "{\"new\": 1}"

static const struct output_plan json = {.kind = OUTPUT_JSON};
static const struct output_plan capture = {.kind = OUTPUT_CAPTURE};
static const struct output_plan forced = {.kind = OUTPUT_CAPTURE, .force = true};

static void open_good(struct output *o, const char *path)
{
	cr_assert(!output_open(o, path, &json), "%s", mla_last_error());
}

static void put_good(struct output *o, const char *text)
{
	cr_assert(!output_put(o, text, strlen(text)), "%s", mla_last_error());
}

static void write_good(const char *path, const char *text)
{
	struct output o;

	open_good(&o, path);
	put_good(&o, text);
	output_abandon(&o);
}

static void expect_fails(const char *path, const struct output_plan *plan, mla_status status,
			 const char *why)
{
	char expected[512];
	struct output o;

	snprintf(expected, sizeof(expected), "%s: cannot be written: %s", path, why);
	cr_expect_eq(output_open(&o, path, plan), status, "%s: %s", path, mla_last_error());
	cr_expect_str_eq(mla_last_error(), expected);
	cr_expect(!o.name && !o.path);
	output_abandon(&o);
}

static void expect_refused(const char *path, const struct output_plan *plan, const char *why)
{
	expect_fails(path, plan, MLA_REFUSED, why);
}

/* ---- regular files --------------------------------------------------------------------------- */

Test(output, a_new_file_is_written)
{
	write_good("new.json", NEW);
	expect_text("new.json", NEW);
	cr_expect_eq(count_files("."), 1);
}

Test(output, the_old_file_stays_until_the_new_one_is_whole)
{
	struct output o;

	put("a.json", OLD);
	open_good(&o, "a.json");
	cr_assert_eq(write(o.descriptor, "half", 4), 4);
	expect_text("a.json", OLD);
	output_abandon(&o);
	expect_text("a.json", OLD);
	write_good("a.json", NEW);
	expect_text("a.json", NEW);
	cr_expect_eq(count_files("."), 1);
}

Test(output, what_is_abandoned_leaves_nothing)
{
	struct output zero = {0}, o;

	put("a.json", OLD);
	open_good(&o, "a.json");
	cr_expect_eq(count_files("."), 2);
	output_abandon(&o);
	output_abandon(&o);
	output_abandon(&zero);
	expect_text("a.json", OLD);
	cr_expect_eq(count_files("."), 1);
}

/* Nobody ever sees the half of the second. */
Test(output, what_is_put_again_replaces_the_whole)
{
	struct output o;
	struct stat first, second;

	put("a.json", OLD);
	open_good(&o, "a.json");
	put_good(&o, "one");
	expect_text("a.json", "one");
	cr_expect_eq(count_files("."), 1);
	cr_assert(!stat("a.json", &first));
	put_good(&o, "one two");
	expect_text("a.json", "one two");
	cr_assert(!stat("a.json", &second));
	cr_expect(first.st_ino != second.st_ino, "written in place");
	output_abandon(&o);
	expect_text("a.json", "one two");
	cr_expect_eq(count_files("."), 1);
}

/* The question is asked once: what comes meanwhile is replaced, a capture without --force too. */
Test(output, two_writers_at_once_both_end_whole)
{
	struct output a, b, c;

	open_good(&a, "a.json");
	open_good(&b, "a.json");
	cr_assert(!output_open(&c, "a.json", &capture), "%s", mla_last_error());
	put_good(&a, "the first");
	expect_text("a.json", "the first");
	put_good(&b, "the second");
	expect_text("a.json", "the second");
	put(c.path, "the third");
	cr_assert(!output_commit(&c), "%s", mla_last_error());
	expect_text("a.json", "the third");
	output_abandon(&a);
	output_abandon(&b);
	cr_expect_eq(count_files("."), 1);
}

Test(output, the_temporary_name_is_another_each_time_and_in_the_same_folder)
{
	char seen[64][64];

	cr_assert(!mkdir("sub", 0777));
	for (int i = 0; i < 64; i++) {
		struct output o;

		open_good(&o, "sub/a.json");
		cr_assert(!strncmp(o.path, "sub/", 4) && strlen(o.path) < sizeof(seen[i]), "%s",
			  o.path);
		cr_expect(!access(o.path, F_OK));
		snprintf(seen[i], sizeof(seen[i]), "%s", o.path);
		for (int k = 0; k < i; k++)
			cr_expect(strcmp(seen[k], seen[i]), "%s twice", seen[i]);
		output_abandon(&o);
		cr_expect(access(seen[i], F_OK), "%s is still there", seen[i]);
	}
}

/* 250 bytes are nearly as long as a name may be. */
Test(output, a_long_name_leaves_room_for_the_temporary)
{
	char name[251] = "";

	memset(name, 'n', 250);
	write_good(name, "long");
	expect_text(name, "long");
}

Test(output, the_mode_is_that_of_the_umask_or_of_what_was_there)
{
	static const mode_t masks[] = {022, 077, 0}, kept = 0640;

	for (size_t i = 0; i < sizeof(masks) / sizeof(*masks); i++) {
		struct stat found;

		umask(masks[i]);
		write_good("a.json", OLD);
		cr_assert(!stat("a.json", &found));
		cr_expect_eq(found.st_mode & 0777, 0666 & ~masks[i], "%o", found.st_mode);
		cr_assert(!chmod("a.json", kept));
		write_good("a.json", OLD);
		cr_assert(!stat("a.json", &found));
		cr_expect_eq(found.st_mode & 0777, kept, "%o", found.st_mode);
		unlink("a.json");
	}
}

/* A library that is given the path writes where the output would. */
Test(output, a_library_writes_by_the_path)
{
	struct output o;

	put("a.h5", "");
	cr_assert(!output_open(&o, "a.h5", &capture), "%s", mla_last_error());
	put(o.path, "by name");
	expect_text("a.h5", "");
	cr_assert(!output_commit(&o), "%s", mla_last_error());
	expect_text("a.h5", "by name");
}

Test(output, more_outputs_than_a_signal_could_clear_are_refused)
{
	struct output o[16];
	int opened = 0;

	while (opened < 16 && !output_open(&o[opened], "a.json", &json))
		opened++;
	cr_expect(opened >= 8 && opened < 16, "%d", opened);
	cr_expect_str_eq(mla_last_error(), "a.json: cannot be written: Too many open files");
	while (opened)
		output_abandon(&o[--opened]);
	write_good("a.json", NEW);
	cr_expect_eq(count_files("."), 1);
}

/* ---- what is replaced ------------------------------------------------------------------------ */

#define HDF5 "\x89HDF\r\n\x1a\n"

Test(output, only_the_kind_that_is_written_is_replaced)
{
	static const struct {
		const char *text, *is;
		const char *by; /* j: JSON may replace it, v: CSV, c: a capture */
	} cases[] = {
		{"", NULL, "jvc"},
		{"{}", "other text", "j"},
		{" {\"schema\": \"mine\", \"n\": [1, 2]}\n", "other text", "j"},
		{"{\"schema\": 3}", "other text", "j"},
		{"{\"schema\": \"theirs\"}", "other text", ""},
		{"[1, 2]", "other text", ""},
		{"{\"cut\": 1", "other text", ""},
		{"{} {}", "other text", ""},
		{"[section]\nkey = {}\n", "other text", ""},
		{"case,implementation,status\n", "other text", "v"},
		{"case;implementation\n", "other text", ""},
		{"name,age\nme,7\n", "other text", ""},
		{"/* a.c */\nint main(void)\n{\n}\n", "other text", ""},
		{"#!/bin/sh\n", "a script", ""},
		{"<?xml version='1.0'?><svg/>", "XML", ""},
		{"\x89PNG\r\n\x1a\n", "a picture", ""},
		{HDF5 "mla-capture", "a capture", "c"},
		{HDF5 "something else", "HDF5, but no capture", ""},
		{"mla-capture", "other text", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct output_plan plans[] = {{.kind = OUTPUT_JSON, .schema = "mine"},
						    {.kind = OUTPUT_CSV},
						    {.kind = OUTPUT_CAPTURE, .force = true}};
		const bool good[] = {strchr(cases[i].by, 'j'), strchr(cases[i].by, 'v'),
				     strchr(cases[i].by, 'c')};

		put("file", cases[i].text);
		for (int k = 0; k < 3; k++) {
			struct output o;
			const mla_status status = output_open(&o, "file", &plans[k]);

			cr_expect_eq(status, good[k] ? MLA_OK : MLA_REFUSED, "\"%s\", kind %d: %s",
				     cases[i].text, k, mla_last_error());
			cr_expect(good[k] || k == 0 || strstr(mla_last_error(), cases[i].is),
				  "%s: %s", cases[i].is, mla_last_error());
			cr_expect(good[k] || strstr(mla_last_error(), "and would be lost"));
			output_abandon(&o);
		}
		expect_text("file", cases[i].text);
		cr_expect_eq(count_files("."), 1);
	}
	put("file", cases[4].text);
	expect_refused("file", &(struct output_plan){.kind = OUTPUT_JSON, .schema = "mine"},
		       "it holds JSON of schema \"theirs\" and would be lost, expected no file, an "
		       "empty one or JSON (\"mine\"); choose another name, or remove it first");
}

Test(output, a_capture_wants_to_be_forced)
{
	struct output o;

	put("a.h5", HDF5 "mla-capture");
	expect_refused("a.h5", &capture, "there is a capture already; --force replaces it");
	cr_assert(!output_open(&o, "a.h5", &forced), "%s", mla_last_error());
	output_abandon(&o);
	expect_text("a.h5", HDF5 "mla-capture");
}

/* Far from its start: HDF5 writes attributes where it likes. */
Test(output, a_capture_is_known_by_either_end)
{
	static const off_t places[] = {8, 1 << 20, (20 << 20) - 11};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		FILE *file = fopen("a.h5", "w");

		cr_assert(file && fputs(HDF5, file) >= 0 && !ftruncate(fileno(file), 20 << 20));
		cr_assert(!fseek(file, places[i], SEEK_SET) && fputs("mla-capture", file) >= 0);
		cr_assert(!fclose(file));
		expect_refused("a.h5", &capture, "there is a capture already; --force replaces it");
	}
	cr_assert(!truncate("a.h5", 0) && !truncate("a.h5", (off_t)1 << 40));
	expect_refused("a.h5", &json,
		       "it holds binary data and would be lost, expected no file, an empty one or "
		       "JSON; choose another name, or remove it first");
}

/* By any name: of links of both kinds, and through another folder. */
Test(output, what_the_command_reads_is_not_replaced)
{
	static const char *const names[] = {"in.h5", "./in.h5", "hard.h5", "soft.h5",
					    "sub/../in.h5"};
	const char *inputs[] = {NULL, "not there", "in.h5"};
	struct output_plan plan = forced;

	plan.inputs = inputs;
	plan.num_inputs = 3;
	put("in.h5", HDF5 "mla-capture");
	cr_assert(!link("in.h5", "hard.h5") && !symlink("in.h5", "soft.h5") && !mkdir("sub", 0777));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		expect_refused(names[i], &plan,
			       "it is an input of the same command, in.h5; choose another name");
	expect_text("in.h5", HDF5 "mla-capture");
}

Test(output, two_outputs_of_a_command_are_two_files)
{
	static const char *const same[] = {"a.json", "./a.json", "sub/../a.json", "here/a.json"};
	static const char *const others[] = {"a.json"};
	const struct output_plan plan = {.kind = OUTPUT_CSV, .others = others, .num_others = 1};
	const struct output_plan none = {
		.kind = OUTPUT_CSV, .others = (const char *const[]){"/dev/null"}, .num_others = 1};
	struct output o;

	cr_assert(!mkdir("sub", 0777) && !symlink(".", "here"));
	for (int there = 0; there < 2; there++) {
		for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
			expect_refused(same[i], &plan,
				       "another output of the same command goes there, a.json; "
				       "choose another name");
		put("a.json", "");
	}
	cr_expect(!output_open(&o, "sub/a.json", &plan), "%s", mla_last_error());
	output_abandon(&o);
	cr_expect(!output_open(&o, "/dev/null", &none), "nothing is lost there");
	output_abandon(&o);
}

/* ---- links ----------------------------------------------------------------------------------- */

Test(output, a_link_stays_and_its_file_is_replaced)
{
	struct stat found;
	struct output o;

	cr_assert(!mkdir("there", 0777) && !mkdir("here", 0777));
	put("there/a.json", OLD);
	cr_assert(!symlink("../there/a.json", "here/link"));
	open_good(&o, "here/link");
	cr_expect_eq(count_files("here"), 1, "written beside the link");
	cr_expect_eq(count_files("there"), 2, "not written beside the file");
	put_good(&o, NEW);
	output_abandon(&o);
	cr_expect(!lstat("here/link", &found) && S_ISLNK(found.st_mode));
	cr_expect(!lstat("there/a.json", &found) && S_ISREG(found.st_mode));
	expect_text("there/a.json", NEW);
	cr_expect_eq(count_files("there"), 1);
}

Test(output, a_link_that_appears_meanwhile_is_replaced_not_followed)
{
	struct output o;

	put("precious", OLD);
	open_good(&o, "a.json");
	cr_assert(!symlink("precious", "a.json"));
	put_good(&o, NEW);
	output_abandon(&o);
	expect_text("precious", OLD);
	expect_text("a.json", NEW);
}

Test(output, a_link_to_nothing_is_refused)
{
	cr_assert(!symlink("nothing", "link"));
	expect_refused("link", &json, "it is a symbolic link to nothing");
	cr_expect_eq(count_files("."), 1);
}

/* ---- what is printed ------------------------------------------------------------------------- */

/* Standard output and standard error into files, the same or two. */
static void print_into(const char *out, const char *err)
{
	const int of_out = open(out, O_WRONLY | O_CREAT | O_APPEND, 0666);
	const int of_err = open(err, O_WRONLY | O_CREAT | O_APPEND, 0666);

	fflush(stdout);
	cr_assert(of_out >= 0 && of_err >= 0 && dup2(of_out, 1) == 1 && dup2(of_err, 2) == 2);
	close(of_out);
	close(of_err);
}

static void put_and_print(const char *path)
{
	struct output o;

	open_good(&o, path);
	cr_expect(output_streams(&o));
	printf("a table\n");
	fflush(stdout);
	put_good(&o, NEW);
	output_abandon(&o);
	printf("more\n");
	fflush(stdout);
}

/* As "--json -", "--json /dev/stdout" and "--json out" of what the shell has sent to "out". */
Test(output, standard_output_takes_the_file_alone)
{
	static const char *const paths[] = {"-", "/dev/stdout", "out"};

	for (int i = 0; i < 3; i++) {
		print_into("out", "err");
		put_and_print(paths[i]);
		expect_text("out", NEW);
		expect_text("err", "a table\nmore\n");
		cr_assert(!unlink("out") && !unlink("err"));
	}
}

Test(output, what_is_printed_goes_nowhere_if_both_are_one)
{
	print_into("both", "both");
	put_and_print("-");
	expect_text("both", NEW);
}

Test(output, a_capture_is_not_printed)
{
	print_into("out", "err");
	expect_refused("out", &capture, "what is printed goes there, too");
	expect_refused("/dev/stdout", &capture, "what is printed goes there, too");
	expect_refused("-", &capture, "what is printed goes there, too");
	expect_text("out", "");
}

/* ---- pipes and devices ----------------------------------------------------------------------- */

static void expect_is_pipe(const char *path)
{
	struct stat found;

	cr_expect(!lstat(path, &found) && S_ISFIFO(found.st_mode), "%s was replaced", path);
}

Test(output, a_pipe_is_written_to)
{
	char text[16] = "";
	int reader;

	cr_assert(!mkfifo("pipe", 0666));
	reader = open("pipe", O_RDONLY | O_NONBLOCK);
	cr_assert(reader >= 0);
	write_good("pipe", "through");
	cr_expect_eq(read(reader, text, sizeof(text) - 1), 7);
	cr_expect_str_eq(text, "through");
	close(reader);
	expect_is_pipe("pipe");
	cr_expect_eq(count_files("."), 1);
}

Test(output, a_pipe_that_nobody_reads_is_not_waited_for, .timeout = 20)
{
	cr_assert(!mkfifo("pipe", 0666));
	expect_refused("pipe", &json, "nobody reads this pipe");
	expect_is_pipe("pipe");
}

/* More than a pipe holds, to a reader that comes late, reads slowly and has it not wait. */
Test(output, a_slow_reader_gets_all)
{
	enum { SIZE = 300000 };
	char *text = malloc(SIZE), got[4096];
	size_t read_in_all = 0;
	struct output o;
	ssize_t n;
	pid_t child;
	int reader;

	cr_assert(text && !mkfifo("pipe", 0666));
	memset(text, 'x', SIZE);
	child = fork();
	if (!child) {
		usleep(200000);
		reader = open("pipe", O_RDONLY);
		while ((n = read(reader, got, sizeof(got))) > 0)
			read_in_all += (size_t)n;
		_exit(read_in_all != SIZE);
	}
	open_good(&o, "pipe");
	cr_assert(!fcntl(o.descriptor, F_SETFL, O_NONBLOCK));
	cr_expect(!output_put(&o, text, SIZE), "%s", mla_last_error());
	output_abandon(&o);
	cr_assert(waitpid(child, &reader, 0) == child);
	cr_expect(WIFEXITED(reader) && !WEXITSTATUS(reader));
	free(text);
}

Test(output, a_reader_that_goes_gets_a_sentence)
{
	struct output o;
	int reader;

	signal(SIGPIPE, SIG_IGN);
	cr_assert(!mkfifo("pipe", 0666));
	reader = open("pipe", O_RDONLY | O_NONBLOCK);
	open_good(&o, "pipe");
	close(reader);
	cr_expect_eq(output_put(&o, "text", 4), MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "pipe: cannot be written: Broken pipe");
	output_abandon(&o);
}

Test(output, a_link_to_a_pipe_is_written_to)
{
	char text[16] = "";
	int ends[2];
	char path[64];

	cr_assert(!pipe(ends));
	snprintf(path, sizeof(path), "/dev/fd/%d", ends[1]);
	write_good(path, "through");
	cr_expect_eq(read(ends[0], text, sizeof(text) - 1), 7);
	cr_expect_str_eq(text, "through");
}

Test(output, a_device_is_written_to)
{
	struct stat found;

	write_good("/dev/null", "gone");
	cr_expect(!stat("/dev/null", &found) && S_ISCHR(found.st_mode));
}

/* To open a pipe would wait for its reader: it is refused before. */
Test(output, a_capture_is_a_regular_file, .timeout = 20)
{
	cr_assert(!mkfifo("pipe", 0666));
	expect_refused("pipe", &capture, "it is a pipe, expected a regular file");
	expect_refused("pipe", &forced, "it is a pipe, expected a regular file");
	expect_refused("/dev/null", &forced, "it is a device, expected a regular file");
	expect_refused("/dev/full", &(struct output_plan){.kind = OUTPUT_JSON, .regular = true},
		       "it is a device, expected a regular file");
	expect_is_pipe("pipe");
}

Test(output, other_kinds_are_refused)
{
	static const char also[] = ", expected a regular file, a pipe or a character device";
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	const int ear = socket(AF_UNIX, SOCK_STREAM, 0);
	char why[128];

	cr_assert(!mkdir("sub", 0777));
	cr_assert(!bind(ear, (const struct sockaddr *)&address, sizeof(address)));
	snprintf(why, sizeof(why), "it is a folder%s", also);
	expect_refused("sub", &json, why);
	snprintf(why, sizeof(why), "it is a socket%s", also);
	expect_refused("socket", &json, why);
	cr_expect_eq(count_files("sub"), 0);
}

/* ---- what cannot be written ------------------------------------------------------------------ */

Test(output, a_path_that_leads_nowhere_gets_a_sentence)
{
	put("file", "");
	expect_fails("no/such/folder", &json, MLA_INVALID, "No such file or directory");
	expect_fails("file/inside", &json, MLA_INVALID, "Not a directory");
	expect_fails("", &json, MLA_INVALID, "No such file or directory");
	expect_fails("folder/", &json, MLA_INVALID, "there is no such folder");
	cr_expect_eq(count_files("."), 1);
}

/* How many of them can be opened. */
static int open_without_rights(void)
{
	static const char *const paths[] = {"closed/new.json", "closed/old.json",
					    "open/read-only.json"};
	int opened = 0;

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct output o;

		opened += !output_open(&o, paths[i], &json) ||
			  !strstr(mla_last_error(), ": cannot be written: Permission denied");
		output_abandon(&o);
	}
	return opened;
}

/* root may write anywhere, so a child becomes nobody. */
Test(output, rights_are_respected)
{
	enum { NOBODY = 65534 };
	int status;
	pid_t child;

	cr_assert(!chmod(".", 0755) && !mkdir("closed", 0777) && !mkdir("open", 0777));
	put("closed/old.json", OLD);
	put("open/read-only.json", OLD);
	cr_assert(!chmod("closed/old.json", 0666) && !chmod("open/read-only.json", 0444));
	cr_assert(!chmod("closed", 0555) && !chmod("open", 0777));
	child = fork();
	if (!child)
		_exit(geteuid() || !setuid(NOBODY) ? open_without_rights() : 99);
	cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
	cr_expect_eq(WEXITSTATUS(status), 0, "%d were opened", WEXITSTATUS(status));
	expect_text("closed/old.json", OLD);
	expect_text("open/read-only.json", OLD);
	cr_assert(!chmod("closed", 0755));
}

Test(output, a_full_device_gets_a_sentence)
{
	struct output o;

	open_good(&o, "/dev/full");
	cr_expect_eq(output_put(&o, "x", 1), MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "/dev/full: cannot be written: No space left on device");
	output_abandon(&o);
}

/* A limit on the size of files stands for a full disk: at every size below the file's. */
Test(output, a_full_disk_leaves_the_old_file)
{
	static char text[5000];
	struct rlimit limit;

	memset(text, 'x', sizeof(text));
	put("a.json", OLD);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert(!getrlimit(RLIMIT_FSIZE, &limit));
	for (rlim_t size = 0; size <= sizeof(text); size += 250) {
		struct output o;

		open_good(&o, "a.json");
		limit.rlim_cur = size;
		cr_assert(!setrlimit(RLIMIT_FSIZE, &limit));
		if (size < sizeof(text)) {
			cr_expect_eq(output_put(&o, text, sizeof(text)), MLA_INVALID);
			cr_expect_str_eq(mla_last_error(),
					 "a.json: cannot be written: File too large");
		} else {
			cr_expect(!output_put(&o, text, sizeof(text)), "%s", mla_last_error());
		}
		output_abandon(&o);
		if (size < sizeof(text))
			expect_text("a.json", OLD);
		cr_expect_eq(count_files("."), 1);
	}
}

/* What took the name meanwhile and cannot be replaced. */
Test(output, a_folder_that_comes_meanwhile_gets_a_sentence)
{
	struct output o;

	open_good(&o, "a.json");
	cr_assert(!mkdir("a.json", 0777));
	cr_expect_eq(output_put(&o, NEW, strlen(NEW)), MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "a.json: cannot be written: Is a directory");
	output_abandon(&o);
	cr_expect_eq(count_files("."), 1);
}

/* ---- signals --------------------------------------------------------------------------------- */

Test(output, a_signal_finds_what_is_not_whole)
{
	struct output a, b;
	const char *name;
	bool named;
	int at = 0, found = 0;
	pid_t child;

	cr_expect(!output_any());
	open_good(&a, "a.json");
	open_good(&b, "b.json");
	put_good(&b, NEW);
	cr_expect(output_any());
	child = fork();
	if (!child) /* a child leaves alone what is not its own */
		_exit(output_any() || output_rescue(&at, &named));
	cr_assert(waitpid(child, &at, 0) == child && !at);
	cr_expect_eq(count_files("."), 2);
	while ((name = output_rescue(&at, &named)))
		found += named == !strcmp(name, "b.json");
	cr_expect_eq(found, 2);
	expect_text("b.json", NEW);
	cr_expect_eq(count_files("."), 1);
	output_abandon(&a);
	output_abandon(&b);
	cr_expect(!output_any());
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static mla_status write_json(const char *path, const json_t *root)
{
	struct output o;
	mla_status status = output_open(&o, path, &json);

	if (!status)
		status = output_put_json(&o, root);
	output_abandon(&o);
	return status;
}

Test(output, json_is_indented_and_ends_with_a_line_feed)
{
	json_t *root = json_pack("{s:i}", "one", 1);

	cr_assert(!write_json("a.json", root), "%s", mla_last_error());
	expect_text("a.json", "{\n \"one\": 1\n}\n");
	cr_expect_eq(write_json("/dev/full", root), MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "/dev/full: cannot be written: No space left on device");
	cr_expect_eq(write_json("a.json", NULL), MLA_NO_MEMORY, "there was nothing to write");
	expect_text("a.json", "{\n \"one\": 1\n}\n");
	cr_expect_eq(count_files("."), 1);
	json_decref(root);
}
