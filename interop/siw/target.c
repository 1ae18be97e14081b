/* The target program of conformance tests on libibverbs and librdmacm: docs/target.md is its protocol.
 *
 *   target PORT CONTROL [VARIANT]      iWARP connections on PORT, commands on CONTROL, one control connection at a time
 *
 * What siw leaves to nobody is answered by "! cannot": CRC, markers, the MPA revision, RFC 7306. VARIANT is the kernel
 * module's name, as some of them do what the stock one does not.
 */
#define _GNU_SOURCE
#include "lines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REGIONS = 5, SCRATCH = 4, RECEIVES = 256, POSTS = 256, COMPLETIONS = 4096, MAX_SGE = 6, MAX_UNASKED = 32 };
enum { MAX_REGION = 1 << 20, MAX_MEMORY = 32 << 20, MAX_GUARD = 4096, LINE = 4 << 20, LONGEST = 60000 };
enum { FILL = 0xa5, PRIVATE = 512, RESOLVING = 5000, TICK = 2, DATA = 252 /* what siw takes beside RFC 6581's word */ };
#define RECEIVED (1ull << 63) /* in the identifier of a work request: the rest is the number of a receive */

struct memory { /* guard, octets, guard; mapped, as siw knows memory by pages */
	unsigned char *base, *octets;
	size_t length, guard;
	struct ibv_mr *mr;
	struct memory *next;
};

struct posted {
	uint64_t number;
	const char *operation;
};

enum state { WAITING, CONNECTED, CLOSING, CLOSED, FAILED, REJECTED };
static const char *const state_names[] = { "waiting", "connected", "closing", "closed", "error", "rejected" };

struct session {
	struct session *next;
	int asked; /* whether it belongs to the control connection */
	struct ibv_pd *pd, *others;
	struct memory regions[REGIONS], receives[RECEIVES], *sent;
	int receive_count, room;
	size_t memory_left, guard;
	struct posted *posted;
	int posted_count;
	struct rdma_cm_id *id;
	struct ibv_cq *cq;
	struct rdma_conn_param param;
	unsigned char data[PRIVATE], peer_data[PRIVATE];
	size_t peer_length;
	int peer_ird, peer_ord, reject;
	int64_t delay, decide_at;
	enum state state;
	int responder;
	char cause[48];
};

static const char *const region_names[REGIONS] = { "rw", "ro", "wo", "other", "scratch" };
static const int rights[REGIONS] = { IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ,
				     IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE, 0 };

static struct session *sessions, *current;
static struct ibv_context *device;
static struct rdma_event_channel *events;
static struct rdma_cm_id *listener;
static const char *variant = "siw";
static int commands_come, control = -1;
static uint32_t crc_table[256];

/* -- refusing */

static char refusal[256]; /* NAME text; empty if a call failed instead */

__attribute__((format(printf, 1, 2))) static int refuse(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	vsnprintf(refusal, sizeof refusal, format, values);
	va_end(values);
	return -1;
}

/* What a command does not know is found before anything is done. */
static int end(void)
{
	const char *word = unasked();
	return word ? refuse("cannot there is no %.40s here", word) : 0;
}

static int bounded(const char *key, uint64_t otherwise, uint64_t most, uint64_t *value)
{
	*value = number(key, otherwise);
	return *value > most ? refuse("bad %s is more than %lu", key, (unsigned long)most) : 0;
}

/* A key that has only one value here, and may as well be left out. */
static int fixed(const char *key, const char *only)
{
	const char *value = text(key, only);
	return strcmp(value, only) ? refuse("cannot %s is always %s here", key, only) : 0;
}

/* -- memory */

static void pattern(unsigned char *to, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		to[i] = i * 7 + seed;
}

static int make_memory(struct session *s, struct memory *m, struct ibv_pd *pd, size_t length, int access)
{
	size_t whole = length + 2 * s->guard;
	int map = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	if (whole > s->memory_left)
		return refuse("full a session has at most %d octets of memory", MAX_MEMORY);
	m->base = mmap(NULL, whole ? whole : 1, PROT_READ | PROT_WRITE, map, -1, 0);
	if (m->base == MAP_FAILED) {
		m->base = NULL;
		return fail("mmap", errno);
	}
	memset(m->base, FILL, whole);
	m->octets = m->base + s->guard;
	m->length = length;
	m->guard = s->guard;
	m->mr = ibv_reg_mr(pd, m->octets, length ? length : 1, IBV_ACCESS_LOCAL_WRITE | access);
	if (!m->mr) {
		fail("ibv_reg_mr", errno);
		munmap(m->base, whole ? whole : 1);
		m->base = NULL;
		return -1;
	}
	s->memory_left -= whole;
	return 0;
}

