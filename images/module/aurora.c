// SPDX-License-Identifier: GPL-2.0
/*
 * Registers the virtio-mmio devices of an Aurora guest, and sets it right after a restore.
 *
 * Debian's kernels are built without CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES, and a Xen-PV kernel has neither ACPI tables
 * nor an IOAPIC that could describe the devices. So the monitor names them, where ACPI does not, in one module parameter,
 *
 *     devices=BASE:SOURCE[,BASE:SOURCE...]
 *
 * BASE is the guest-physical address of a 4 KiB virtio-mmio register window. SOURCE is where its interrupts come from:
 * in a Xen domain (pv mode) an event channel that the monitor bound before the kernel started, otherwise (hvm mode) an
 * input of the IOAPIC, edge-triggered. Numbers are decimal, or hexadecimal with 0x.
 *
 *     generation=BASE:SOURCE
 *
 * A guest that is restored from a checkpoint has the clocks of that time, and the random numbers that every other
 * guest restored from it will have. The monitor writes new random bytes to the page at guest-physical BASE, and for how long
 * the guest was not there, and raises SOURCE before the guest executes anything. Its interrupt wakes a real-time
 * thread, which sets both right: it runs before any program does, because the way back to user mode looks for a thread of
 * higher priority.
 *
 * In pv mode the kernel offers a few things that such a machine cannot do. Calls that ask for them are refused, with the error of a
 * kernel that was built without, instead of being carried out by half: limits.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <asm/x86_init.h>
#include <linux/acpi.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/io.h>
#include <linux/platform_device.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <xen/events.h>
#include <xen/xen.h>

#define AURORA_DEVICES_MAX 64
#define AURORA_WINDOW_SIZE 4096

struct aurora_device {
	struct platform_device *platform;
	u64 base;
	/* An event channel in a Xen domain, an input of the IOAPIC elsewhere. */
	unsigned int source;
	int irq;
	bool bound;
};

static struct aurora_device registered[AURORA_DEVICES_MAX];
static unsigned int registered_count;

static char *devices;
module_param(devices, charp, 0444);
MODULE_PARM_DESC(devices, "BASE:SOURCE[,BASE:SOURCE...]: virtio-mmio windows and their event channels or IOAPIC inputs");

/* Reads "BASE:SOURCE" from text, which it modifies. */
static int aurora_parse(char *text, struct aurora_device *device)
{
	char *source = strchr(text, ':');
	int error;

	if (!source)
		return -EINVAL;
	*source++ = '\0';
	error = kstrtou64(text, 0, &device->base);
	if (!error)
		error = kstrtouint(source, 0, &device->source);
	if (error)
		return error;
	if (!device->source || !IS_ALIGNED(device->base, AURORA_WINDOW_SIZE) || device->base > U64_MAX - AURORA_WINDOW_SIZE)
		return -ERANGE;
	return 0;
}

/* A window or a source that two devices share would make either unusable, so a second use is refused. */
static bool aurora_is_taken(const struct aurora_device *device)
{
	unsigned int i;

	for (i = 0; i < registered_count; i++)
		if (registered[i].base == device->base || registered[i].source == device->source)
			return true;
	return false;
}

/* Finds the Linux interrupt of a device's source. */
static int aurora_bind(struct aurora_device *device)
{
	int irq, error;

	if (!xen_domain()) {
		irq = acpi_register_gsi(NULL, device->source, ACPI_EDGE_SENSITIVE, ACPI_ACTIVE_HIGH);
		if (irq < 0)
			return irq;
		device->irq = irq;
		device->bound = true;
		return 0;
	}
	/* Somebody else's channel (timer, console) must not be taken over: bind_evtchn_to_irq() would only warn. */
	if (device->source >= xen_evtchn_nr_channels() || (int)irq_from_evtchn(device->source) > 0)
		return -EBUSY;
	irq = bind_evtchn_to_irq(device->source);
	if (irq < 0)
		return irq;
	device->irq = irq;
	device->bound = true;
	/* Only a reference-counted channel can be given back without a handler, see aurora_unbind(). */
	error = evtchn_make_refcounted(device->source);
	if (error)
		pr_warn("event channel %u cannot be given back: error %d\n", device->source, error);
	return 0;
}

