#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORDS = 32 };

FILE *reply;
const char *failed_call;
int failed_errno;

static char *words[WORDS];
static char asked[WORDS];
static int word_count;

char *split(char *line)
{
	char *rest;
	word_count = 0;
	memset(asked, 0, sizeof asked);
	for (char *w = strtok_r(line, " \r\n", &rest); w && word_count < WORDS; w = strtok_r(NULL, " \r\n", &rest))
		words[word_count++] = w;
	return word_count ? words[0] : NULL;
}

const char *text(const char *key, const char *otherwise)
{
	size_t n = strlen(key);
	for (int i = 1; i < word_count; i++)
		if (!strncmp(words[i], key, n) && words[i][n] == '=') {
			asked[i] = 1;
			return words[i] + n + 1;
		}
	return otherwise;
}

uint64_t number(const char *key, uint64_t otherwise)
{
	const char *value = text(key, NULL);
	return value ? strtoull(value, NULL, 0) : otherwise;
}

const char *unasked(void)
{
	for (int i = 1; i < word_count; i++)
		if (!asked[i])
			return words[i];
	return NULL;
}

static int digit(char c)
{
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= '0' && c <= '9' ? c - '0' : -1;
}

size_t unhex(const char *hex, unsigned char *to, size_t most)
{
	size_t n = 0;
	for (; n < most && digit(hex[0]) >= 0 && digit(hex[1]) >= 0; hex += 2)
		to[n++] = digit(hex[0]) << 4 | digit(hex[1]);
	return n;
}

void put_hex(const char *key, const unsigned char *from, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	fprintf(reply, " %s=", key);
	for (size_t i = 0; i < length; i++) {
		putc(digits[from[i] >> 4], reply);
		putc(digits[from[i] & 15], reply);
	}
}

int fail(const char *call, int error)
{
	failed_call = call;
	failed_errno = error < 0 ? -error : error; /* libsiw returns negative ones */
	return -1;
}

int check(const char *call, int result)
{
	return result ? fail(call, result == -1 ? errno : result) : 0;
}

int64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int readable(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	return poll(&p, 1, ms) > 0;
}