static void drop_memory(struct memory *m)
{
	size_t whole = m->length + 2 * m->guard;
	if (m->mr)
		ibv_dereg_mr(m->mr);
	if (m->base)
		munmap(m->base, whole ? whole : 1);
}

static const char *guarded(const struct memory *m)
{
	for (size_t i = 0; i < m->guard; i++)
		if (m->base[i] != FILL || m->octets[m->length + i] != FILL)
			return "broken";
	return "ok";
}

/* CRC-32C, as iSCSI and MPA have it */
static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
		crc_table[i] = c;
	}
}

static uint32_t crc32c(const unsigned char *from, size_t length)
{
	uint32_t crc = ~0u;
	while (length--)
		crc = crc >> 8 ^ crc_table[(crc ^ *from++) & 255];
	return ~crc;
}

/* -- sessions */

static struct ibv_sge element(const struct memory *m, size_t offset, size_t length)
{
	struct ibv_sge sge = { (uintptr_t)m->octets + offset, length, m->mr->lkey };
	return sge;
}

static int post_receive(struct session *s, int i)
{
	struct ibv_sge sge = element(&s->receives[i], 0, s->receives[i].length);
	struct ibv_recv_wr work = { .wr_id = RECEIVED | i, .sg_list = &sge, .num_sge = 1 }, *bad;
	return check("ibv_post_recv", ibv_post_recv(s->id->qp, &work, &bad));
}

static int add_receive(struct session *s, size_t size)
{
	struct memory *m = &s->receives[s->receive_count];
	if (s->receive_count == RECEIVES)
		return refuse("full a session has at most %d receives", RECEIVES);
	if (!s->room)
		return refuse("full %d completions were not asked for", COMPLETIONS);
	if (make_memory(s, m, s->pd, size, 0))
		return -1;
	s->receive_count++;
	s->room--;
	return s->cq ? post_receive(s, s->receive_count - 1) : 0; /* else when there is a queue pair */
}

static int add_receives(struct session *s, const char *sizes)
{
	char *list = strdupa(sizes), *rest, *size;
	for (char *each = list; *each; each++)
		if (!strchr("0123456789abcdefx,", *each))
			return refuse("bad sizes are numbers with commas");
	for (size = strtok_r(list, ",", &rest); size; size = strtok_r(NULL, ",", &rest)) {
		uint64_t octets = strtoull(size, NULL, 0);
		if (octets > MAX_REGION)
			return refuse("bad a receive has at most %d octets", MAX_REGION);
		if (add_receive(s, octets))
			return -1;
	}
	return 0;
}

static void *free_session(void *dropped)
{
	struct session *s = dropped;
	struct memory *m, *next;
	if (s->id && s->id->qp)
		rdma_destroy_qp(s->id);
	if (s->cq)
		ibv_destroy_cq(s->cq);
	if (s->id)
		rdma_destroy_id(s->id);
	for (int i = 0; i < REGIONS; i++)
		drop_memory(&s->regions[i]);
	for (int i = 0; i < s->receive_count; i++)
		drop_memory(&s->receives[i]);
	for (m = s->sent; m; m = next) {
		next = m->next;
		drop_memory(m);
		free(m);
	}
	if (s->others)
		ibv_dealloc_pd(s->others);
	if (s->pd)
		ibv_dealloc_pd(s->pd);
	free(s->posted);
	free(s);
	return NULL;
}

/* While it connects, an identifier is only destroyed when the peer has answered, or siw has given it up: that may take
 * ten seconds, in which commands are to be carried out. */
static void drop_session(struct session *s)
{
	struct session **link = &sessions;
	pthread_t thread;
	while (*link && *link != s)
		link = &(*link)->next;
	if (*link)
		*link = s->next;
	if (s->id)
		s->id->context = NULL; /* no event of it is of interest any more */
	if (s->id && s->state == WAITING && !s->responder && !pthread_create(&thread, NULL, free_session, s))
		pthread_detach(thread);
	else
		free_session(s);
}

