import Linux
import Synchronization

/// A virtio-mmio device: registers, status, queues and interrupts (virtio 1.2, section 4.2), around a device of any kind.
///
/// vCPU threads write registers, the loop's thread serves queues; both hold `lock`. Reads come from the register page.
///
/// `@unchecked Sendable`: everything but the page, the notifiers and the interrupt line is only touched under `lock`.
final class MMIOTransport<Device: VirtioDevice>: MMIOWindow, DeviceHost, @unchecked Sendable {
    let deviceType: VirtioDeviceType
    let page: RegisterPage
    let queueNotifiers: [EventDescriptor]

    let lock = Mutex<Void>(())
    let device: Device
    let link: DeviceLink
    let offeredFeatures: UInt64
    var status: VirtioStatus = []
    var deviceFeaturesSelect: UInt32 = 0
    var driverFeaturesSelect: UInt32 = 0
    var driverFeatures: UInt64 = 0
    var queueSelect: UInt32 = 0
    var queues: [QueueState]
    var failure: VirtioError?
    private var loop: EventLoop?
    private var notifierRegistrations: [EventLoop.Registration] = []
    private var watches: [Int32: EventLoop.Registration] = [:]

    /// Makes the device, idle until `attach(to:)`.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    init(_ device: Device, memory: GuestMemory, interrupt: any InterruptLine, page: RegisterPage) throws(SystemError) {
        self.device = device
        self.page = page
        deviceType = device.type
        offeredFeatures = device.features | VirtioFeature.common
        var notifiers: [EventDescriptor] = []
        for _ in device.queueSizeMaxima { notifiers.append(try EventDescriptor()) }
        queueNotifiers = notifiers
        queues = device.queueSizeMaxima.map { QueueState(size: $0) }
        link = DeviceLink(memory: memory, interrupt: interrupt, queueCount: notifiers.count)
        link.host = self
        lock.withLock { _ in
            page[MMIORegister.configurationGeneration] = 0
            page.setConfiguration(device.configuration)
            showRegisters()
        }
    }

    var lastFailure: VirtioError? { lock.withLock { _ in failure } }

    /// Whether requests are served.
    var isActive: Bool { status.contains(.driverOK) && status.isDisjoint(with: [.needsReset, .failed]) }

    /// Uses the device itself, from any thread: only what is the host's.
    ///
    /// Rings, guest memory and interrupts belong to `whenRunning`: the machine may be at rest.
    func withDevice<Result, Failure: Error>(_ body: (Device, DeviceLink) throws(Failure) -> Result) throws(Failure) -> Result {
        try lock.withLock { _ throws(Failure) in try body(device, link) }
    }

    /// Uses the device and its rings as a handler does: on the loop's thread, and not while the machine is at rest.
    ///
    /// At once when there is no loop.
    func whenRunning(_ body: @escaping @Sendable (Device, DeviceLink) throws(VirtioError) -> Void) {
        guard let loop = lock.withLock({ _ in self.loop }) else { return serve(body) }
        loop.run { [weak self] in self?.serve(body) }
    }

    private func serve(_ body: (Device, DeviceLink) throws(VirtioError) -> Void) {
        lock.withLock { _ in
            link.turn.begin()
            attempt { () throws(VirtioError) in try body(device, link) }
        }
    }

    // MARK: - Event loop

    func attach(to loop: EventLoop) throws(SystemError) {
        try lock.withLock { _ throws(SystemError) in
            precondition(self.loop == nil, "a device is attached once")
            self.loop = loop
            for (index, notifier) in queueNotifiers.enumerated() {
                notifierRegistrations.append(
                    try loop.register(notifier.rawValue) { [weak self] _ in
                        notifier.drain()
                        self?.notify(queue: index)
                    })
            }
            try device.attached(to: link)
        }
    }

    func detach() {
        let (loop, registrations) = lock.withLock { _ in
            device.reset(link)
            defer { (self.loop, notifierRegistrations, watches) = (nil, [], [:]) }
            return (self.loop, notifierRegistrations + watches.values)
        }
        // Without the lock: a handler that has begun may want it.
        for registration in registrations { loop?.unregister(registration, waits: true) }
    }

    func notify(queue: Int) {
        lock.withLock { _ in
            guard isActive, link.queue(queue) != nil else { return }
            link.turn.begin()
            attempt { () throws(VirtioError) in try device.notified(queue: queue, link) }
        }
    }

    func watch(_ descriptor: Int32, _ interest: EventLoop.Interest) throws(SystemError) {
        guard let loop else { return }
        if let registration = watches[descriptor] { return try loop.change(registration, to: interest) }
        watches[descriptor] = try loop.register(descriptor, interest) { [weak self] events in
            self?.descriptorReady(descriptor, events)
        }
    }

    func unwatch(_ descriptor: Int32) {
        if let registration = watches.removeValue(forKey: descriptor) { loop?.unregister(registration) }
    }

    private func descriptorReady(_ descriptor: Int32, _ events: EventLoop.Interest) {
        lock.withLock { _ in
            // The descriptor may have been given up while this call waited for the lock.
            guard watches[descriptor] != nil else { return }
            link.turn.begin()
            attempt { () throws(VirtioError) in try device.ready(descriptor, events, link) }
        }
    }

    func serveAgain(queue: Int) { queueNotifiers[queue].signal() }

    var isWaitedFor: Bool { loop?.isWaitedFor ?? false }

    // MARK: - Failure, configuration, reset. The lock is held.

    /// Does what a driver asked for; if it asked for nonsense, the device fails.
    func attempt(_ body: () throws(VirtioError) -> Void) {
        do throws(VirtioError) { try body() } catch { fail(error) }
    }

    /// The driver broke a rule: stop serving it and ask for a reset (virtio 1.2, section 2.1.1).
    func fail(_ error: VirtioError) {
        failure = error
        let wasDriven = status.contains(.driverOK)
        status.insert(.needsReset)
        link.queues = link.queues.map { _ in nil }
        link.features = 0
        device.reset(link)
        showRegisters()
        if wasDriven { announceConfigurationChange() }
    }

    func changeConfiguration(_ bytes: [UInt8], tellingDriver: Bool) {
        page[MMIORegister.configurationGeneration] &+= 1
        page.setConfiguration(bytes)
        if tellingDriver, status.contains(.driverOK) { announceConfigurationChange() }
    }

    private func announceConfigurationChange() {
        page.word(MMIORegister.interruptStatus).pointee.bitwiseOr(InterruptReason.configuration.littleEndian, ordering: .releasing)
        link.interrupt.trigger()
    }

    func reset() {
        device.reset(link)
        link.queues = link.queues.map { _ in nil }
        link.features = 0
        status = []
        deviceFeaturesSelect = 0
        driverFeaturesSelect = 0
        driverFeatures = 0
        queueSelect = 0
        queues = device.queueSizeMaxima.map { QueueState(size: $0) }
        page[MMIORegister.interruptStatus] = 0
        page.setConfiguration(device.configuration)
        showRegisters()
    }

    /// Makes the queues from what the driver has set up, and starts the device.
    func activate() throws(VirtioError) {
        let sizeMaxima = device.queueSizeMaxima
        var active: [VirtQueue?] = []
        for (index, setup) in queues.enumerated() {
            active.append(
                setup.isReady
                    ? try VirtQueue(
                        index: index, setup: setup, sizeMax: sizeMaxima[index], features: driverFeatures, memory: link.memory,
                        turn: link.turn)
                    : nil)
        }
        link.queues = active
        link.features = driverFeatures
        try device.activate(link)
    }
}
