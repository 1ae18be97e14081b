/* A verbs endpoint for scripts: one command a line on standard input, one line of reply on standard output.
 *
 * A command is a word and key=value pairs; numbers as in C; data is hex, empty for none. A reply is "= key=value ..."
 * or "! CALL ERRNO". Names are chosen by the caller, up to 15 letters; commands that wait take timeout=MS and give
 * event=timeout (or fewer completions) when it has passed. [x] may be left out.
 *
 *   listen   name addr port [backlog]
 *   getreq   name listener [timeout pd depth]        the next connection request; event=... ird ord data
 *   resolve  name addr port [timeout pd depth]       address and route; event=...
 *   accept   conn [ird ord data]      connect  conn [ird ord data]      reject  conn [data]
 *   event    conn [timeout]                          also of a listener; event=... status ird ord data
 *   disconnect  conn                  destroy  conn (or listener)       fail  conn (queue pair to the error state)
 *   query    conn                                    irq orq: room for the peer's and for own RDMA Reads
 *   mr       name len [access=lwr pd]                addr rkey lkey      l, w, r: local write, remote write, read
 *   dereg    name
 *   fill     name [off len seed]      poke  name off data     peek  name [off len]     crc  name [off len]
 *   recv     conn wr [sgl]                           sgl=REGION:OFFSET:LENGTH[:LKEY],...  checked by siw alone
 *   send     conn wr [flags sgl inv]                 flags: s signaled, e solicited, f fence, i inline; inv: rkey
 *   write    conn wr rkey addr [flags sgl]           read  the same
 *   poll     conn [n timeout]                        n=COUNT and wc=WR:STATUS:OPCODE:LENGTH:FLAGS for each
 *   arm      conn [solicited]         cqevent  conn [timeout]           n=0 or 1
 *   async    [timeout]                               n and type=NUMBER for each event of the device
 */
#define _GNU_SOURCE
#include "lines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 64, NAME = 16, SGES = 16, PRIVATE = 512, DEPTH = 128, INLINE = 80, MAX_SGE = 6 };
enum { PATTERN = 65521 }; /* a prime: data that lands a power of two off is noticed */

struct connection { /* a listener has no queues */
	char name[NAME];
	struct rdma_cm_id *id;
	struct rdma_event_channel *events;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
};

struct domain {
	char name[NAME];
	struct ibv_pd *pd;
};

struct region {
	char name[NAME];
	unsigned char *memory;
	size_t length;
	struct ibv_mr *mr;
};

static struct connection connections[SLOTS];
static struct domain domains[SLOTS];
static struct region regions[SLOTS];
static struct ibv_context *device;
static uint32_t crc_table[256];

static int timeout(int otherwise)
{
	return (int)number("timeout", otherwise);
}

/* -- what names stand for */

static struct connection *connection(const char *key)
{
	const char *name = text(key, "");
	for (int i = 0; i < SLOTS; i++)
		if (connections[i].id && !strcmp(connections[i].name, name))
			return &connections[i];
	fail("connection", ENOENT);
	return NULL;
}

static struct connection *new_connection(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (!connections[i].id) {
			memset(&connections[i], 0, sizeof connections[i]);
			snprintf(connections[i].name, NAME, "%s", text("name", ""));
			return &connections[i];
		}
	fail("connections", ENOSPC);
	return NULL;
}

static struct region *region(const char *name)
{
	for (int i = 0; i < SLOTS; i++)
		if (regions[i].memory && !strcmp(regions[i].name, name))
			return &regions[i];
	fail("region", ENOENT);
	return NULL;
}

static int open_device(void)
{
	struct ibv_context **all;
	int count;
	if (device)
		return 0;
	all = rdma_get_devices(&count); /* only its contexts go together with connections */
	if (!all)
		return fail("rdma_get_devices", errno);
	if (!count)
		return fail("rdma_get_devices", ENODEV);
	device = all[0];
	return check("fcntl", fcntl(device->async_fd, F_SETFL, O_NONBLOCK));
}