static struct session *new_session(int asked, size_t region_size, size_t guard, size_t scratch, const char *receives)
{
	struct session *s = calloc(1, sizeof *s), **last = &sessions;
	if (!s || !(s->posted = calloc(COMPLETIONS, sizeof *s->posted))) {
		fail("calloc", ENOMEM);
		free(s);
		return NULL;
	}
	while (*last)
		last = &(*last)->next;
	*last = s;
	s->asked = asked;
	s->room = COMPLETIONS;
	s->memory_left = MAX_MEMORY;
	s->guard = guard;
	s->peer_ird = s->peer_ord = -1;
	s->pd = ibv_alloc_pd(device);
	s->others = ibv_alloc_pd(device);
	if (!s->pd || !s->others) {
		fail("ibv_alloc_pd", errno);
		drop_session(s);
		return NULL;
	}
	for (int i = 0; i < REGIONS; i++) {
		size_t size = i == SCRATCH ? scratch : region_size;
		if (make_memory(s, &s->regions[i], i == 3 ? s->others : s->pd, size, rights[i])) {
			drop_session(s);
			return NULL;
		}
		if (i != SCRATCH)
			pattern(s->regions[i].octets, size, i + 1);
	}
	if (add_receives(s, receives)) {
		drop_session(s);
		return NULL;
	}
	return s;
}

/* -- connections */

static void failing(struct session *s, const char *cause, int status)
{
	s->state = FAILED;
	if (status)
		snprintf(s->cause, sizeof s->cause, "%s%d", cause, status);
	else
		snprintf(s->cause, sizeof s->cause, "%s", cause);
}

static int make_queues(struct session *s)
{
	struct ibv_qp_init_attr attributes = {
		.qp_type = IBV_QPT_RC,
		.cap = { POSTS, RECEIVES, MAX_SGE, MAX_SGE, 0 },
	};
	s->cq = ibv_create_cq(s->id->verbs, COMPLETIONS, NULL, NULL, 0);
	if (!s->cq)
		return fail("ibv_create_cq", errno);
	attributes.send_cq = attributes.recv_cq = s->cq;
	if (check("rdma_create_qp", rdma_create_qp(s->id, s->pd, &attributes)))
		return -1;
	for (int i = 0; i < s->receive_count; i++)
		if (post_receive(s, i))
			return -1;
	return 0;
}

static void decide(struct session *s)
{
	s->decide_at = 0;
	if (s->reject) {
		rdma_reject(s->id, s->param.private_data, s->param.private_data_len);
		s->state = REJECTED;
	} else if (make_queues(s) || check("rdma_accept", rdma_accept(s->id, &s->param))) {
		failing(s, failed_call, failed_errno);
	}
}

static void remember_peer(struct session *s, const struct rdma_conn_param *param)
{
	s->peer_ird = param->initiator_depth; /* librdmacm tells it as what this side may use */
	s->peer_ord = param->responder_resources;
	if (!param->private_data)
		return;
	s->peer_length = param->private_data_len; /* an octet, whatever came */
	memcpy(s->peer_data, param->private_data, s->peer_length);
}

static void take_request(struct rdma_cm_event *event)
{
	struct session *s = sessions;
	int unasked_count = 0;
	for (struct session *each = sessions; each; each = each->next)
		unasked_count += !each->asked;
	while (s && (s->id || s->state != WAITING))
		s = s->next;
	if (!s && unasked_count < MAX_UNASKED)
		s = new_session(0, 4096, 64, 4096, "4096,4096,4096,4096,4096,4096,4096,4096");
	if (!s) {
		rdma_reject(event->id, NULL, 0);
		rdma_destroy_id(event->id);
		return;
	}
	if (!s->asked)
		s->param.responder_resources = s->param.initiator_depth = 16;
	s->id = event->id;
	s->id->context = s;
	s->responder = 1;
	remember_peer(s, &event->param.conn);
	s->decide_at = milliseconds() + s->delay;
}

