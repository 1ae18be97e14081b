/* Lines of command and reply, for programs that a script drives: a command is a word and key=value pairs, numbers are
 * as in C, data is hex. A reply is what was printed to `reply`, or says what failed. */
#ifndef LINES_H
#define LINES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern FILE *reply;
extern const char *failed_call;
extern int failed_errno;

/* Take a command apart; its first word, or NULL if there is none. */
char *split(char *line);

/* The value of a key; numbers are 0 where there are no digits. */
const char *text(const char *key, const char *otherwise);
uint64_t number(const char *key, uint64_t otherwise);

/* The first word that is not a pair whose key was asked for since `split`, or NULL. */
const char *unasked(void);

size_t unhex(const char *hex, unsigned char *to, size_t most);
void put_hex(const char *key, const unsigned char *from, size_t length);

/* Remember which call failed and why: both return -1 then. `check` takes what calls return, 0 for success. */
int fail(const char *call, int error);
int check(const char *call, int result);

int64_t milliseconds(void);
int readable(int fd, int ms);

#endif