static void aurora_unbind(struct aurora_device *device)
{
	if (device->bound && xen_domain())
		evtchn_put(device->source);
	else if (device->bound)
		acpi_unregister_gsi(device->source);
	device->bound = false;
}

static int aurora_register(struct aurora_device *device)
{
	struct resource resources[] = {
		DEFINE_RES_MEM(device->base, AURORA_WINDOW_SIZE),
		DEFINE_RES_IRQ(device->irq),
	};

	device->platform = platform_device_register_simple("virtio-mmio", registered_count, resources, ARRAY_SIZE(resources));
	return PTR_ERR_OR_ZERO(device->platform);
}

static int aurora_add(char *text)
{
	struct aurora_device device = {};
	int error;

	if (registered_count == AURORA_DEVICES_MAX)
		return -E2BIG;
	error = aurora_parse(text, &device);
	if (error)
		return error;
	if (aurora_is_taken(&device))
		return -EEXIST;
	error = aurora_bind(&device);
	if (error)
		return error;
	error = aurora_register(&device);
	if (error) {
		aurora_unbind(&device);
		return error;
	}
	registered[registered_count++] = device;
	return 0;
}

/* Takes the devices away in the reverse order: the driver frees the interrupt before its channel is given back. */
static void aurora_remove_all(void)
{
	while (registered_count) {
		struct aurora_device *device = &registered[--registered_count];

		platform_device_unregister(device->platform);
		aurora_unbind(device);
	}
}

/* What the monitor writes before each restore; the bytes are different each time. */
struct aurora_generation {
	u8 seed[64];
	/* Nanoseconds for which the guest was not there, by the wall clocks of its hosts; zero once they are taken notice of. */
	u64 absent;
};

static char *generation;
module_param(generation, charp, 0444);
MODULE_PARM_DESC(generation, "BASE:SOURCE: page of random bytes and interrupt by which the monitor announces a restore");

static unsigned int restores;
module_param(restores, uint, 0444);
MODULE_PARM_DESC(restores, "how often this guest was restored (read only)");

static struct aurora_generation *generation_page;
static struct aurora_device generation_source;
static struct file *random_device;

/*
 * Mixes the monitor's bytes in, then has all generators take new keys: RNDRESEEDCRNG, as a program would ask for it,
 * because crng_reseed() is not exported, nor is add_vmfork_randomness() in this kernel.
 */
static void aurora_reseed(void)
{
	struct aurora_generation copy;
	long error;

	memcpy(&copy, generation_page, sizeof(copy));
	memzero_explicit(generation_page->seed, sizeof(generation_page->seed));
	add_device_randomness(copy.seed, sizeof(copy.seed));
	memzero_explicit(&copy, sizeof(copy));
	if (IS_ERR_OR_NULL(random_device))
		return;
	error = random_device->f_op->unlocked_ioctl(random_device, RNDRESEEDCRNG, 0);
	/* -ENODATA: the generator was not ready yet, so nobody has had anything from it. */
	if (error && error != -ENODATA)
		pr_err("cannot reseed after a restore: error %ld\n", error);
}

/*
 * Adds a time in which the machine slept to CLOCK_REALTIME, CLOCK_TAI and CLOCK_BOOTTIME: what the kernel does for a clock that
 * only a driver can read. It is there for such drivers, but not exported: it is found as a probe would find it, which is never armed.
 * Without it CLOCK_BOOTTIME leaves out the time in which the guest was not there.
 */
static void (*aurora_inject_sleep)(const struct timespec64 *delta);

static void aurora_find_inject_sleep(void)
{
	static struct kprobe probe = {
		.symbol_name = "timekeeping_inject_sleeptime64",
		.flags = KPROBE_FLAG_DISABLED,
	};
	int error = register_kprobe(&probe);

	if (error) {
		pr_info("CLOCK_BOOTTIME will leave out the time between a checkpoint and its restore: error %d\n", error);
		return;
	}
	aurora_inject_sleep = (void *)probe.addr;
	unregister_kprobe(&probe);
}