static void take_cm_event(struct session *s, struct rdma_cm_event *event)
{
	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (check("rdma_resolve_route", rdma_resolve_route(s->id, RESOLVING)))
			failing(s, failed_call, failed_errno);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		if (make_queues(s) || check("rdma_connect", rdma_connect(s->id, &s->param)))
			failing(s, failed_call, failed_errno);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		s->state = CONNECTED;
		if (!s->responder)
			remember_peer(s, &event->param.conn);
		break;
	case RDMA_CM_EVENT_REJECTED:
		s->state = REJECTED;
		snprintf(s->cause, sizeof s->cause, "REJECTED%d", event->status);
		remember_peer(s, &event->param.conn);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		s->state = s->cause[0] ? FAILED : CLOSED;
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		break;
	default:
		failing(s, rdma_event_str(event->event) + strlen("RDMA_CM_EVENT_"), event->status);
	}
}

static void take_event(void)
{
	struct rdma_cm_event *event, copy;
	unsigned char data[PRIVATE];
	struct session *s;
	if (rdma_get_cm_event(events, &event))
		return;
	copy = *event;
	if (copy.param.conn.private_data) { /* it goes with the event */
		memcpy(data, copy.param.conn.private_data, copy.param.conn.private_data_len);
		copy.param.conn.private_data = data;
	}
	s = copy.event == RDMA_CM_EVENT_CONNECT_REQUEST ? NULL : copy.id->context;
	rdma_ack_cm_event(event); /* from here on its identifier may go */
	if (copy.event == RDMA_CM_EVENT_CONNECT_REQUEST)
		take_request(&copy);
	else if (s)
		take_cm_event(s, &copy);
}

static const char *async_name(enum ibv_event_type type)
{
	switch (type) {
	case IBV_EVENT_QP_FATAL: return "QP_FATAL";
	case IBV_EVENT_QP_REQ_ERR: return "QP_REQ_ERR";
	case IBV_EVENT_QP_ACCESS_ERR: return "QP_ACCESS_ERR";
	case IBV_EVENT_CQ_ERR: return "CQ_ERR";
	default: return NULL;
	}
}

static void take_async(void)
{
	struct ibv_async_event event;
	while (!ibv_get_async_event(device, &event)) {
		const char *name = async_name(event.event_type);
		for (struct session *s = sessions; s && name; s = s->next) {
			int its = event.event_type == IBV_EVENT_CQ_ERR ? s->cq && s->cq == event.element.cq :
									  s->id && s->id->qp == event.element.qp;
			if (its)
				failing(s, name, 0);
		}
		ibv_ack_async_event(&event);
	}
}

/* Wait for something to happen and see to it. Whether the control connection, or who wants one, has something to say;
 * or has ended. */
static int pump(int ms, int *ended)
{
	struct pollfd p[] = {
		{ events->fd, POLLIN, 0 },
		{ device->async_fd, POLLIN, 0 },
		{ control < 0 ? commands_come : control, POLLIN | POLLRDHUP, 0 },
	};
	int64_t now = milliseconds();
	struct session *next;
	for (struct session *s = sessions; s; s = s->next)
		if (s->decide_at && s->decide_at - now < ms)
			ms = s->decide_at > now ? s->decide_at - now : 0;
	poll(p, 3, ms);
	if (p[1].revents)
		take_async();
	if (p[0].revents)
		take_event();
	now = milliseconds();
	for (struct session *s = sessions; s; s = next) {
		next = s->next;
		if (s->decide_at && s->decide_at <= now)
			decide(s);
		if (!s->asked && s->state > CLOSING)
			drop_session(s);
	}
	if (ended)
		*ended = p[2].revents & (POLLRDHUP | POLLHUP | POLLERR);
	return p[2].revents & POLLIN;
}

/* -- commands; each returns 0, or -1 after refuse() or fail() */

static int session(void)
{
	return current ? 0 : refuse("state there is no session");
}

static int run_hello(void)
{
	int p2p = !strcmp(variant, "siw_p2p");
	if (end())
		return -1;
	fprintf(reply, " program=siw version=%s protocol=1 crc=0 markers=0 revision=0 enhanced=1 depths=1 p2p=%d", variant, p2p);
	fprintf(reply, " extensions=0 reject=1 invalidate=1 invalidated=0 terminates=0 initiator=1 solicited=0 abort=0");
	fprintf(reply, " profile=0 maxrecv=%d receives=%d maxregion=%d maxdata=256", MAX_REGION, RECEIVES, MAX_REGION);
	return 0;
}

