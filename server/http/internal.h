/* internal: what the files of http share, and nobody else. Loop thread only. From the top down; a file calls
 * only those below it:
 *
 *   http.c     open and close
 *   listen.c   the listening sockets
 *   gate.c     a connection until its first header block is whole
 *   library.c  the library as guest of the loop
 *   call.c     one request, as the library calls for it
 *   examine.c  the first look at a request
 *   cors.c     what a browser asks before a page of another origin may call
 *   stream.c   server-sent events
 *   source.c   long answers, made while they are read
 *   reply.c    whole answers, and the end of a call
 *   conn.c     a connection that the library has: deadlines, end
 *   reader.c   what of a connection's bytes the library gets to read
 *   linger.c   refusals outside the library, and the close that lets the client read them
 *   left.c     clients that leave
 *   body.c     the bytes of one body
 *   headers.c  what every answer bears
 *   dialect.c  errors as the clients of a path know them
 *   due.c      whatever waits for a moment
 *   state.c    the listener's own state
 *
 * and, knowing none of these: frame.c, where each request begins and ends; guard.c, rules for header blocks;
 * near.c, which path was meant; origin.c, whose web pages may call; place.c, addresses as an operator writes
 * them; trace.c, names that clients give to requests; peer.c, who is at the other end; crowd.c, who gives way
 * where there is no room (all pure); bind.c, the
 * sockets of a server's addresses; body_room.c, memory for bodies; keys.c, API keys; recv.c, the library's
 * reads on their way to the kernel; tcp.c, the kernel's counts.
 */
#ifndef FLUXD_SERVER_HTTP_INTERNAL_H
#define FLUXD_SERVER_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <uv.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/strbuf.h"
#include "server/http/bind.h"
#include "server/http/body_room.h"
#include "server/http/crowd.h"
#include "server/http/http.h"
#include "server/http/frame.h"
#include "server/http/origin.h"
#include "server/http/peer.h"
#include "server/http/trace.h"

/* Everything that waits for a moment stands in one of these lists. Each list has one constant length of time,
 * so it is ordered by its due moment and only its head needs a look. */
enum due {
    DUE_FRESH,  /* connection: first byte, http_conf.idle_ms */
    DUE_IDLE,   /* connection: next request's header block, http_conf.idle_ms */
    DUE_HEADER, /* connection: rest of a header block */
    DUE_BODY,   /* connection: rest of the body */
    DUE_STALL,  /* connection: look whether the client still reads; a quarter of write_stall_ms */
    DUE_LINGER, /* linger: refused, what it still sends is dropped */
    DUE_PING,   /* call: silent stream */
    N_DUE
};

struct due_node {
    struct list node;
    int64_t at_ns;
    void (*expire)(struct due_node *n, enum due which); /* it stands in no list any more */
};

enum {
    ACCEPT_BATCH = 64, /* sockets taken per turn, so that accepting never starves the streams */
    PLACES_OVER = 8 /* beyond max_connections while all of these are being answered: for those who ask how the
                       server is, and so that the others are told by an answer to what they asked */
};

struct listener {
    struct http *http;
    struct bound *bound;
    uv_poll_t poll;
    bool open;
};

struct http {
    struct http_conf conf;
    uv_loop_t *loop;
    struct MHD_Daemon *mhd;
    uv_poll_t mhd_poll;
    uv_timer_t due_timer, rest_timer, again_timer;
    uv_prepare_t prepare;
    struct bound_set bound;
    struct listener listener[BOUND_MOST]; /* [bound.n] */
    bool kicked;                          /* the library has something to do before the loop sleeps */
    bool running;                         /* inside MHD_run */
    bool resting;                         /* accept failed for lack of resources: a short pause */
    bool closing, stopped;
    int n_handle; /* own uv handles not yet closed */
    void (*on_closed)(void *);
    void *on_closed_arg;

    struct list due[N_DUE];
    int64_t due_len_ns[N_DUE];
    struct list left; /* connections whose peers have closed their side */
    struct list conn; /* all connections but those in linger */
    struct list linger;
    struct crowd crowd;         /* those of conn that wait for their clients */
    struct http_conn *adopting; /* library.c alone */
    char *peek;                 /* [max_header_bytes + 1] */
    struct http_conn **by_fd;   /* [n_by_fd] those that the library holds */
    int n_by_fd;
    struct list gone, room;                    /* calls whose handlers are to be told, outside MHD_run */
    int n_conn, n_linger, n_call, n_live_call; /* n_call: owed by handlers; n_live_call: allocated */
    int n_aside;                               /* of n_live_call, those that stand aside */
    int n_evicted;                             /* of n_conn, those that the library is about to close */
    int n_linger_fd; /* in linger; n_linger counts those whose handles close as well */
    struct origin_rules origin;
    struct peer_nets trusted;
    struct body_room bodies;
    int n_body; /* bodies that a call or a handler holds */

