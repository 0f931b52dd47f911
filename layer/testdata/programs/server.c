// A server on epoll with accept4, one request per connection. Peer and local come from getpeername and getsockname;
// the address that accept4 gave must be the same one.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char *show(const struct sockaddr_in6 *a, char *out)
{
	char host[64];
	inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
	if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
		sprintf(out, "%s:%d", host + 7, ntohs(a->sin6_port));
	else
		sprintf(out, "[%s]:%d", host, ntohs(a->sin6_port));
	return out;
}

static void greet(int c, const struct sockaddr_in6 *accepted)
{
	struct sockaddr_in6 peer, local;
	socklen_t len = sizeof peer;
	char p[80], l[80], body[256], buf[4096];
	getpeername(c, (void *)&peer, &len);
	len = sizeof local;
	getsockname(c, (void *)&local, &len);
	if (memcmp(&peer.sin6_addr, &accepted->sin6_addr, 16) || peer.sin6_port != accepted->sin6_port)
		sprintf(body, "accept4 and getpeername differ: %s\n", show(accepted, p));
	else
		sprintf(body, "peer %s local %s\n", show(&peer, p), show(&local, l));
	if (read(c, buf, sizeof buf) > 0)
		dprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(body), body);
	close(c);
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[1]))};
	socklen_t len = sizeof a;
	char name[80];
	int l = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (bind(l, (void *)&a, sizeof a) || listen(l, 16) || epoll_ctl(e, EPOLL_CTL_ADD, l, &ev)) {
		perror("listen");
		return 1;
	}
	getsockname(l, (void *)&a, &len);
	printf("listening on %s\n", show(&a, name));
	fflush(stdout);
	for (;;) {
		epoll_wait(e, &ev, 1, -1);
		for (;;) {
			len = sizeof a;
			int c = accept4(l, (void *)&a, &len, SOCK_CLOEXEC);
			if (c < 0)
				break; // EAGAIN: all are taken
			greet(c, &a);
		}
	}
}