static void drop_current(void)
{
	if (current)
		drop_session(current);
	current = NULL;
}

static int run_session(void)
{
	const char *data = text("data", ""), *receives = text("receives", "4096,4096,4096,4096,4096,4096,4096,4096");
	uint64_t size, guard, scratch, ird, ord, delay, reject = number("reject", 0);
	struct session *made;
	if (fixed("crc", strcmp(variant, "siw_crc") ? "auto" : "on") || fixed("markers", "0") ||
	    fixed("revision", strcmp(variant, "siw_v1") ? "2" : "1") || fixed("extensions", "0") ||
	    fixed("p2p", strcmp(variant, "siw_p2p") ? "0" : "1") || fixed("own_port", "0"))
		return -1;
	text("speak", ""); /* siw knows no rule that forbids it */
	if (bounded("regionsize", 4096, MAX_REGION, &size) || bounded("guard", 64, MAX_GUARD, &guard) ||
	    bounded("scratch", 65536, MAX_REGION, &scratch) || bounded("ird", 16, 16383, &ird) ||
	    bounded("ord", 16, 16383, &ord) || bounded("delay", 0, LONGEST, &delay) || end())
		return -1;
	if (ird > 255 || ord > 255)
		return refuse("cannot librdmacm knows depths up to 255");
	if (strlen(data) / 2 > DATA)
		return refuse("cannot siw takes %d octets of private data", DATA);
	made = new_session(1, size, guard, scratch, receives);
	if (!made)
		return -1;
	drop_current();
	current = made;
	current->param.responder_resources = ird;
	current->param.initiator_depth = ord;
	current->param.private_data = current->data;
	current->param.private_data_len = unhex(data, current->data, sizeof current->data);
	current->reject = reject;
	current->delay = delay;
	for (int i = 0; i < SCRATCH; i++) {
		struct memory *m = &current->regions[i];
		fprintf(reply, " %s=%#x:%#lx:%zu", region_names[i], m->mr->rkey, (long)m->octets, m->length);
	}
	return 0;
}

static int run_connect(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(number("port", 0)) };
	const char *host = text("host", "");
	if (end() || session())
		return -1;
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1 || !in.sin_port)
		return refuse("bad there is no such address");
	if (current->id || current->state != WAITING)
		return refuse("state the session has had its connection");
	if (check("rdma_create_id", rdma_create_id(events, &current->id, current, RDMA_PS_TCP)))
		return -1;
	return check("rdma_resolve_addr", rdma_resolve_addr(current->id, NULL, (struct sockaddr *)&in, RESOLVING));
}

static void put_state(void)
{
	const struct session *s = current;
	fprintf(reply, " state=%s cause=%s", state_names[s->state], s->cause[0] ? s->cause : "-");
	put_hex("private", s->peer_data, s->peer_length);
	if (s->id)
		fprintf(reply, " role=%s", s->responder ? "responder" : "initiator");
	if (s->peer_ird >= 0)
		fprintf(reply, " peer_ird=%d peer_ord=%d", s->peer_ird, s->peer_ord);
}

static int run_state(void)
{
	if (end() || session())
		return -1;
	put_state();
	return 0;
}

static int wanted(const char *states, const char *state)
{
	size_t n = strlen(state);
	for (const char *at = strstr(states, state); at; at = strstr(at + n, state))
		if ((at == states || at[-1] == '|') && (!at[n] || at[n] == '|'))
			return 1;
	return 0;
}

static int waits(int64_t until)
{
	int ended, left = until - milliseconds();
	if (left <= 0)
		return 0;
	pump(left < TICK ? left : TICK, &ended);
	return !ended && current;
}

static int run_wait(void)
{
	const char *states = text("state", "");
	uint64_t ms;
	if (bounded("timeout", 1000, LONGEST, &ms) || end() || session())
		return -1;
	for (int64_t until = milliseconds() + ms; !wanted(states, state_names[current->state]) && waits(until);)
		;
	put_state();
	return 0;
}

