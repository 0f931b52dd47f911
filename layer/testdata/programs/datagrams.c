// Every datagram call in each of its forms, towards an echo server: datagrams ADDR PORT. Each line is one promise.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in echo;

static const char *show(const struct sockaddr_in *a)
{
	static char out[40];
	sprintf(out, "%s:%d", inet_ntoa(a->sin_addr), ntohs(a->sin_port));
	return out;
}

static const char *err(void)
{
	static char out[40];
	sprintf(out, "%s", strerrorname_np(errno));
	return out;
}

static int sock(int flags) { return socket(AF_INET, SOCK_DGRAM | flags, 0); }
static void say(int s, const char *text) { sendto(s, text, strlen(text), 0, (void *)&echo, sizeof echo); }

static void wait_for(int s)
{
	struct pollfd p = {.fd = s, .events = POLLIN};
	if (poll(&p, 1, 5000) != 1)
		printf("(no readiness) ");
}

static void names_of_messages(void)
{
	struct sockaddr_in from;
	char a[] = "one ", b[] = "datagram", buf1[4], buf2[60], control[256];
	struct iovec out[] = {{a, 4}, {b, 8}}, in[] = {{buf1, 4}, {buf2, 60}};
	struct msghdr m = {.msg_name = &echo, .msg_namelen = sizeof echo, .msg_iov = out, .msg_iovlen = 2};
	int s = sock(0);
	setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
	printf("sendmsg: %zd\n", sendmsg(s, &m, 0));
	m = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = in, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(s, &m, 0);
	printf("recvmsg: %zd %.4s%.8s from %s namelen %u flags %#x", n, buf1, buf2, show(&from), m.msg_namelen, m.msg_flags);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	printf(" control %s\n", c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS ? "timestamp" : "none");
	close(s);
}

static void many_messages(void)
{
	struct sockaddr_in from[3];
	char bufs[3][16];
	struct iovec out[] = {{"first", 5}, {"second", 6}, {"third", 5}}, in[3];
	struct mmsghdr m[3];
	memset(m, 0, sizeof m);
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){.msg_name = &echo, .msg_namelen = sizeof echo, .msg_iov = &out[i], .msg_iovlen = 1};
	int s = sock(0);
	int n = sendmmsg(s, m, 3, 0);
	printf("sendmmsg: %d of %u %u %u\n", n, m[0].msg_len, m[1].msg_len, m[2].msg_len);
	for (int i = 0, got; i < 3; i += got) { // MSG_WAITFORONE: what is there, but one at least
		for (int j = i; j < 3; j++) {
			in[j] = (struct iovec){bufs[j], 16};
			m[j].msg_hdr = (struct msghdr){.msg_name = &from[j], .msg_namelen = sizeof from[j], .msg_iov = &in[j], .msg_iovlen = 1};
		}
		got = recvmmsg(s, m + i, 3 - i, MSG_WAITFORONE, NULL);
		if (got < 1) {
			printf("recvmmsg: %s\n", err());
			return;
		}
	}
	printf("recvmmsg:");
	for (int i = 0; i < 3; i++)
		printf(" %.*s from %s", m[i].msg_len, bufs[i], show(&from[i]));
	puts("");
	close(s);
}

static void flags(void)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	char buf[16];
	int s = sock(0);
	errno = 0;
	recvfrom(s, buf, 16, MSG_DONTWAIT, (void *)&from, &len);
	printf("MSG_DONTWAIT on nothing: %s\n", err());
	say(s, "abcdefghij");
	wait_for(s);
	memset(buf, 0, 16);
	ssize_t n = recvfrom(s, buf, 4, MSG_PEEK, (void *)&from, &len);
	printf("MSG_PEEK of 4: %zd %s from %s\n", n, buf, show(&from));
	n = recvfrom(s, buf, 4, MSG_PEEK | MSG_TRUNC, (void *)&from, &len);
	printf("MSG_PEEK and MSG_TRUNC of 4: %zd\n", n);
	struct iovec in = {buf, 4};
	struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &in, .msg_iovlen = 1};
	n = recvmsg(s, &m, 0);
	printf("recvmsg of 4: %zd %.4s flags %s\n", n, buf, m.msg_flags & MSG_TRUNC ? "MSG_TRUNC" : "none");
	say(s, "");
	wait_for(s);
	n = recvfrom(s, buf, 16, 0, (void *)&from, &len);
	printf("an empty datagram: %zd from %s\n", n, show(&from));
	len = 4;
	say(s, "x");
	n = recvfrom(s, buf, 16, 0, (void *)&from, &len);
	printf("a short name: %zd, would have been %u\n", n, len);
	close(s);
}

static void nonblocking(void)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	char buf[16];
	int s = sock(SOCK_NONBLOCK);
	errno = 0;
	recvfrom(s, buf, 16, 0, (void *)&from, &len);
	printf("O_NONBLOCK on nothing: %s\n", err());
	say(s, "later");
	wait_for(s);
	ssize_t n = recvfrom(s, buf, 16, 0, (void *)&from, &len);
	printf("O_NONBLOCK when ready: %.*s from %s\n", (int)n, buf, show(&from));
	close(s);
	s = sock(0);
	struct timeval tv = {.tv_usec = 100 * 1000};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	recvfrom(s, buf, 16, 0, (void *)&from, &len);
	printf("SO_RCVTIMEO: %s\n", err());
	close(s);
}