static struct ibv_pd *domain(void)
{
	const char *name = text("pd", "pd");
	if (open_device())
		return NULL;
	for (int i = 0; i < SLOTS; i++) {
		if (domains[i].pd && !strcmp(domains[i].name, name))
			return domains[i].pd;
		if (!domains[i].pd) {
			snprintf(domains[i].name, NAME, "%s", name);
			domains[i].pd = ibv_alloc_pd(device);
			if (!domains[i].pd)
				fail("ibv_alloc_pd", errno);
			return domains[i].pd;
		}
	}
	fail("domains", ENOSPC);
	return NULL;
}

/* -- connections */

static void put_event(const struct rdma_cm_event *event)
{
	const struct rdma_conn_param *param = &event->param.conn;
	fprintf(reply, " event=%s status=%d", rdma_event_str(event->event), event->status);
	fprintf(reply, " ird=%u ord=%u", param->responder_resources, param->initiator_depth);
	put_hex("data", param->private_data, param->private_data ? param->private_data_len : 0);
}

/* Waits for an event and replies with it. Its kind (-1 for none in time, -2 for an error) and, if asked, its id. */
static int take_event(struct rdma_event_channel *channel, int ms, struct rdma_cm_id **id)
{
	struct rdma_cm_event *event;
	int kind;
	if (!readable(channel->fd, ms)) {
		fprintf(reply, " event=timeout");
		return -1;
	}
	if (check("rdma_get_cm_event", rdma_get_cm_event(channel, &event)))
		return -2;
	kind = event->event;
	if (id)
		*id = event->id;
	put_event(event);
	rdma_ack_cm_event(event);
	return kind;
}

static int make_queues(struct connection *c)
{
	unsigned depth = number("depth", DEPTH);
	struct ibv_qp_init_attr attributes = {
		.qp_type = IBV_QPT_RC,
		.cap = { depth, depth, MAX_SGE, MAX_SGE, INLINE },
	};
	struct ibv_pd *pd = domain();
	if (!pd)
		return -1;
	c->completions = ibv_create_comp_channel(c->id->verbs);
	if (!c->completions)
		return fail("ibv_create_comp_channel", errno);
	c->cq = ibv_create_cq(c->id->verbs, number("cqdepth", 2 * depth), NULL, c->completions, 0);
	if (!c->cq)
		return fail("ibv_create_cq", errno);
	attributes.send_cq = attributes.recv_cq = c->cq;
	return check("rdma_create_qp", rdma_create_qp(c->id, pd, &attributes));
}

static int make_id(struct connection *c)
{
	c->events = rdma_create_event_channel();
	if (!c->events)
		return fail("rdma_create_event_channel", errno);
	return check("rdma_create_id", rdma_create_id(c->events, &c->id, NULL, RDMA_PS_TCP));
}

static struct sockaddr *address(void)
{
	static struct sockaddr_in in;
	memset(&in, 0, sizeof in);
	in.sin_family = AF_INET;
	in.sin_port = htons(number("port", 0));
	inet_pton(AF_INET, text("addr", "0.0.0.0"), &in.sin_addr);
	return (struct sockaddr *)&in;
}

static struct rdma_conn_param *parameters(void)
{
	static struct rdma_conn_param param;
	static unsigned char data[PRIVATE];
	memset(&param, 0, sizeof param);
	param.responder_resources = number("ird", 1);
	param.initiator_depth = number("ord", 1);
	param.private_data = data;
	param.private_data_len = unhex(text("data", ""), data, sizeof data);
	return &param;
}

static int run_destroy(void)
{
	struct connection *c = connection("conn");
	if (!c)
		return -1;
	if (c->id->qp)
		rdma_destroy_qp(c->id);
	if (c->cq)
		ibv_destroy_cq(c->cq);
	if (c->completions)
		ibv_destroy_comp_channel(c->completions);
	rdma_destroy_id(c->id);
	rdma_destroy_event_channel(c->events);
	c->id = NULL;
	return 0;
}

static int run_listen(void)
{
	struct connection *c = new_connection();
	if (!c || make_id(c) || check("rdma_bind_addr", rdma_bind_addr(c->id, address())))
		return -1;
	return check("rdma_listen", rdma_listen(c->id, number("backlog", 64)));
}

