/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a kernel in pv mode offers and such a machine cannot do is refused here; what it does late for want of a local APIC is done at
 * once. Included by aurora.c, whose functions bind event channels.
 */
#include <asm/xen/hypercall.h>
#include <linux/hw_breakpoint.h>
#include <linux/irq_work.h>
#include <linux/perf_event.h>
#include <linux/prctl.h>
#include <xen/interface/event_channel.h>

/*
 * What is refused in pv mode.
 *
 * Segments of a local descriptor table cannot be loaded: the KVM that pv mode is for has none for its guests.
 * The time-stamp counter cannot be forbidden: the kernel reads it in the same ring as its programs.
 * Hardware breakpoints are set, but never hit, on a KVM that does not load a guest's debug registers.
 */
struct aurora_refusal {
	struct kprobe probe;
	/* Runs instead of the function, with its arguments. */
	long (*instead)(void);
	bool (*is_asked)(const struct pt_regs *regs);
};

static long aurora_no_such_call(void)
{
	return -ENOSYS;
}

static long aurora_no_such_mode(void)
{
	return -EINVAL;
}

static long aurora_no_such_device(void)
{
	return -EOPNOTSUPP;
}

static bool aurora_forbids_counter(const struct pt_regs *regs)
{
	return (unsigned int)regs->di == PR_TSC_SIGSEGV;
}

/* At a function's first instruction: another one begins in its place. */
static int aurora_refuse(struct kprobe *probe, struct pt_regs *regs)
{
	const struct aurora_refusal *refusal = container_of(probe, struct aurora_refusal, probe);

	if (refusal->is_asked && !refusal->is_asked(regs))
		return 0;
	regs->ip = (unsigned long)refusal->instead;
	return 1;
}

/* That there is one tells the kernel that the probe changes where the function goes on. */
static void aurora_refused(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

#define AURORA_REFUSAL(function, replacement, question)                                                             \
	{                                                                                                           \
		.probe = { .symbol_name = function, .pre_handler = aurora_refuse, .post_handler = aurora_refused }, \
		.instead = replacement, .is_asked = question,                                                       \
	}
static struct aurora_refusal aurora_refusals[] = {
	AURORA_REFUSAL("__x64_sys_modify_ldt", aurora_no_such_call, NULL),
	AURORA_REFUSAL("__ia32_sys_modify_ldt", aurora_no_such_call, NULL),
	AURORA_REFUSAL("set_tsc_mode", aurora_no_such_mode, aurora_forbids_counter),
	AURORA_REFUSAL("hw_breakpoint_arch_parse", aurora_no_such_device, NULL),
};
static unsigned int aurora_refusals_armed;

/*
 * Without a local APIC, which a Xen domain lacks, the kernel puts off work for an interrupt of its own to the next tick; a hash of BPF
 * that takes its elements from a reserve then runs out of memory. Here it is an event channel that raises itself.
 */
static struct aurora_device aurora_work_source;

static irqreturn_t aurora_work(int irq, void *unused)
{
	irq_work_run();
	return IRQ_HANDLED;
}

static long aurora_raise_work(void)
{
	notify_remote_via_irq(aurora_work_source.irq);
	return 0;
}

static struct aurora_refusal aurora_work_raised = AURORA_REFUSAL("arch_irq_work_raise", aurora_raise_work, NULL);

static int aurora_take_work(void)
{
	struct evtchn_bind_ipi channel = { .vcpu = 0 };
	int error = HYPERVISOR_event_channel_op(EVTCHNOP_bind_ipi, &channel);

	if (error)
		return error;
	aurora_work_source.source = channel.port;
	error = aurora_bind(&aurora_work_source);
	if (error)
		return error;
	error = request_irq(aurora_work_source.irq, aurora_work, IRQF_PERCPU | IRQF_NO_SUSPEND, "aurora-work", NULL);
	if (error)
		goto unbind;
	error = register_kprobe(&aurora_work_raised.probe);
	if (!error)
		return 0;
	free_irq(aurora_work_source.irq, NULL);
unbind:
	aurora_unbind(&aurora_work_source);
	return error;
}

static void aurora_leave_work(void)
{
	if (!aurora_work_source.bound)
		return;
	unregister_kprobe(&aurora_work_raised.probe);
	free_irq(aurora_work_source.irq, NULL);
	aurora_unbind(&aurora_work_source);
}

static unsigned long aurora_watched;
static bool aurora_was_hit;

static void aurora_hit(struct perf_event *event, struct perf_sample_data *data, struct pt_regs *regs)
{
	aurora_was_hit = true;
}

/* Whether debug registers do anything: tried, since a KVM that keeps them need not load them. */
static bool aurora_has_breakpoints(void)
{
	struct perf_event * __percpu *event;
	struct perf_event_attr attribute;

	hw_breakpoint_init(&attribute);
	attribute.bp_addr = (unsigned long)&aurora_watched;
	attribute.bp_len = HW_BREAKPOINT_LEN_8;
	attribute.bp_type = HW_BREAKPOINT_W;
	event = register_wide_hw_breakpoint(&attribute, aurora_hit, NULL);
	if (IS_ERR((void __force *)event))
		return false;
	WRITE_ONCE(aurora_watched, 1);
	unregister_wide_hw_breakpoint(event);
	return READ_ONCE(aurora_was_hit);
}

static void aurora_refuse_all(void)
{
	unsigned int count = ARRAY_SIZE(aurora_refusals);

	if (aurora_has_breakpoints())
		count--;
	for (; aurora_refusals_armed < count; aurora_refusals_armed++) {
		int error = register_kprobe(&aurora_refusals[aurora_refusals_armed].probe);

		if (!error)
			continue;
		pr_err("cannot refuse %s: error %d\n", aurora_refusals[aurora_refusals_armed].probe.symbol_name, error);
		return;
	}
}

static void aurora_refuse_nothing(void)
{
	while (aurora_refusals_armed)
		unregister_kprobe(&aurora_refusals[--aurora_refusals_armed].probe);
}
