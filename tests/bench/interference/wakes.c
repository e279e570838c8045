/* How late a periodic thread wakes up.
 *
 *     wakes SECONDS [CPU ...]
 *
 * One thread that may run anywhere, and one pinned to each CPU that is named.
 * Each sleeps until absolute times 1 ms apart; they are shifted against each
 * other, so that they do not wait for each other. Timer slack is 1 ns, so that
 * the kernel's own 50 us do not hide anything. Prints one line for each thread:
 *
 *     CPU LATENESS LATENESS ...
 *
 * in nanoseconds; CPU is -1 for the thread that may run anywhere.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define PERIOD_NS 1000000
#define THREADS_MAX 257

struct waker {
	pthread_t thread;
	int cpu;
	int64_t first;
	size_t count;
	int64_t *late;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *wake(void *argument)
{
	struct waker *self = argument;

	prctl(PR_SET_TIMERSLACK, 1);
	if (self->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(self->cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set)) {
			perror("wakes: sched_setaffinity");
			exit(1);
		}
	}
	for (size_t i = 0; i < self->count; i++) {
		int64_t until = self->first + (int64_t)i * PERIOD_NS;
		struct timespec time = { until / 1000000000, until % 1000000000 };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL))
			;
		self->late[i] = now_ns() - until;
	}
	return NULL;
}

int main(int count, char **words)
{
	static struct waker wakers[THREADS_MAX];
	double seconds = count > 1 ? atof(words[1]) : 0;
	int threads = count - 1;
	int64_t first;

	if (seconds <= 0 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: wakes SECONDS [CPU ...]\n");
		return 2;
	}
	first = now_ns() + 50 * PERIOD_NS;
	for (int i = 0; i < threads; i++) {
		wakers[i].cpu = i ? atoi(words[i + 1]) : -1;
		wakers[i].first = first + (int64_t)i * PERIOD_NS / threads;
		wakers[i].count = (size_t)(seconds * 1e9 / PERIOD_NS);
		wakers[i].late = malloc(wakers[i].count * sizeof(int64_t));
		if (!wakers[i].late)
			return 1;
		/* So that no page is fetched during the measurement. */
		memset(wakers[i].late, 0xff, wakers[i].count * sizeof(int64_t));
	}
	for (int i = 0; i < threads; i++)
		if (pthread_create(&wakers[i].thread, NULL, wake, &wakers[i]))
			return 1;
	for (int i = 0; i < threads; i++)
		pthread_join(wakers[i].thread, NULL);
	for (int i = 0; i < threads; i++) {
		printf("%d", wakers[i].cpu);
		for (size_t k = 0; k < wakers[i].count; k++)
			printf(" %lld", (long long)wakers[i].late[k]);
		printf("\n");
	}
	return 0;
}