static int run_getreq(void)
{
	struct connection *listener = connection("listener"), *c;
	struct rdma_cm_id *id;
	int kind;
	if (!listener)
		return -1;
	kind = take_event(listener->events, timeout(10000), &id);
	if (kind != RDMA_CM_EVENT_CONNECT_REQUEST)
		return kind == -2 ? -1 : 0;
	c = new_connection();
	if (!c)
		return -1;
	c->id = id;
	c->events = rdma_create_event_channel();
	if (!c->events)
		return fail("rdma_create_event_channel", errno);
	if (check("rdma_migrate_id", rdma_migrate_id(id, c->events)))
		return -1;
	return make_queues(c);
}

static int run_resolve(void)
{
	struct connection *c = new_connection();
	int ms = timeout(5000), kind;
	if (!c || make_id(c) || check("rdma_resolve_addr", rdma_resolve_addr(c->id, NULL, address(), ms)))
		return -1;
	kind = take_event(c->events, ms, NULL);
	if (kind != RDMA_CM_EVENT_ADDR_RESOLVED)
		return kind == -2 ? -1 : 0;
	if (check("rdma_resolve_route", rdma_resolve_route(c->id, ms)))
		return -1;
	rewind(reply); /* only the later event is told */
	kind = take_event(c->events, ms, NULL);
	if (kind != RDMA_CM_EVENT_ROUTE_RESOLVED)
		return kind == -2 ? -1 : 0;
	return make_queues(c);
}

static int run_accept(void)
{
	struct connection *c = connection("conn");
	return c ? check("rdma_accept", rdma_accept(c->id, parameters())) : -1;
}

static int run_connect(void)
{
	struct connection *c = connection("conn");
	return c ? check("rdma_connect", rdma_connect(c->id, parameters())) : -1;
}

static int run_reject(void)
{
	struct connection *c = connection("conn");
	struct rdma_conn_param *param = parameters();
	return c ? check("rdma_reject", rdma_reject(c->id, param->private_data, param->private_data_len)) : -1;
}

static int run_disconnect(void)
{
	struct connection *c = connection("conn");
	return c ? check("rdma_disconnect", rdma_disconnect(c->id)) : -1;
}

static int run_event(void)
{
	struct connection *c = connection("conn");
	return c && take_event(c->events, timeout(10000), NULL) != -2 ? 0 : -1;
}

static int run_fail(void)
{
	struct connection *c = connection("conn");
	struct ibv_qp_attr attributes = { .qp_state = IBV_QPS_ERR };
	return c ? check("ibv_modify_qp", ibv_modify_qp(c->id->qp, &attributes, IBV_QP_STATE)) : -1;
}

static int run_query(void)
{
	struct connection *c = connection("conn");
	struct ibv_qp_attr attributes;
	struct ibv_qp_init_attr init;
	if (!c || check("ibv_query_qp", ibv_query_qp(c->id->qp, &attributes, IBV_QP_STATE, &init)))
		return -1;
	/* siw fills in these two, the wrong way round, and not the state */
	fprintf(reply, " irq=%d orq=%d", attributes.max_rd_atomic, attributes.max_dest_rd_atomic);
	return 0;
}

/* -- memory */

static int access_rights(void)
{
	const char *letters = text("access", "lwr");
	return (strchr(letters, 'l') ? IBV_ACCESS_LOCAL_WRITE : 0) |
	       (strchr(letters, 'w') ? IBV_ACCESS_REMOTE_WRITE : 0) |
	       (strchr(letters, 'r') ? IBV_ACCESS_REMOTE_READ : 0);
}

static int register_region(struct region *r)
{
	int map = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	struct ibv_pd *pd = domain();
	if (!pd)
		return -1;
	r->length = number("len", 4096);
	r->memory = mmap(NULL, r->length, PROT_READ | PROT_WRITE, map, -1, 0);
	if (r->memory == MAP_FAILED) {
		r->memory = NULL;
		return fail("mmap", errno);
	}
	r->mr = ibv_reg_mr(pd, r->memory, r->length, access_rights());
	if (r->mr)
		return 0;
	fail("ibv_reg_mr", errno);
	munmap(r->memory, r->length);
	r->memory = NULL;
	return -1;
}

static int run_mr(void)
{
	for (int i = 0; i < SLOTS; i++) {
		struct region *r = &regions[i];
		if (r->memory)
			continue;
		snprintf(r->name, NAME, "%s", text("name", ""));
		if (register_region(r))
			return -1;
		fprintf(reply, " addr=%#lx rkey=%#x lkey=%#x", (long)r->memory, r->mr->rkey, r->mr->lkey);
		return 0;
	}
	return fail("regions", ENOSPC);
}