static const char *status_name(unsigned status)
{
	static const char *const names[] = {
		"success", "loc_len_err", "loc_qp_op_err", "loc_eec_op_err", "loc_prot_err", "wr_flush_err", "mw_bind_err",
		"bad_resp_err", "loc_access_err", "rem_inv_req_err", "rem_access_err", "rem_op_err", "retry_exc_err",
		"rnr_retry_exc_err", "loc_rdd_viol_err", "rem_inv_rd_req_err", "rem_abort_err", "inv_eecn_err",
		"inv_eec_state_err", "fatal_err", "resp_timeout_err", "general_err",
	};
	return status < sizeof names / sizeof *names ? names[status] : "general_err";
}

static int run_completions(void)
{
	uint64_t most, ms;
	int got = 0, n = 0;
	struct ibv_wc wc;
	if (bounded("n", 1, COMPLETIONS, &most) || bounded("timeout", 1000, LONGEST, &ms) || end() || session())
		return -1;
	fprintf(reply, " c=");
	for (int64_t until = milliseconds() + ms; !most || got < (int)most;) {
		n = current->cq ? ibv_poll_cq(current->cq, 1, &wc) : 0;
		if (n < 0)
			return fail("ibv_poll_cq", n);
		if (n == 0 && (!most || !waits(until)))
			break;
		if (n == 0)
			continue;
		struct posted received = { wc.wr_id & ~RECEIVED, "recv" };
		struct posted *it = wc.wr_id & RECEIVED ? &received : &current->posted[wc.wr_id % COMPLETIONS];
		fprintf(reply, "%s%lu:%s:%s:%u:-:-:-", got ? "," : "", (unsigned long)it->number, status_name(wc.status),
			it->operation, wc.status ? 0 : wc.byte_len);
		current->room++;
		got++;
	}
	fprintf(reply, " n=%d", got);
	return 0;
}

static struct memory *region(const char *otherwise)
{
	const char *name = text("region", otherwise);
	if (session())
		return NULL;
	for (int i = 0; i < REGIONS; i++)
		if (!strcmp(region_names[i], name))
			return &current->regions[i];
	refuse("bad there is no region %.20s", name);
	return NULL;
}

static void put_memory(const struct memory *m, size_t offset, size_t length)
{
	put_hex("data", m->octets + offset, length);
	fprintf(reply, " guard=%s", guarded(m));
}

static int run_received(void)
{
	uint64_t i = number("index", 0);
	if (end() || session())
		return -1;
	if (i >= (uint64_t)current->receive_count)
		return refuse("bad %d receives were posted", current->receive_count);
	put_memory(&current->receives[i], 0, current->receives[i].length);
	return 0;
}

static int inside(const struct memory *m, uint64_t offset, uint64_t length)
{
	if (offset <= m->length && length <= m->length - offset)
		return 0;
	return refuse("bad %lu octets from %lu on lie outside %zu", (long)length, (long)offset, m->length);
}

static int run_memory(void)
{
	struct memory *m = region("");
	uint64_t offset = number("off", 0), length = number("len", m && offset <= m->length ? m->length - offset : 0);
	if (!m || end() || inside(m, offset, length))
		return -1;
	put_memory(m, offset, length);
	return 0;
}

static int run_sum(void)
{
	struct memory *m = region("");
	if (!m || end())
		return -1;
	fprintf(reply, " crc=%#010x guard=%s", crc32c(m->octets, m->length), guarded(m));
	return 0;
}

static int run_fill(void)
{
	struct memory *m = region("");
	unsigned seed = number("seed", 0);
	if (!m || end())
		return -1;
	pattern(m->octets, m->length, seed);
	return 0;
}

static int run_poke(void)
{
	struct memory *m = region("");
	const char *data = text("data", "");
	uint64_t offset = number("off", 0);
	if (!m || end() || inside(m, offset, strlen(data) / 2))
		return -1;
	unhex(data, m->octets + offset, strlen(data) / 2);
	return 0;
}

/* Memory of its own for what is sent, so that nothing changes it meanwhile. */
static struct memory *new_sent(size_t length)
{
	struct memory *m = calloc(1, sizeof *m);
	if (!m) {
		fail("calloc", ENOMEM);
	} else if (make_memory(current, m, current->pd, length, 0)) {
		free(m);
		m = NULL;
	} else {
		m->next = current->sent;
		current->sent = m;
	}
	return m;
}

