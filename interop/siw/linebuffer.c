/* Preloaded into every dynamic program of the guest: its output is sent line by line although it goes to a pipe,
 * so the host can wait for what a running program says. */
#include <stdio.h>

__attribute__((constructor)) static void line_buffer(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}
