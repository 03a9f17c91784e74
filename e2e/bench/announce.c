// announce PORT ADDRESS... tells every address, from its first instruction on, who it is: datagrams "<host name> <number>" to
// PORT, every 2 ms at first and seldom later. Whoever sends it a datagram gets it back.
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { QUICK = 100, PEERS = 8 };

static long long microseconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void echo(int s) {
	char data[512];
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	ssize_t length = recvfrom(s, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from, &size);
	if (length >= 0)
		sendto(s, data, length, MSG_DONTWAIT, (struct sockaddr *)&from, size);
}

int main(int count, char **arguments) {
	struct sockaddr_in peers[PEERS];
	int known = 0, s = socket(AF_INET, SOCK_DGRAM, 0);
	for (int i = 2; i < count && known < PEERS; i++, known++) {
		peers[known] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
		if (inet_pton(AF_INET, arguments[i], &peers[known].sin_addr) != 1)
			return 2;
	}
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = known ? peers[0].sin_port : 0};
	char name[128] = "";
	if (!known || bind(s, (struct sockaddr *)&any, sizeof(any)) || gethostname(name, sizeof(name) - 1))
		return 1;
	long long next = microseconds();
	for (unsigned number = 0;; number++) {
		char data[160];
		int length = snprintf(data, sizeof(data), "%s %u", name, number);
		for (int i = 0; i < known; i++)
			sendto(s, data, length, 0, (struct sockaddr *)&peers[i], sizeof(peers[i]));
		next += number < QUICK ? 2000 : 200000;
		for (long long left; (left = next - microseconds()) > 0;) {
			struct pollfd ready = {.fd = s, .events = POLLIN};
			if (poll(&ready, 1, (left + 999) / 1000) > 0)
				echo(s);
		}
	}
}