    uint8_t hash_key[16];
    struct key_slot *key; /* [n_key] */
    int n_key;
    struct list accounts;
    uint32_t last_account;
    uint64_t next_call;
    uint32_t id_salt;
    struct http_stats stats;
};

/* What a connection's reads have come to. */
struct http_reader {
    struct frame frame;
    char *held; /* [frame_held_max] bytes taken from the socket and not yet given to the library, or NULL */
    size_t n_held, n_pass; /* n_pass of them, the first, may pass */
    struct err_note refusal;
    size_t n_stub; /* bytes of frame.stub given */
};

struct http_conn {
    struct list all;  /* in http.conn */
    struct list left; /* in http.left: the peer closed its side, see http_conn_settle */
    struct due_node due;
    struct crowd_member place;
    struct http *http;
    int fd;
    uv_poll_t poll;       /* one for all its life: bytes at the gate, then the peer's leaving only */
    bool poll_open, dead; /* poll_open: until its close callback; dead: freed by that callback */
    struct guard first;   /* the first header block, while it stands at the gate */
    bool evicted;         /* closed to make room, which the library has yet to do */
    bool midway;          /* the deadline of a later header block runs */
    const char *left_by;  /* how the peer's end came, for the log; NULL: it has not */
    struct http_reader reader;
    uint64_t n_request;         /* requests that the library has begun */
    struct MHD_Connection *mhd; /* once the gate let it in */
    struct http_call *call;
    struct peer peer;
    bool loopback, tcp;       /* how it came: from this machine alone; tcp: not by a unix socket */
    uint64_t sent, taken;     /* by the library, which counts where the kernel does not */
    int unconfirmed;          /* at the last look */
    uint64_t acked, received; /* by the kernel's count, at the last look */
    int64_t acked_ns;
};

struct http_call {
    struct http *http;
    struct http_conn *conn;     /* NULL after the library let go of the request */
    struct MHD_Connection *mhd; /* likewise */
    const struct http_route *route;
    char id[24], *rest;           /* rest: what the route's * matched */
    const char *method, *url;     /* the library's memory, as long as mhd */
    struct http_account *account; /* held; NULL: no key was needed */
    struct trace trace;
    struct peer client; /* the peer, or whom trusted proxies tell */
    bool listed;        /* it comes from a page that --cors-origins lists */
    int64_t start_ns;

    struct err_note refusal; /* code != OK: answer this, nobody handles it */
    char allow[32];
    uint64_t number; /* of its connection: 1, 2, .. */
    bool has_body;
    bool aside;     /* takes no place of those who are answered */
    bool continues; /* its client waits for a 100 that the library does not know of */
    bool unframed;  /* refused by the reader: what follows it means nothing */

    struct http_body *body;
    size_t n_body; /* bytes that came, kept or not */

    bool with_handler; /* between route->handle and the answer's end */
    bool in_handler;   /* inside route->handle */
    bool suspended, gone, gone_told, answered;
    bool overtaken; /* http_end_calls has answered: the handler's own words come too late */
    void (*on_gone)(void *);
    void *gone_arg;
    struct list gone_node, room_node;

    struct MHD_Response *response; /* waits to be queued */
    int status;

    void (*on_late)(void *); /* of a stream that has not begun */
    void *late_arg;
    bool streaming, ended, was_full;
    struct strbuf out;
    size_t out_off; /* bytes of out already handed to the library */
    struct due_node ping;
    void (*on_room)(void *);
    void *room_arg;
};

/* state.c */
void http_kick(struct http *h); /* MHD_run before the loop sleeps */
void http_maybe_done(struct http *h);
void http_handle_closed(uv_handle_t *handle); /* close callback for http's own handles */
void http_conn_cut(struct http_conn *c);      /* ends both directions; the library notices */

/* due.c */
void http_due_open(struct http *h);
void http_due_close(struct http *h);
void http_due_set(struct http *h, struct due_node *n, enum due which);
void http_due_clear(struct due_node *n);

/* left.c */
void http_call_client_left(struct http_call *c); /* wakes the handler by on_gone, once, outside MHD_run */
void http_call_resume(struct http_call *c);
void http_call_tell(struct http *h); /* runs the waiting on_gone and on_room calls */

/* linger.c */
/* Writes a whole answer past the library. c: the call that it ends, or NULL. */
void http_refuse_raw(struct http *h, int fd, const struct http_call *c, const struct err_note *note);
void http_linger(struct http *h,
                 int fd); /* reads and drops until the peer closes or a bound is met; owns fd */
bool http_linger_close_oldest(struct http *h); /* gives a descriptor back; false: there is none */
void http_linger_close_all(struct http *h);

