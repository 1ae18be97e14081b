/* Control agent of the guest: one shell command per TCP connection.
 *
 * Both directions are frames: one octet of kind, four octets of length (most significant first), the content.
 *   host to guest   c  command, once, first     i  input for it     z  end of input     s  signal number (1 octet)
 *   guest to host   p  process id, when started o  output           e  error output     x  exit status, last
 * Numbers of p and x are decimal text. When the host closes the connection the command is killed; when the command
 * ends, what it started and left in its process group is killed as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONGEST_COMMAND = 1 << 20, BLOCK = 1 << 16 };

static struct command {
	pid_t pid;
	int input, output, error; /* our ends of its pipes, -1 when closed */
	size_t pending;           /* octets of an input frame still to be taken from the host */
} cmd = { .input = -1, .output = -1, .error = -1 };

static char block[BLOCK];

static int read_all(int fd, void *to, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = read(fd, (char *)to + done, length - done);
		if (n <= 0 && !(n < 0 && errno == EINTR))
			return -1;
		if (n > 0)
			done += n;
	}
	return 0;
}

static int write_all(int fd, const void *from, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = write(fd, (const char *)from + done, length - done);
		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			done += n;
	}
	return 0;
}

static int send_frame(int host, char kind, const void *content, uint32_t length)
{
	char head[5] = { kind };
	uint32_t be = htonl(length);
	memcpy(head + 1, &be, 4);
	return write_all(host, head, sizeof head) || write_all(host, content, length) ? -1 : 0;
}

static int send_number(int host, char kind, int value)
{
	char text[16];
	return send_frame(host, kind, text, snprintf(text, sizeof text, "%d", value));
}

static int receive_head(int host, char *kind, uint32_t *length)
{
	char head[5];
	if (read_all(host, head, sizeof head))
		return -1;
	*kind = head[0];
	memcpy(length, head + 1, 4);
	*length = ntohl(*length);
	return 0;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void become(char *command, int in[2], int out[2], int err[2])
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	dup2(in[0], 0);
	dup2(out[1], 1);
	dup2(err[1], 2);
	if (chdir("/root") == 0)
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

static int start(char *command)
{
	int in[2], out[2], err[2];
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return -1;
	cmd.pid = fork();
	if (cmd.pid == 0)
		become(command, in, out, err);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	cmd.input = in[1];
	cmd.output = out[0];
	cmd.error = err[0];
	fcntl(cmd.output, F_SETFL, O_NONBLOCK);
	fcntl(cmd.error, F_SETFL, O_NONBLOCK);
	fcntl(cmd.input, F_SETFL, O_NONBLOCK);
	return cmd.pid < 0 ? -1 : 0;
}

/* Pass on what the command wrote; 1 if there may be more. */
static int pass_output(int host, char kind, int *fd)
{
	ssize_t n = read(*fd, block, sizeof block);
	if (n > 0)
		return send_frame(host, kind, block, n) ? -1 : 1;
	if (n == 0 || errno != EAGAIN)
		close_end(fd);
	return 0;
}

/* Take a frame's head from the host and obey it; input itself is left for pass_input(). */
static int obey(int host)
{
	char kind;
	uint32_t length;
	unsigned char number;
	if (receive_head(host, &kind, &length))
		return -1;
	if (kind == 'i')
		cmd.pending = length;
	else if (kind == 'z' && length == 0)
		close_end(&cmd.input);
	else if (kind == 's' && length == 1 && read_all(host, &number, 1) == 0)
		kill(-cmd.pid, number);
	else
		return -1;
	return 0;
}

/* Move input from the host to the command, only as much as its pipe takes; a command that closed it loses the rest. */
static int pass_input(int host)
{
	static char input[4096]; /* PIPE_BUF: a pipe that polls writable takes that much at once */
	size_t n = cmd.pending < sizeof input ? cmd.pending : sizeof input;
	if (read_all(host, input, n))
		return -1;
	cmd.pending -= n;
	if (cmd.input >= 0 && write_all(cmd.input, input, n))
		close_end(&cmd.input);
	return 0;
}

static int host_to_command(int host)
{
	return cmd.pending ? pass_input(host) : obey(host);
}

/* Until the command ends (its wait status) or the host is gone (-1). */
static int relay(int host, int children)
{
	int status;
	while (waitpid(cmd.pid, &status, WNOHANG) != cmd.pid) {
		int full = cmd.pending && cmd.input >= 0;
		struct pollfd p[] = {
			{ children, POLLIN, 0 },
			{ cmd.output, POLLIN, 0 },
			{ cmd.error, POLLIN, 0 },
			{ full ? cmd.input : -1, POLLOUT, 0 },
			{ host, full ? POLLRDHUP : POLLIN, 0 },
		};
		if (poll(p, 5, -1) < 0)
			continue;
		if (p[0].revents && read(children, block, sizeof(struct signalfd_siginfo)) < 0)
			return -1;
		if (p[1].revents && pass_output(host, 'o', &cmd.output) < 0)
			return -1;
		if (p[2].revents && pass_output(host, 'e', &cmd.error) < 0)
			return -1;
		if (full ? p[3].revents != 0 : p[4].revents != 0) {
			if (host_to_command(host))
				return -1;
		} else if (p[4].revents) {
			return -1;
		}
	}
	return status;
}

static void serve(int host)
{
	char kind, *command;
	uint32_t length;
	int one = 1, status;
	sigset_t child;
	setsockopt(host, SOL_TCP, TCP_NODELAY, &one, sizeof one);
	if (receive_head(host, &kind, &length) || kind != 'c' || length > LONGEST_COMMAND)
		return;
	command = calloc(1, length + 1);
	if (!command || read_all(host, command, length))
		return;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	int children = signalfd(-1, &child, SFD_CLOEXEC);
	if (start(command) || send_number(host, 'p', cmd.pid))
		return;
	status = relay(host, children);
	kill(-cmd.pid, SIGKILL);
	if (status < 0)
		return;
	while (cmd.output >= 0 && pass_output(host, 'o', &cmd.output) > 0)
		;
	while (cmd.error >= 0 && pass_output(host, 'e', &cmd.error) > 0)
		;
	send_number(host, 'x', WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	/* closing now, with a frame of the host unread, would reset the connection and lose the last frames sent */
	shutdown(host, SHUT_WR);
	while (read(host, block, sizeof block) > 0)
		;
}

int main(int argc, char **argv)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 9001) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 64)) {
		perror("agent");
		return 1;
	}
	if (daemon(1, 1)) /* whoever started us knows by our end that we listen */
		return 1;
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (host < 0)
			continue;
		if (fork() == 0) {
			close(listener);
			serve(host);
			_exit(0);
		}
		close(host);
	}
}
