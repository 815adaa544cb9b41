// guestbench [--json] [--quick] [--dir FOLDER] [--only NAME[,NAME...]] [--list]   measures this machine
// guestbench --peer ADDRESS:PORT [--json] [--quick]                             measures the way to another one,
// guestbench --serve PORT                                                      which runs this
// guestbench --dirty MIB --rate PAGES [--fill MIB]                              writes so many pages a second until it is killed
#define _GNU_SOURCE
#include "guestbench.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static char reason[256];
static cpu_set_t every_cpu;

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

void add(struct samples *samples, double value) {
    if (samples->count < SAMPLES_MAX) samples->value[samples->count++] = value;
}

int rounds(const struct options *options, int full) {
    if (!options->quick) return full;
    return full / 10 < 5 ? 5 : full / 10;
}

bool pin_to_cpu(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

void unpin(void) { sched_setaffinity(0, sizeof every_cpu, &every_cpu); }

bool cannot(const char *what) {
    snprintf(reason, sizeof reason, "cannot %s: %s", what, strerror(errno));
    return false;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// The value a share of the samples do not exceed (nearest rank).
static double percentile(const struct samples *samples, double share) {
    size_t rank = (size_t)(share * (double)samples->count);
    return samples->value[rank >= samples->count ? samples->count - 1 : rank];
}

static void print_result(const struct measurement *measurement, struct samples *samples, bool json) {
    qsort(samples->value, samples->count, sizeof(double), ascending);
    double median = percentile(samples, 0.5);
    // The bad end: the slowest hundredth, or for a bandwidth the lowest.
    double p99 = percentile(samples, measurement->higher_is_better ? 0.01 : 0.99);
    if (json) {
        printf("{\"name\":\"%s\",\"unit\":\"%s\",\"higher_is_better\":%s,\"median\":%.6g,\"p99\":%.6g,\"samples\":%zu,\"what\":\"%s\"}\n",
               measurement->name, measurement->unit, measurement->higher_is_better ? "true" : "false", median, p99, samples->count,
               measurement->what);
    } else {
        printf("%-24s %10.3f %10.3f %-6s %6zu  %s\n", measurement->name, median, p99, measurement->unit, samples->count,
               measurement->what);
    }
    fflush(stdout);
}

static bool wanted(const char *only, const char *name) {
    if (only == NULL) return true;
    size_t length = strlen(name);
    for (const char *at = only; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == '\0' || at[length] == ',')) return true;
    }
    return false;
}

static int usage(const char *self) {
    fprintf(stderr, "usage: %s [--json] [--quick] [--dir FOLDER] [--only NAME[,NAME...]] [--list]\n"
                    "       %s --serve PORT | --peer ADDRESS:PORT\n"
                    "       %s --dirty MIB --rate PAGES [--fill MIB]\n", self, self, self);
    return 64;
}

static int run_all(const struct options *options, const char *only, bool json, bool list) {
    const struct measurement *groups[] = {cpu_measurements, process_measurements, io_measurements, peer_measurements};
    const size_t counts[] = {cpu_measurement_count, process_measurement_count, io_measurement_count, peer_measurement_count};
    const size_t first = options->peer == NULL ? 0 : 3, end = options->peer == NULL ? 3 : 4;
    static struct samples samples;
    int failures = 0, matched = 0;
    for (size_t group = first; group < end; group++) {
        for (size_t i = 0; i < counts[group]; i++) {
            const struct measurement *measurement = &groups[group][i];
            if (!wanted(only, measurement->name)) continue;
            matched++;
            if (list) {
                printf("%s\n", measurement->name);
                continue;
            }
            samples.count = 0;
            if (measurement->run(options, &samples) && samples.count > 0) {
                print_result(measurement, &samples, json);
            } else {
                fprintf(stderr, "guestbench: %s: %s\n", measurement->name, reason);
                failures++;
            }
        }
    }
    if (matched == 0) fprintf(stderr, "guestbench: no measurement is called %s\n", only);
    return failures > 0 || matched == 0;
}

int main(int count, char **arguments) {
    // The child of fork_exec and spawn_exec: nothing may happen before its exit.
    if (count == 2 && strcmp(arguments[1], "--exit") == 0) return 0;
    static char self[4096];
    struct options options = {.directory = ".", .self = self};
    const char *only = NULL;
    bool json = false, list = false;
    long dirty_mib = 0, rate = 0, fill_mib = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--json") == 0) json = true;
        else if (strcmp(arguments[i], "--quick") == 0) options.quick = true;
        else if (strcmp(arguments[i], "--list") == 0) list = true;
        else if (strcmp(arguments[i], "--dir") == 0 && i + 1 < count) options.directory = arguments[++i];
        else if (strcmp(arguments[i], "--only") == 0 && i + 1 < count) only = arguments[++i];
        else if (strcmp(arguments[i], "--peer") == 0 && i + 1 < count) options.peer = arguments[++i];
        else if (strcmp(arguments[i], "--serve") == 0 && i + 1 < count) return serve(atoi(arguments[++i]));
        else if (strcmp(arguments[i], "--dirty") == 0 && i + 1 < count) dirty_mib = atol(arguments[++i]);
        else if (strcmp(arguments[i], "--rate") == 0 && i + 1 < count) rate = atol(arguments[++i]);
        else if (strcmp(arguments[i], "--fill") == 0 && i + 1 < count) fill_mib = atol(arguments[++i]);
        else return usage(arguments[0]);
    }
    if (dirty_mib > 0) return dirty(dirty_mib, rate, fill_mib);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) snprintf(self, sizeof self, "%s", arguments[0]);
    sched_getaffinity(0, sizeof every_cpu, &every_cpu);
    if (!json && !list) {
        struct utsname name;
        uname(&name);
        printf("Linux %s, %ld CPUs\n%-24s %10s %10s %-6s %6s\n", name.release, sysconf(_SC_NPROCESSORS_ONLN), "measurement", "median",
               "p99", "unit", "n");
    }
    return run_all(&options, only, json, list);
}
