#!/usr/bin/env bash
# compile_commands.sh - what make -n prints, as a compilation database: one entry per line that compiles.
#
#     make -nB V=1 ... | harness/tools/compile_commands.sh FOLDER >compile_commands.json
set -euo pipefail

awk -v folder="$1" '
function quoted(text) {
	gsub(/\\/, "\\\\", text)
	gsub(/"/, "\\\"", text)
	return "\"" text "\""
}

{
	sub(/^\t+/, "") # of a rule that goes on
	line = line $0
	if (sub(/\\$/, "", line))
		next
	command = line
	line = ""
	sub(/ *>[^ ]*\.ptxas .*/, "", command) # where what the compiler says goes is not its business
	if (!match(command, / -c [^ ]+ -o [^ ]+$/))
		next
	split(substr(command, RSTART), word, " ")
	if (count++)
		print ","
	printf "{\"directory\": %s,\n \"file\": %s,\n \"output\": %s,\n \"command\": %s}", quoted(folder), \
		quoted(word[2]), quoted(word[4]), quoted(command)
}

BEGIN { print "[" }
END { print "\n]" }'