/* reader.c */
struct guard_bound http_header_bound(const struct http *h);
ssize_t http_reader_read(struct http_conn *c, char *buf, size_t n); /* as recv, for the library */
bool http_reader_watch(struct http_conn *c); /* reads of its socket are checked; false: no memory */
void http_reader_unwatch(struct http_conn *c);
void http_reader_free(struct http_reader *r);
bool http_reader_midway(const struct http_reader *r); /* it holds the beginning of a header block */
const struct err_note *http_reader_refusal(const struct http_reader *r,
                                           uint64_t request); /* NULL: none of this one */

/* conn.c */
void http_conn_taken(struct http_conn *c, struct MHD_Connection *mhd); /* the library has it now */
void http_conn_watch_left(struct http_conn *c);                        /* for its peer's leaving alone */
void http_conn_wait(struct http_conn *c,
                    enum due which);          /* for its client; it gives way where there is no room */
void http_conn_idle(struct http_conn *c);     /* between requests */
void http_conn_reading(struct http_conn *c);  /* the body's deadline runs */
void http_conn_progress(struct http_conn *c); /* a part of its body came: its grace begins anew */
void http_conn_writing(struct http_conn *c);  /* the stall watch runs */
void http_conn_quiet(struct http_conn *c);    /* no deadline of ours */
void http_conn_late(const struct http_conn *c, enum due which, struct err_note *note);
void http_conn_count(struct http_conn *c);  /* adds what the kernel sent and received to the statistics */
void http_conn_settle(struct http *h);      /* after MHD_run: what becomes of peers that closed their side */
void http_conn_forget(struct http_conn *c); /* the library closed the socket */
void http_conn_close_poll(struct http_conn *c);
int http_conn_unread(const struct http_conn *c); /* bytes in its socket */
void http_conn_evict(struct http_conn *c,
                     const struct err_note *full); /* one that waits, of the library; full: what it is told
                                                      unless it is between requests */
void http_conn_drop(struct http_conn *c); /* it counts no more; freed when its poll handle is closed */

/* reply.c */
void http_call_release(struct http_call *c); /* frees it when neither library nor handler holds it */
void http_call_finish(struct http_call *c);  /* the handler's part is over */
void http_call_set_response(struct http_call *c, int status, struct MHD_Response *r);
void http_call_refuse(struct http_call *c, const struct err_note *note,
                      int retry_after_s); /* < 0: no Retry-After */

/* headers.c: NULL and r freed where memory is out. */
struct MHD_Response *http_with_header(struct MHD_Response *r, const char *name, const char *value);
struct MHD_Response *http_with_own_headers(const struct http_call *c, struct MHD_Response *r);
void http_put_own_lines(const struct http_call *c, struct strbuf *out); /* the same for http_refuse_raw */

/* stream.c */
void http_call_overtake(struct http_call *c,
                        const struct err_note *note); /* answers in the handler's place */

/* cors.c */
extern const struct http_route http_cors_preflight;
bool http_cors_asks(const struct http_call *c, const struct origin_seen *seen); /* it is a preflight */

/* examine.c */
enum err http_call_examine(struct http_call *c, struct err_note *note);

/* call.c */
enum MHD_Result http_call_access(void *http, struct MHD_Connection *mhd, const char *url, const char *method,
                                 const char *version, const char *data, size_t *n_data, void **slot);
void http_call_completed(void *http, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode why);

/* library.c */
bool http_library_open(struct http *h);  /* false: errno says why */
bool http_library_start(struct http *h); /* false: the loop does not watch it */
void http_library_turn(struct http *h);  /* now: what has come is read, what was cut is closed */
void http_library_stop(struct http *h);
bool http_adopt(struct http *h, int fd,
                struct http_conn *c); /* gives the socket to the library, which may close it at once; false:
                                         it stays the caller's */

/* gate.c */
void http_gate_open(struct http *h, int fd, const struct bound *from,
                    const struct peer *peer); /* a fresh socket; owns fd */
void http_gate_close_all(struct http *h);     /* connections that the library does not hold */
bool http_gate_make_room(struct http *h, const struct err_note *full); /* one that waits gives way; full: what
                                                                          it is told; false: none waits */

/* listen.c */
enum err http_listen_bind(struct http *h, struct err_note *note);
bool http_listen_start(struct http *h); /* likewise */
void http_listen_close(struct http *h);

/* body.c */
enum err http_body_add(struct http_call *c, const char *data, size_t n, struct err_note *note); /* copied */

/* dialect.c */
void http_call_error(const struct http_call *c, const struct err_note *note,
                     struct strbuf *out); /* the error's object; c NULL: no call yet */
void http_call_error_frame(const struct http_call *c, const struct err_note *note, struct strbuf *out);

/* keys.c */
bool http_keys_init(struct http *h);
void http_keys_fini(struct http *h);
struct http_account *
http_keys_find(const struct http *h, const char *authorization,
               const char *api_key); /* the headers, NULL where absent; NULL: no such key */

#endif
