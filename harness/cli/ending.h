/* ending.h - how the program ends when it is made to: by a signal, a limit, a reader that has gone.
 */
#ifndef MLA_CLI_ENDING_H
#define MLA_CLI_ENDING_H

/* From now on a signal that ends the program leaves no half-written file: one sentence and
 * CLI_BAD_FILE while an output is open, else as ever. What cannot be written is told by write(),
 * not by a signal. Standard descriptors that are closed are opened on /dev/null, so that no file
 * takes their place. A library that ends the program leaves none either, and its code for failure
 * becomes CLI_BAD_FILE. Called first. */
void ending_prepare(void);

/* The exit code, after what was printed has gone out: a full disk must not look like success. */
int ending_code(int code);

#endif
