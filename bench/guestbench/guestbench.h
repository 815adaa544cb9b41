// Micro-measurements run unchanged on the host and inside a guest. One static program, so that both sides run the
// same instructions with the same C library.
#ifndef GUESTBENCH_H
#define GUESTBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// How many samples a measurement takes at most.
#define SAMPLES_MAX 20000

/// The samples of one measurement, in its unit.
struct samples {
    double value[SAMPLES_MAX];
    size_t count;
};

/// What the command line asked for.
struct options {
    /// Folder for the disk measurements.
    const char *directory;
    /// Path of this very program, for exec.
    const char *self;
    /// "ADDRESS:PORT" of a machine that runs `guestbench --serve PORT`; NULL for this machine's own measurements.
    const char *peer;
    /// A tenth of the samples.
    bool quick;
};

/// One measurement; `run` returns false with `reason` set when this machine cannot do it.
struct measurement {
    const char *name;
    const char *unit;
    /// true where a larger value is better (bandwidth).
    bool higher_is_better;
    bool (*run)(const struct options *options, struct samples *samples);
    const char *what;
};

extern const struct measurement cpu_measurements[];
extern const struct measurement process_measurements[];
extern const struct measurement io_measurements[];
extern const struct measurement peer_measurements[];
extern const size_t cpu_measurement_count, process_measurement_count, io_measurement_count, peer_measurement_count;

/// Serves measurements of peers until it is killed; returns only on failure.
int serve(int port);

/// Fills memory with noise, prints `ready`, then writes `rate` pages a second of `dirty_mib` MiB until it is killed; returns only on
/// failure.
int dirty(long dirty_mib, long rate, long fill_mib);

/// Seconds of the monotonic clock.
double now(void);
/// Adds a sample; more than SAMPLES_MAX are dropped.
void add(struct samples *samples, double value);
/// `full` samples, or a tenth of them (at least 5) with --quick.
int rounds(const struct options *options, int full);
/// Ties the caller to one CPU; false if the kernel refuses.
bool pin_to_cpu(int cpu);
/// Lets the caller run on every CPU again.
void unpin(void);
/// Remembers why a measurement cannot be done (with errno); always returns false.
bool cannot(const char *what);

#endif