static void *read_early(void *arg)
{
	static struct sockaddr_in from;
	socklen_t len = sizeof from;
	char buf[16];
	ssize_t n = recvfrom(*(int *)arg, buf, 16, 0, (void *)&from, &len);
	static char out[64];
	sprintf(out, "%.*s from %s", (int)n, buf, show(&from));
	return out;
}

static void reader_before_sender(void)
{
	pthread_t t;
	void *out;
	int s = sock(0);
	pthread_create(&t, NULL, read_early, &s);
	usleep(50 * 1000); // the reader should sleep by then; if it does not, the test is weaker, not wrong
	say(s, "awaited");
	pthread_join(t, &out);
	printf("a reader that waited first: %s\n", (char *)out);
	close(s);
}

static void connected(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	char buf[16];
	int s = sock(0);
	printf("connect: %d\n", connect(s, (void *)&echo, sizeof echo));
	getpeername(s, (void *)&a, &len);
	printf("getpeername: %s\n", show(&a));
	len = sizeof a;
	getsockname(s, (void *)&a, &len);
	printf("getsockname: %s\n", inet_ntoa(a.sin_addr));
	send(s, "plain", 5, 0);
	ssize_t n = recv(s, buf, 16, 0);
	printf("send and recv: %.*s\n", (int)n, buf);
	write(s, "asked", 5);
	len = sizeof a;
	n = recvfrom(s, buf, 16, 0, (void *)&a, &len);
	printf("write and recvfrom: %.*s from %s\n", (int)n, buf, show(&a));
	struct iovec out = {"nameless", 8};
	struct msghdr m = {.msg_iov = &out, .msg_iovlen = 1};
	sendmsg(s, &m, 0);
	n = read(s, buf, 16);
	printf("sendmsg without a name and read: %.*s\n", (int)n, buf);
	say(s, "named");
	n = recv(s, buf, 16, 0);
	printf("sendto its own peer: %.*s\n", (int)n, buf);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	connect(s, &none, sizeof none);
	len = sizeof a;
	printf("getpeername after AF_UNSPEC: %d", getpeername(s, (void *)&a, &len));
	printf(" %s\n", err());
	close(s);
}

static void refused(void)
{
	struct sockaddr_in closed = echo;
	char buf[16];
	closed.sin_port = htons(9);
	int s = sock(0);
	struct timeval tv = {.tv_sec = 5};
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	connect(s, (void *)&closed, sizeof closed);
	send(s, "anybody?", 8, 0);
	errno = 0;
	ssize_t n = recv(s, buf, 16, 0);
	if (n < 0 && errno == EAGAIN)
		printf("refused: recv timed out\n");
	else
		printf("refused: %s\n", err());
	close(s);
}

static void two_peers(const char *other)
{
	struct sockaddr_in from, second = echo;
	socklen_t len = sizeof from;
	char buf[16];
	int s = sock(0);
	inet_aton(other, &second.sin_addr);
	for (int i = 0; i < 2; i++) {
		struct sockaddr_in *to = i ? &second : &echo;
		sendto(s, "to you", 6, 0, (void *)to, sizeof *to);
		recvfrom(s, buf, 16, 0, (void *)&from, &len);
		printf("one socket, peer %d: from %s\n", i + 1, show(&from));
	}
	close(s);
}

static int asking, lost;
static char question[16];
static volatile sig_atomic_t ticks;

static void ask_again(int sig) // as resolvers do: now and then a datagram is lost
{
	(void)sig;
	if (++ticks % 1000 == 0) {
		lost++;
		say(asking, question);
	}
}

static void under_signals(void)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	struct itimerval it = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
	struct sigaction sa = {.sa_handler = ask_again, .sa_flags = SA_RESTART};
	char buf[16];
	asking = sock(0);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	for (int i = 0; i < 300; i++) {
		sprintf(question, "tick %d", i);
		ticks = 0;
		say(asking, question);
		do {
			ssize_t n = recvfrom(asking, buf, 15, 0, (void *)&from, &len);
			buf[n < 0 ? 0 : n] = 0;
		} while (strcmp(buf, question));
	}
	setitimer(ITIMER_REAL, &off, NULL);
	printf("300 datagrams under a 2 kHz timer: all answered, ");
	if (lost <= 3)
		puts("next to none lost");
	else
		printf("%d lost\n", lost);
	close(asking);
}

static void local_ones(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET}, from;
	socklen_t len = sizeof a;
	char buf[16];
	inet_aton("127.0.0.1", &a.sin_addr);
	int r = sock(0), s = sock(0);
	bind(r, (void *)&a, sizeof a);
	getsockname(r, (void *)&a, &len);
	sendto(s, "near", 4, 0, (void *)&a, sizeof a);
	ssize_t n = recvfrom(r, buf, 16, 0, (void *)&from, &len);
	printf("over loopback: %.*s from %s\n", (int)n, buf, inet_ntoa(from.sin_addr));
	int pair[2];
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	struct iovec out = {"unix", 4}, in = {buf, 16};
	struct msghdr m = {.msg_iov = &out, .msg_iovlen = 1}, g = {.msg_iov = &in, .msg_iovlen = 1};
	sendmsg(pair[0], &m, 0);
	n = recvmsg(pair[1], &g, 0);
	printf("over AF_UNIX: %.*s\n", (int)n, buf);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	echo.sin_family = AF_INET;
	inet_aton(argv[1], &echo.sin_addr);
	echo.sin_port = htons(atoi(argv[2]));
	names_of_messages();
	many_messages();
	flags();
	nonblocking();
	reader_before_sender();
	connected();
	refused();
	two_peers(argv[3]);
	under_signals();
	local_ones();
	return argc != 4;
}