/* The clocks after a restore are as after a suspend. */
static void aurora_pass_absence(void)
{
	u64 absent = READ_ONCE(generation_page->absent);
	struct timespec64 delta;

	WRITE_ONCE(generation_page->absent, 0);
	if (!absent || absent > S64_MAX || !aurora_inject_sleep)
		return;
	delta = ns_to_timespec64(absent);
	aurora_inject_sleep(&delta);
}

static irqreturn_t aurora_restored(int irq, void *unused)
{
	struct timespec64 now;

	aurora_pass_absence();
	x86_platform.get_wallclock(&now);
	if (do_settimeofday64(&now))
		pr_err("cannot set the clock after a restore\n");
	aurora_reseed();
	WRITE_ONCE(restores, restores + 1);
	return IRQ_HANDLED;
}

static int aurora_watch_restores(void)
{
	char *copy;
	int error;

	if (!generation || !*generation)
		return 0;
	copy = kstrdup(generation, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	error = aurora_parse(copy, &generation_source);
	kfree(copy);
	if (error)
		return error;
	if (aurora_is_taken(&generation_source))
		return -EEXIST;
	error = aurora_bind(&generation_source);
	if (error)
		return error;
	generation_page = memremap(generation_source.base, AURORA_WINDOW_SIZE, MEMREMAP_WB);
	if (!generation_page) {
		error = -ENOMEM;
		goto unbind;
	}
	aurora_find_inject_sleep();
	/* Opened now, by the process that loads the module: the interrupt's thread may have no /dev. */
	random_device = filp_open("/dev/urandom", O_RDONLY, 0);
	if (IS_ERR(random_device))
		pr_warn("no /dev/urandom: restores mix in new random bytes, but do not reseed at once\n");
	error = request_threaded_irq(generation_source.irq, NULL, aurora_restored, IRQF_ONESHOT, "aurora-restore", NULL);
	if (!error)
		return 0;
	if (!IS_ERR(random_device))
		filp_close(random_device, NULL);
	memunmap(generation_page);
unbind:
	generation_page = NULL;
	aurora_unbind(&generation_source);
	return error;
}

static void aurora_unwatch_restores(void)
{
	if (!generation_page)
		return;
	free_irq(generation_source.irq, NULL);
	if (!IS_ERR(random_device))
		filp_close(random_device, NULL);
	memunmap(generation_page);
	aurora_unbind(&generation_source);
}

#include "limits.h"

/* Registers all devices, or none. */
static int aurora_add_all(void)
{
	char *copy, *rest, *entry;
	int error = 0;

	if (!devices || !*devices)
		return 0;
	copy = kstrdup(devices, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	rest = copy;
	while ((entry = strsep(&rest, ","))) {
		error = aurora_add(entry);
		if (error) {
			/* strsep() and the parser cut the entry; its position still says which one it is. */
			pr_err("cannot add device %u of devices=%s: error %d\n", registered_count, devices, error);
			aurora_remove_all();
			break;
		}
	}
	kfree(copy);
	return error;
}

static int __init aurora_init(void)
{
	int error;

	if (xen_domain() && (!devices || !*devices)) {
		pr_err("no devices given: the parameter devices=BASE:SOURCE[,...] is missing\n");
		return -EINVAL;
	}
	error = aurora_add_all();
	if (error)
		return error;
	/* A guest whose restores cannot be announced still runs; the agent sets it right then, a little later. */
	error = aurora_watch_restores();
	if (error)
		pr_err("cannot watch for restores by generation=%s: error %d\n", generation, error);
	if (xen_pv_domain()) {
		aurora_refuse_all();
		error = aurora_take_work();
		if (error)
			pr_err("work for interrupts waits for the tick: error %d\n", error);
	}
	return 0;
}

static void __exit aurora_exit(void)
{
	aurora_leave_work();
	aurora_refuse_nothing();
	aurora_unwatch_restores();
	aurora_remove_all();
}

module_init(aurora_init);
module_exit(aurora_exit);

MODULE_DESCRIPTION("virtio-mmio devices of an Aurora guest");
MODULE_LICENSE("GPL");
