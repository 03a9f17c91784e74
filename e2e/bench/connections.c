// New TCP connections per second: each is opened, carries one byte from the server, and is closed by both.
//
//   connections serve PORT               answers until it is killed
//   connections ADDRESS PORT SECONDS     prints how many a second it made
//
// The server closes first, so that it is the one that remembers closed connections, and the client does not run out of ports.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Enough that neither end ever waits for the other.
enum { UNDER_WAY = 16, BACKLOG = 1024 };
static const double WARM_UP = 0.5;

static _Noreturn void fail(const char *what) {
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void serve(int port) {
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int on = 1, off = 0, listener = socket(AF_INET6, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, BACKLOG))
		fail("cannot listen");
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		if (connection < 0)
			continue;
		send(connection, "!", 1, MSG_NOSIGNAL);
		close(connection);
	}
}

static void begin(int poll, const struct sockaddr_storage *to) {
	int connection = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = connection};
	socklen_t size = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (connection < 0)
		fail("cannot open a socket");
	if (connect(connection, (const struct sockaddr *)to, size) && errno != EINPROGRESS)
		fail("cannot connect");
	if (epoll_ctl(poll, EPOLL_CTL_ADD, connection, &event))
		fail("cannot wait for a socket");
}

// Whether the server has closed the connection.
static int ended(int connection) {
	char buffer[16];
	for (;;) {
		ssize_t length = read(connection, buffer, sizeof(buffer));
		if (length == 0)
			return 1;
		if (length < 0 && errno == EAGAIN)
			return 0;
		if (length < 0)
			fail("a connection failed");
	}
}

static void connect_for(const char *address, int port, double seconds) {
	struct sockaddr_storage to = {0};
	struct sockaddr_in *v4 = (void *)&to;
	struct sockaddr_in6 *v6 = (void *)&to;
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
	} else {
		errno = EINVAL;
		fail(address);
	}
	int poll = epoll_create1(0);
	for (int i = 0; i < UNDER_WAY; i++)
		begin(poll, &to);
	double from = now() + WARM_UP, until = from + seconds;
	unsigned long made = 0;
	for (double t = now(); t < until; t = now()) {
		struct epoll_event events[UNDER_WAY];
		int ready = epoll_wait(poll, events, UNDER_WAY, 100);
		for (int i = 0; i < ready; i++) {
			if (!ended(events[i].data.fd))
				continue;
			close(events[i].data.fd);
			made += t >= from;
			begin(poll, &to);
		}
	}
	printf("%f\n", made / seconds);
}

int main(int count, char **arguments) {
	if (count == 3 && !strcmp(arguments[1], "serve"))
		serve(atoi(arguments[2]));
	if (count != 4) {
		fprintf(stderr, "usage: connections serve PORT | connections ADDRESS PORT SECONDS\n");
		return 2;
	}
	connect_for(arguments[1], atoi(arguments[2]), atof(arguments[3]));
}
