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

static void open_good(struct output *o, const char *path)
{
	cr_assert(!output_open(o, path, OUTPUT_STREAM), "%s", mla_last_error());
}

static void commit_good(struct output *o)
{
	cr_assert(!output_commit(o), "%s", mla_last_error());
}

static void write_good(const char *path, const char *text)
{
	struct output o;

	open_good(&o, path);
	fputs(text, o.stream);
	commit_good(&o);
}

static void expect_refused(const char *path, enum output_use use, const char *why)
{
	char expected[512];
	struct output o;

	snprintf(expected, sizeof(expected), "%s: cannot be written: %s", path, why);
	cr_expect_eq(output_open(&o, path, use), MLA_INVALID, "%s was opened", path);
	cr_expect_str_eq(mla_last_error(), expected);
	cr_expect(!o.stream && !o.path);
	output_abandon(&o);
}

/* ---- regular files --------------------------------------------------------------------------- */

Test(output, a_new_file_is_written)
{
	write_good("new.txt", "new");
	expect_text("new.txt", "new");
	cr_expect_eq(count_files("."), 1);
}

Test(output, the_old_file_stays_until_the_new_one_is_whole)
{
	struct output o;

	put("a.txt", "old");
	open_good(&o, "a.txt");
	fputs("new", o.stream);
	fflush(o.stream);
	expect_text("a.txt", "old");
	commit_good(&o);
	expect_text("a.txt", "new");
	cr_expect_eq(count_files("."), 1);
}

Test(output, what_is_abandoned_leaves_nothing)
{
	struct output zero = {0}, o;

	put("a.txt", "old");
	open_good(&o, "a.txt");
	fputs("new", o.stream);
	cr_expect_eq(count_files("."), 2);
	output_abandon(&o);
	output_abandon(&o);
	output_abandon(&zero);
	expect_text("a.txt", "old");
	cr_expect_eq(count_files("."), 1);
}

Test(output, what_is_published_is_seen_and_grows)
{
	struct output o;

	put("a.txt", "old");
	open_good(&o, "a.txt");
	fputs("one", o.stream);
	cr_assert(!output_publish(&o), "%s", mla_last_error());
	expect_text("a.txt", "one");
	fputs(" two", o.stream);
	cr_assert(!output_publish(&o), "%s", mla_last_error());
	expect_text("a.txt", "one two");
	fputs(" three", o.stream);
	output_abandon(&o);
	cr_expect_eq(count_files("."), 1);
}

Test(output, two_writers_at_once_both_end_whole)
{
	struct output a, b;

	open_good(&a, "a.txt");
	open_good(&b, "a.txt");
	fputs("the first", a.stream);
	fputs("the second", b.stream);
	commit_good(&a);
	expect_text("a.txt", "the first");
	commit_good(&b);
	expect_text("a.txt", "the second");
	cr_expect_eq(count_files("."), 1);
}