static int run_dereg(void)
{
	struct region *r = region(text("name", ""));
	if (!r || check("ibv_dereg_mr", ibv_dereg_mr(r->mr)))
		return -1;
	munmap(r->memory, r->length);
	r->memory = NULL;
	return 0;
}

/* The part of a region that off= and len= name, by default all behind off. */
static unsigned char *part(size_t *length)
{
	struct region *r = region(text("name", ""));
	size_t offset = number("off", 0);
	if (!r)
		return NULL;
	*length = number("len", offset <= r->length ? r->length - offset : 0);
	if (offset <= r->length && *length <= r->length - offset)
		return r->memory + offset;
	fail("bounds", ERANGE);
	return NULL;
}

static int run_fill(void)
{
	size_t length;
	unsigned char *to = part(&length);
	uint64_t seed = number("seed", 0);
	if (!to)
		return -1;
	for (size_t i = 0; i < length; i++) {
		uint64_t x = i % PATTERN;
		to[i] = (x * x >> 3) + x * 7 + seed * 131;
	}
	return 0;
}

static int run_poke(void)
{
	size_t length;
	unsigned char *to = part(&length);
	const char *data = text("data", "");
	if (!to)
		return -1;
	if (strlen(data) / 2 > length)
		return fail("bounds", ERANGE);
	unhex(data, to, length);
	return 0;
}

static int run_peek(void)
{
	size_t length;
	unsigned char *from = part(&length);
	if (!from)
		return -1;
	put_hex("data", from, length);
	return 0;
}

/* CRC-32 as of zlib */
static int run_crc(void)
{
	size_t length;
	unsigned char *from = part(&length);
	uint32_t crc = ~0u;
	if (!from)
		return -1;
	while (length--)
		crc = crc >> 8 ^ crc_table[(crc ^ *from++) & 255];
	fprintf(reply, " crc=%#x", ~crc);
	return 0;
}

static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
		crc_table[i] = c;
	}
}

/* -- work */

/* sgl=REGION:OFFSET:LENGTH[:LKEY],... ; returns the number of elements or -1 */
static int gather(struct ibv_sge *sge)
{
	char *list = strdupa(text("sgl", "")), *rest, *item;
	int n = 0;
	for (item = strtok_r(list, ",", &rest); item && n < SGES; item = strtok_r(NULL, ",", &rest), n++) {
		char *name = strsep(&item, ":"), *offset = strsep(&item, ":");
		char *length = strsep(&item, ":"), *lkey = strsep(&item, ":");
		struct region *r = region(name);
		if (!r)
			return -1;
		if (!length)
			return fail("sgl", EINVAL);
		sge[n].addr = (uintptr_t)r->memory + strtoull(offset, NULL, 0);
		sge[n].length = strtoul(length, NULL, 0);
		sge[n].lkey = lkey ? strtoul(lkey, NULL, 0) : r->mr->lkey;
	}
	return n;
}

static int run_recv(void)
{
	struct connection *c = connection("conn");
	struct ibv_sge sge[SGES];
	struct ibv_recv_wr work = { .wr_id = number("wr", 0), .sg_list = sge }, *bad;
	if (!c || (work.num_sge = gather(sge)) < 0)
		return -1;
	return check("ibv_post_recv", ibv_post_recv(c->id->qp, &work, &bad));
}

static int send_flags(void)
{
	const char *letters = text("flags", "s");
	return (strchr(letters, 's') ? IBV_SEND_SIGNALED : 0) | (strchr(letters, 'e') ? IBV_SEND_SOLICITED : 0) |
	       (strchr(letters, 'f') ? IBV_SEND_FENCE : 0) | (strchr(letters, 'i') ? IBV_SEND_INLINE : 0);
}

static int post(struct ibv_send_wr *work)
{
	struct connection *c = connection("conn");
	struct ibv_send_wr *bad;
	struct ibv_sge sge[SGES];
	if (!c || (work->num_sge = gather(sge)) < 0)
		return -1;
	work->sg_list = sge;
	work->wr_id = number("wr", 0);
	work->send_flags = send_flags();
	return check("ibv_post_send", ibv_post_send(c->id->qp, work, &bad));
}