static int post(const char *operation, struct ibv_send_wr *work, const struct memory *m, size_t offset, size_t length)
{
	struct ibv_send_wr *bad;
	struct posted *it = &current->posted[current->posted_count];
	struct ibv_sge sge;
	if (!m->mr)
		return refuse("state the memory was invalidated");
	if (!current->cq)
		return refuse("state the session is not connected");
	if (!current->room)
		return refuse("full %d completions were not asked for", COMPLETIONS);
	sge = element(m, offset, length);
	work->sg_list = &sge;
	work->num_sge = length || work->opcode == IBV_WR_RDMA_READ; /* a Read has an element, if of no octets */
	it->number = number("wr", 0);
	it->operation = operation;
	work->wr_id = current->posted_count;
	if (check("ibv_post_send", ibv_post_send(current->id->qp, work, &bad)))
		return -1;
	current->posted_count = (current->posted_count + 1) % COMPLETIONS;
	current->room--;
	return 0;
}

static int post_octets(const char *operation, struct ibv_send_wr *work)
{
	const char *data = text("data", NULL);
	uint64_t length, seed = number("seed", 0);
	struct memory *m;
	if (bounded("len", 0, MAX_REGION, &length) || end())
		return -1;
	if (data)
		length = strlen(data) / 2;
	m = new_sent(length);
	if (!m)
		return -1;
	if (data)
		unhex(data, m->octets, length);
	else
		pattern(m->octets, length, seed);
	return post(operation, work, m, 0, length);
}

static int post_read(struct ibv_send_wr *work)
{
	const struct memory *m = &current->regions[SCRATCH];
	uint64_t offset = number("dest_off", 0), length = number("len", 0);
	if (end() || inside(m, offset, length))
		return -1;
	return post("read", work, m, offset, length);
}

static int run_post(void)
{
	const char *operation = text("op", "send");
	struct ibv_send_wr work = { .opcode = IBV_WR_SEND };
	if (session())
		return -1;
	text("wr", "");
	work.send_flags = (number("signaled", 1) ? IBV_SEND_SIGNALED : 0) | (number("fence", 0) ? IBV_SEND_FENCE : 0);
	if (!strcmp(operation, "send")) {
		work.send_flags |= number("se", 0) ? IBV_SEND_SOLICITED : 0;
		if (text("inv", NULL)) {
			work.opcode = IBV_WR_SEND_WITH_INV;
			work.invalidate_rkey = number("inv", 0);
			work.wr.rdma.rkey = work.invalidate_rkey; /* libsiw 44 reads it here, against the manual */
		}
		return post_octets("send", &work);
	}
	work.wr.rdma.rkey = number("stag", 0);
	work.wr.rdma.remote_addr = number("to", 0);
	if (!strcmp(operation, "write")) {
		work.opcode = IBV_WR_RDMA_WRITE;
		return post_octets("write", &work);
	}
	if (!strcmp(operation, "read")) {
		work.opcode = IBV_WR_RDMA_READ;
		return post_read(&work);
	}
	return refuse("cannot siw has no %.20s", operation);
}

static int run_recv(void)
{
	const char *sizes = text("sizes", "");
	int first;
	if (end() || session())
		return -1;
	first = current->receive_count;
	if (add_receives(current, sizes))
		return -1;
	fprintf(reply, " index=%d", first);
	return 0;
}

static int run_invalidate(void)
{
	struct memory *m = region("");
	if (!m || end())
		return -1;
	if (m->mr && check("ibv_dereg_mr", ibv_dereg_mr(m->mr)))
		return -1;
	m->mr = NULL;
	return 0;
}

static int run_advertise(void)
{
	const struct memory *m = region("rw");
	struct ibv_send_wr work = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED };
	struct memory *block;
	text("wr", "");
	if (!m || end())
		return -1;
	if (!m->mr)
		return refuse("state the region was invalidated");
	block = new_sent(16);
	if (!block)
		return -1;
	for (int i = 0; i < 8; i++)
		block->octets[i] = (uintptr_t)m->octets >> (56 - 8 * i);
	for (int i = 0; i < 4; i++) {
		block->octets[8 + i] = m->mr->rkey >> (24 - 8 * i);
		block->octets[12 + i] = m->length >> (24 - 8 * i);
	}
	return post("send", &work, block, 0, 16);
}