Test(output, the_temporary_name_is_another_each_time_and_in_the_same_folder)
{
	char seen[64][64];

	cr_assert(!mkdir("sub", 0777));
	for (int i = 0; i < 64; i++) {
		struct output o;

		open_good(&o, "sub/a.txt");
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

Test(output, the_mode_is_that_of_the_umask)
{
	static const mode_t masks[] = {022, 077, 0};

	for (size_t i = 0; i < sizeof(masks) / sizeof(*masks); i++) {
		struct stat found;

		umask(masks[i]);
		write_good("a.txt", "text");
		cr_assert(!stat("a.txt", &found));
		cr_expect_eq(found.st_mode & 0777, 0666 & ~masks[i], "%o", found.st_mode);
	}
}

/* A library that is given the path writes where the stream would. */
Test(output, a_library_writes_by_the_path)
{
	struct output o;

	put("a.txt", "old");
	cr_assert(!output_open(&o, "a.txt", OUTPUT_NAMED), "%s", mla_last_error());
	put(o.path, "by name");
	expect_text("a.txt", "old");
	commit_good(&o);
	expect_text("a.txt", "by name");
}

/* ---- links ----------------------------------------------------------------------------------- */

Test(output, a_link_stays_and_its_file_is_replaced)
{
	struct stat found;
	struct output o;

	cr_assert(!mkdir("there", 0777) && !mkdir("here", 0777));
	put("there/a.txt", "old");
	cr_assert(!symlink("../there/a.txt", "here/link"));
	open_good(&o, "here/link");
	fputs("new", o.stream);
	cr_expect_eq(count_files("here"), 1, "written beside the link");
	cr_expect_eq(count_files("there"), 2, "not written beside the file");
	commit_good(&o);
	cr_expect(!lstat("here/link", &found) && S_ISLNK(found.st_mode));
	cr_expect(!lstat("there/a.txt", &found) && S_ISREG(found.st_mode));
	expect_text("there/a.txt", "new");
	cr_expect_eq(count_files("there"), 1);
}

Test(output, a_link_that_appears_meanwhile_is_replaced_not_followed)
{
	struct output o;

	put("precious", "old");
	open_good(&o, "a.txt");
	fputs("new", o.stream);
	cr_assert(!symlink("precious", "a.txt"));
	commit_good(&o);
	expect_text("precious", "old");
	expect_text("a.txt", "new");
}

Test(output, a_link_to_nothing_is_refused)
{
	cr_assert(!symlink("nothing", "link"));
	expect_refused("link", OUTPUT_STREAM, "it is a symbolic link to nothing");
	cr_expect_eq(count_files("."), 1);
}

/* As in "mla ... --json all.txt >all.txt", or --json /dev/stdout. */
Test(output, what_takes_the_printed_text_is_not_replaced)
{
	static const char why[] = "what is printed goes there, too";

	put("all.txt", "printed");
	cr_assert(freopen("all.txt", "a", stdout));
	expect_refused("all.txt", OUTPUT_STREAM, why);
	expect_refused("/dev/stdout", OUTPUT_STREAM, why);
	expect_text("all.txt", "printed");
	cr_expect_eq(count_files("."), 1);
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
Test(output, a_library_gets_regular_files_only, .timeout = 20)
{
	cr_assert(!mkfifo("pipe", 0666));
	expect_refused("pipe", OUTPUT_NAMED, "it is a pipe, expected a regular file");
	expect_refused("/dev/null", OUTPUT_NAMED, "it is a device, expected a regular file");
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
	expect_refused("sub", OUTPUT_STREAM, why);
	snprintf(why, sizeof(why), "it is a socket%s", also);
	expect_refused("socket", OUTPUT_STREAM, why);
	cr_expect_eq(count_files("sub"), 0);
}

/* ---- what cannot be written ------------------------------------------------------------------ */

Test(output, a_path_that_leads_nowhere_gets_a_sentence)
{
	put("file", "");
	expect_refused("no/such/folder", OUTPUT_STREAM, "No such file or directory");
	expect_refused("file/inside", OUTPUT_STREAM, "Not a directory");
	expect_refused("", OUTPUT_STREAM, "No such file or directory");
	expect_refused("folder/", OUTPUT_STREAM, "No such file or directory");
	cr_expect_eq(count_files("."), 1);
}

/* How many of them can be opened. */
static int open_without_rights(void)
{
	static const char *const paths[] = {"closed/new.txt", "closed/old.txt",
					    "open/read-only.txt"};
	int opened = 0;

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct output o;

		opened += !output_open(&o, paths[i], OUTPUT_STREAM) ||
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
	put("closed/old.txt", "old");
	put("open/read-only.txt", "old");
	cr_assert(!chmod("closed/old.txt", 0666) && !chmod("open/read-only.txt", 0444));
	cr_assert(!chmod("closed", 0555) && !chmod("open", 0777));
	child = fork();
	if (!child)
		_exit(geteuid() || !setuid(NOBODY) ? open_without_rights() : 99);
	cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
	cr_expect_eq(WEXITSTATUS(status), 0, "%d were opened", WEXITSTATUS(status));
	expect_text("closed/old.txt", "old");
	expect_text("open/read-only.txt", "old");
	cr_assert(!chmod("closed", 0755));
}

/* A little fails when it is flushed; much has failed before, which must not be forgotten. */
Test(output, a_full_device_gets_a_sentence)
{
	static const int sizes[] = {1, 1000000};

	for (int i = 0; i < 2; i++) {
		struct output o;

		open_good(&o, "/dev/full");
		for (int k = 0; k < sizes[i]; k++)
			fputc('x', o.stream);
		cr_expect_eq(output_commit(&o), MLA_INVALID);
		cr_expect_str_eq(mla_last_error(),
				 "/dev/full: cannot be written: No space left on device");
		cr_expect(!o.stream);
	}
}

/* A limit on the size of files stands for a full disk. It is lifted before the end or not: a part
 * that could not be written is missing either way. */
static void expect_file_too_large(bool lifted, const char *why)
{
	struct rlimit limit = {1000, 100000};
	struct output o;

	put("a.txt", "old");
	signal(SIGXFSZ, SIG_IGN);
	cr_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	open_good(&o, "a.txt");
	for (int i = 0; i < 20000; i++)
		fputc('x', o.stream);
	limit.rlim_cur = lifted ? limit.rlim_max : limit.rlim_cur;
	cr_assert(!setrlimit(RLIMIT_FSIZE, &limit));
	cr_expect_eq(output_commit(&o), MLA_INVALID);
	cr_expect(!strncmp(mla_last_error(), "a.txt: cannot be written: ", 26) &&
			  strstr(mla_last_error(), why),
		  "%s", mla_last_error());
	expect_text("a.txt", "old");
	cr_expect_eq(count_files("."), 1);
}

Test(output, a_full_disk_leaves_the_old_file)
{
	expect_file_too_large(false, "File too large");
}

Test(output, an_earlier_error_is_not_forgotten)
{
	expect_file_too_large(true, "Input/output error");
}

/* ---- JSON ------------------------------------------------------------------------------------ */

Test(output, json_is_indented_and_ends_with_a_line_feed)
{
	json_t *root = json_pack("{s:i}", "one", 1);

	cr_assert(!output_json("a.json", root), "%s", mla_last_error());
	expect_text("a.json", "{\n \"one\": 1\n}\n");
	cr_expect_eq(output_json("/dev/full", root), MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "/dev/full: cannot be written: No space left on device");
	cr_expect_eq(output_json("a.json", NULL), MLA_NO_MEMORY, "there was nothing to write");
	expect_text("a.json", "{\n \"one\": 1\n}\n");
	cr_expect_eq(count_files("."), 1);
	json_decref(root);
}