static int run_send(void)
{
	struct ibv_send_wr work = { .opcode = IBV_WR_SEND };
	if (text("inv", NULL)) {
		work.opcode = IBV_WR_SEND_WITH_INV;
		work.invalidate_rkey = number("inv", 0);
		work.wr.rdma.rkey = work.invalidate_rkey; /* libsiw 44 reads it here, against the manual */
	}
	return post(&work);
}

static int run_tagged(enum ibv_wr_opcode opcode)
{
	struct ibv_send_wr work = { .opcode = opcode };
	work.wr.rdma.rkey = number("rkey", 0);
	work.wr.rdma.remote_addr = number("addr", 0);
	return post(&work);
}

static int run_write(void)
{
	return run_tagged(IBV_WR_RDMA_WRITE);
}

static int run_read(void)
{
	return run_tagged(IBV_WR_RDMA_READ);
}

/* -- completions and events */

static int run_poll(void)
{
	struct connection *c = connection("conn");
	int wanted = number("n", 1), got = 0, n;
	int64_t end = milliseconds() + timeout(1000);
	struct ibv_wc wc;
	if (!c)
		return -1;
	do {
		n = ibv_poll_cq(c->cq, 1, &wc);
		if (n < 0)
			return fail("ibv_poll_cq", -n);
		if (n == 0)
			usleep(200);
		else
			fprintf(reply, " wc=%lu:%d:%d:%u:%u", (unsigned long)wc.wr_id, wc.status, wc.opcode,
				wc.byte_len, wc.wc_flags);
		got += n;
	} while (got < wanted && milliseconds() < end);
	fprintf(reply, " n=%d", got);
	return 0;
}

static int run_arm(void)
{
	struct connection *c = connection("conn");
	return c ? check("ibv_req_notify_cq", ibv_req_notify_cq(c->cq, number("solicited", 0))) : -1;
}

static int run_cqevent(void)
{
	struct connection *c = connection("conn");
	struct ibv_cq *cq;
	void *context;
	int there;
	if (!c)
		return -1;
	there = readable(c->completions->fd, timeout(1000));
	if (there) {
		if (check("ibv_get_cq_event", ibv_get_cq_event(c->completions, &cq, &context)))
			return -1;
		ibv_ack_cq_events(cq, 1);
	}
	fprintf(reply, " n=%d", there);
	return 0;
}

static int run_async(void)
{
	struct ibv_async_event event;
	int n = 0;
	if (open_device())
		return -1;
	readable(device->async_fd, timeout(0));
	for (; !ibv_get_async_event(device, &event); n++) {
		fprintf(reply, " type=%d", event.event_type);
		ibv_ack_async_event(&event);
	}
	fprintf(reply, " n=%d", n);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} commands[] = {
	{ "listen", run_listen }, { "getreq", run_getreq }, { "resolve", run_resolve }, { "accept", run_accept },
	{ "connect", run_connect }, { "reject", run_reject }, { "event", run_event }, { "disconnect", run_disconnect },
	{ "destroy", run_destroy }, { "fail", run_fail }, { "query", run_query }, { "mr", run_mr },
	{ "dereg", run_dereg }, { "fill", run_fill }, { "poke", run_poke }, { "peek", run_peek }, { "crc", run_crc },
	{ "recv", run_recv }, { "send", run_send }, { "write", run_write }, { "read", run_read }, { "poll", run_poll },
	{ "arm", run_arm }, { "cqevent", run_cqevent }, { "async", run_async },
};

static int run(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].run();
	return fail("command", ENOSYS);
}

static void answer(char *line)
{
	char *content = NULL, *name = split(line);
	size_t size;
	int result;
	reply = open_memstream(&content, &size);
	result = name ? run(name) : fail("command", ENOSYS);
	fclose(reply);
	if (result)
		printf("! %s %d\n", failed_call, failed_errno);
	else
		printf("=%.*s\n", (int)size, content);
	fflush(stdout);
	free(content);
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;
	make_crc_table();
	while (getline(&line, &size, stdin) > 0)
		answer(line);
	return 0;
}