static int run_disconnect(void)
{
	if (end() || session())
		return -1;
	if (current->state != CONNECTED)
		return 0; /* it has ended, or never began */
	current->state = CLOSING;
	return check("rdma_disconnect", rdma_disconnect(current->id));
}

static int run_abort(void)
{
	struct ibv_qp_attr attributes = { .qp_state = IBV_QPS_ERR };
	if (end() || session())
		return -1;
	failing(current, "aborted", 0);
	if (!current->id || !current->id->qp)
		return 0;
	return check("ibv_modify_qp", ibv_modify_qp(current->id->qp, &attributes, IBV_QP_STATE));
}

static int run_reset(void)
{
	if (end())
		return -1;
	drop_current();
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} commands[] = {
	{ "hello", run_hello }, { "session", run_session }, { "connect", run_connect }, { "state", run_state },
	{ "wait", run_wait }, { "completions", run_completions }, { "received", run_received }, { "memory", run_memory },
	{ "sum", run_sum }, { "fill", run_fill }, { "poke", run_poke }, { "post", run_post }, { "recv", run_recv },
	{ "invalidate", run_invalidate }, { "advertise", run_advertise }, { "disconnect", run_disconnect },
	{ "abort", run_abort }, { "reset", run_reset },
};

static int run(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].run();
	return refuse("cannot there is no command %.20s here", name);
}

/* -- the control connection */

static int tell(const char *from, size_t length)
{
	while (length) {
		ssize_t n = send(control, from, length, MSG_NOSIGNAL);
		if (n <= 0)
			return -1;
		from += n;
		length -= n;
	}
	return 0;
}

/* Carry one line out; -1 when the connection shall end. */
static int answer(char *line)
{
	char *content = NULL, *whole = NULL, *name = split(line);
	size_t size;
	int result, length, bye = name && !strcmp(name, "bye");
	if (!name)
		return 0;
	refusal[0] = 0;
	reply = open_memstream(&content, &size);
	result = bye ? 0 : run(name);
	fclose(reply);
	if (!result)
		length = asprintf(&whole, "=%.*s\n", (int)size, content);
	else if (refusal[0])
		length = asprintf(&whole, "! %s\n", refusal);
	else
		length = asprintf(&whole, "! %s %s\n", failed_call, strerror(failed_errno));
	result = length < 0 ? -1 : tell(whole, length);
	free(whole);
	free(content);
	return bye ? -1 : result;
}

static void converse(void)
{
	char *buffer = malloc(LINE), *newline;
	size_t have = 0;
	for (int ended = 0; buffer;) {
		ssize_t n;
		while (have && (newline = memchr(buffer, '\n', have))) {
			size_t used = newline + 1 - buffer;
			*newline = 0;
			if (answer(buffer))
				goto out;
			memmove(buffer, buffer + used, have - used);
			have -= used;
		}
		if (have == LINE)
			break;
		if (!pump(1000, &ended) && !ended)
			continue;
		n = recv(control, buffer + have, LINE - have, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		have += n > 0 ? n : 0;
	}
out:
	free(buffer);
	drop_current();
}

/* -- ports */

static int listen_for_commands(int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (s < 0 || bind(s, (struct sockaddr *)&in, sizeof in) || listen(s, 8)) {
		perror("control port");
		exit(1);
	}
	return s;
}

static void listen_for_peers(int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct ibv_context **all;
	int count;
	events = rdma_create_event_channel();
	all = rdma_get_devices(&count); /* only its contexts go together with connections */
	if (!events || !all || !count || rdma_create_id(events, &listener, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(listener, (struct sockaddr *)&in) || rdma_listen(listener, 64)) {
		perror("iWARP port");
		exit(1);
	}
	device = all[0];
	fcntl(device->async_fd, F_SETFL, O_NONBLOCK);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: target PORT CONTROL [VARIANT]\n");
		return 2;
	}
	if (argc > 3)
		variant = argv[3];
	make_crc_table();
	listen_for_peers(atoi(argv[1]));
	commands_come = listen_for_commands(atoi(argv[2]));
	printf("listening\n");
	fflush(stdout);
	for (int on = 1;;) {
		pump(1000, NULL);
		control = accept(commands_come, NULL, NULL);
		if (control < 0)
			continue;
		setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		converse();
		close(control);
		control = -1;
	}
}
