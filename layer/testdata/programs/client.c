// A client of the C library it is built with: glibc and musl differ in how they resolve.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *name_of(int err)
{
	switch (err) {
	case ECONNREFUSED: return "ECONNREFUSED";
	case EHOSTUNREACH: return "EHOSTUNREACH";
	case ENETUNREACH: return "ENETUNREACH";
	case ETIMEDOUT: return "ETIMEDOUT";
	}
	return strerror(err);
}

static void show(const struct sockaddr_storage *sa)
{
	char host[64], port[8];
	getnameinfo((void *)sa, sizeof *sa, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
	printf(sa->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static struct addrinfo *address(const char *host, const char *port, int type)
{
	struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
	if (getaddrinfo(host, port, &hints, &found))
		exit(2);
	return found;
}

static void lookup(const char *name)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	if (getaddrinfo(name, NULL, &hints, &found)) {
		printf("no such name");
		return;
	}
	int n = 0;
	for (struct addrinfo *a = found; a; a = a->ai_next)
		n++;
	char host[64];
	getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
	if (n > 1)
		printf("%d addresses", n);
	else
		printf("%s", host);
}

static void outcome(int s, int err)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	if (err) {
		printf("%s", name_of(err));
		return;
	}
	getsockname(s, (void *)&sa, &len);
	printf("ok from "), show(&sa);
	len = sizeof sa;
	getpeername(s, (void *)&sa, &len);
	printf(" to "), show(&sa);
}

static void blocking(const char *host, const char *port)
{
	struct addrinfo *a = address(host, port, SOCK_STREAM);
	int s = socket(a->ai_family, SOCK_STREAM, 0);
	outcome(s, connect(s, a->ai_addr, a->ai_addrlen) ? errno : 0);
	close(s);
}

static void nonblock(const char *host, const char *port, int limit)
{
	struct addrinfo *a = address(host, port, SOCK_STREAM);
	int s = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), err = 0;
	errno = 0;
	socklen_t len = sizeof err;
	struct pollfd p = {.fd = s, .events = POLLOUT};
	if (connect(s, a->ai_addr, a->ai_addrlen) == 0)
		printf("at once: ");
	if (errno != EINPROGRESS) {
		outcome(s, errno);
	} else if (poll(&p, 1, limit) == 0) {
		printf("gave up");
	} else {
		getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len);
		outcome(s, err);
	}
	close(s);
}

static void datagram(const char *host, const char *port, int connected)
{
	struct addrinfo *a = address(host, port, SOCK_DGRAM);
	int s = socket(a->ai_family, SOCK_DGRAM, 0), n;
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	char buf[64];
	struct timeval tv = {.tv_sec = 5};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	if (connected) {
		connect(s, a->ai_addr, a->ai_addrlen);
		send(s, "hello", 5, 0);
		n = recv(s, buf, sizeof buf, 0);
		getpeername(s, (void *)&sa, &len);
	} else {
		sendto(s, "hello", 5, 0, a->ai_addr, a->ai_addrlen);
		n = recvfrom(s, buf, sizeof buf, 0, (void *)&sa, &len);
	}
	if (n < 0) {
		printf("%s", name_of(errno));
	} else {
		printf("%.*s from ", n, buf);
		show(&sa);
	}
	close(s);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char verb[16], a[80], port[8];
		sscanf(argv[i], "%15s %79s %7s", verb, a, port);
		printf("%s: ", argv[i]);
		if (!strcmp(verb, "lookup"))
			lookup(a);
		else if (!strcmp(verb, "connect"))
			blocking(a, port);
		else if (!strcmp(verb, "nonblock"))
			nonblock(a, port, -1);
		else if (!strcmp(verb, "impatient"))
			nonblock(a, port, 200);
		else if (!strcmp(verb, "send"))
			datagram(a, port, 0);
		else if (!strcmp(verb, "converse"))
			datagram(a, port, 1);
		puts("");
	}
}
