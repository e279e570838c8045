/* A rival: threads that burn CPU time and report how much of it they got.
 *
 *     rival COUNT [CPU ...]
 *
 * COUNT threads, the first ones pinned to the CPUs that are named. For each
 * line with a number of seconds on standard input all of them work for that long
 * by the clock; then one line for each thread is printed:
 *
 *     ITERATIONS CPU_NANOSECONDS WALL_NANOSECONDS
 *
 * End of input ends it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define THREADS_MAX 1024
#define BATCH 20000 /* iterations between two readings of the clock, some 20 us */

struct rival {
	pthread_t thread;
	int cpu; /* -1 = any */
	double seconds;
	uint64_t iterations, cpu_ns, wall_ns, sink;
};

static uint64_t read_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *work(void *argument)
{
	struct rival *self = argument;
	uint64_t value = 88172645463325252u;
	uint64_t begin, cpu, until;

	if (self->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(self->cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set)) {
			perror("rival: sched_setaffinity");
			exit(1);
		}
	}
	cpu = read_ns(CLOCK_THREAD_CPUTIME_ID);
	begin = read_ns(CLOCK_MONOTONIC);
	until = begin + (uint64_t)(self->seconds * 1e9);
	self->iterations = 0;
	while (read_ns(CLOCK_MONOTONIC) < until) {
		for (int i = 0; i < BATCH; i++) {
			/* Each step needs the one before. Source: xorshift64, G. Marsaglia 2003 */
			value ^= value << 13;
			value ^= value >> 7;
			value ^= value << 17;
		}
		self->iterations += BATCH;
	}
	self->cpu_ns = read_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	self->wall_ns = read_ns(CLOCK_MONOTONIC) - begin;
	self->sink = value;
	return NULL;
}

int main(int count, char **words)
{
	static struct rival rivals[THREADS_MAX];
	int threads = count > 1 ? atoi(words[1]) : 0;
	double seconds;

	if (threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "rival: got %d threads, wanted 1 to %d\n", threads, THREADS_MAX);
		return 2;
	}
	for (int i = 0; i < threads; i++)
		rivals[i].cpu = i + 2 < count ? atoi(words[i + 2]) : -1;
	while (scanf("%lf", &seconds) == 1) {
		for (int i = 0; i < threads; i++) {
			rivals[i].seconds = seconds;
			if (pthread_create(&rivals[i].thread, NULL, work, &rivals[i])) {
				fprintf(stderr, "rival: no thread\n");
				return 1;
			}
		}
		for (int i = 0; i < threads; i++)
			pthread_join(rivals[i].thread, NULL);
		for (int i = 0; i < threads; i++)
			printf("%llu %llu %llu\n", (unsigned long long)rivals[i].iterations,
			       (unsigned long long)rivals[i].cpu_ns, (unsigned long long)rivals[i].wall_ns);
		fflush(stdout);
	}
	return 0;
}
