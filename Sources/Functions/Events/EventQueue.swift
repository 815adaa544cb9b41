internal import Linux

/// How asynchronous invocations are delivered.
public struct EventLimits: Sendable {
    /// Events that wait or are being delivered.
    public var eventsMax = 10_000
    /// Bytes of the events that are kept, dead letters included.
    public var bytesMax = 256 << 20
    /// Events delivered at once.
    public var deliveriesMax = 32
    /// Times a function that failed is run again (Lambda: 2).
    public var retriesMax = 2
    /// Milliseconds before the first of these; twice as long before the second (Lambda: one minute, then two).
    public var retryMilliseconds: Int64 = 60_000
    /// Milliseconds after which an event that could not be delivered is given up (Lambda: 6 hours).
    public var ageMillisecondsMax: Int64 = 6 * 3600 * 1000
    /// Dead letters kept; the oldest is dropped for a new one.
    public var deadLettersMax = 1000
    /// The disk and the clocks.
    var disk = EventDisk()

    /// The limits of the documentation.
    public init() {}
}

/// How a delivery went.
enum Delivery: Sendable {
    /// The function answered.
    case done
    /// The function failed, with this answer if there was one: it is run again a bounded number of times.
    case failed(String, answer: [UInt8] = [])
    /// No instance was to be had: it is tried again while the event is young.
    case unavailable(String)
    /// There is no such function any more.
    case hopeless(String)
}

/// Delivers asynchronous invocations at least once, in the order of their coming as far as nothing fails.
actor EventQueue {
    private let log: EventLog
    private let limits: EventLimits
    private let deliver: @Sendable (StoredEvent) async -> Delivery
    /// What becomes of an event that is given up, with its function's last answer, at a time of the wall clock.
    private let fate: @Sendable (StoredEvent, _ answer: [UInt8], _ time: Int64) -> DeadLetterFate
    /// What happened to an event, for metrics and logs.
    private let report: @Sendable (StoredEvent, Delivery, _ isOver: Bool) -> Void

    private var ready: [String] = []
    private var readyStart = 0
    /// When events are tried next, milliseconds of the monotonic clock: the time of day may jump, which must neither hold them up nor
    /// make them old.
    private var delayed: [String: Int64] = [:]
    /// When events came, by the same clock.
    private var arrivals: [String: Int64] = [:]
    private var running: Set<String> = []
    private var throttles: [String: Int] = [:]
    private var alarm: Task<Void, Never>?
    private var isStopped = false
    private var dead: [String] = []

    init(
        log: EventLog, limits: EventLimits, deliver: @escaping @Sendable (StoredEvent) async -> Delivery,
        fate: @escaping @Sendable (StoredEvent, [UInt8], Int64) -> DeadLetterFate = { _, _, _ in .kept },
        report: @escaping @Sendable (StoredEvent, Delivery, Bool) -> Void = { _, _, _ in }
    ) {
        self.log = log
        self.limits = limits
        self.deliver = deliver
        self.fate = fate
        self.report = report
    }

    /// Takes up what an earlier gateway left.
    func start() {
        let events = log.events.sorted { ($0.receivedAt, $0.identifier) < ($1.receivedAt, $1.identifier) }
        let (now, day) = (self.now, limits.disk.wall())
        for event in events {
            if event.deadAt != nil {
                dead.append(event.identifier)
                continue
            }
            // The clock of the gateway before may have been another: no event waits for longer than it ever would have.
            delayed[event.identifier] = now + max(0, min(event.nextAt - day, delayMax(event)))
            arrivals[event.identifier] = now - max(0, min(day - event.receivedAt, limits.ageMillisecondsMax))
        }
        wake()
    }

    /// Milliseconds of the monotonic clock.
    private var now: Int64 { limits.disk.now() / 1_000_000 }

    /// Tries to get the log well again, should it have failed.
    nonisolated func retry() { log.retry() }

    /// Why no event is taken at the moment; nil: they are.
    nonisolated var failure: SystemError? { log.failure }

    private func delayMax(_ event: StoredEvent) -> Int64 { max(EventQueue.unavailableMax, retryDelay(max(1, event.attempts))) }
    private func retryDelay(_ attempts: Int) -> Int64 { limits.retryMilliseconds << Int64(min(attempts - 1, 20)) }
    /// The longest that an event waits that no instance could be had for.
    private static let unavailableMax: Int64 = 300_000

    /// Events that wait, are being delivered, and are dead.
    var counts: (waiting: Int, running: Int, dead: Int) { (ready.count - readyStart + delayed.count, running.count, dead.count) }

    /// All events that are kept, oldest first.
    nonisolated var events: [StoredEvent] { log.events.sorted { ($0.receivedAt, $0.identifier) < ($1.receivedAt, $1.identifier) } }

    /// Keeps an event; it is durable when this returns true, and refused for want of room when it returns false.
    ///
    /// - Throws: `SystemError` when the disk fails.
    func add(_ event: StoredEvent) async throws -> Bool {
        guard !isStopped, ready.count - readyStart + delayed.count + running.count < limits.eventsMax,
            log.liveBytes + event.payload.count <= limits.bytesMax
        else { return false }
        // The place is taken before the disk is waited for, so that the bound holds.
        delayed[event.identifier] = .max
        do {
            try await log.append(.event(event))
        } catch {
            delayed[event.identifier] = nil
            log.note(.done(event.identifier))
            throw error
        }
        delayed[event.identifier] = nil
        arrivals[event.identifier] = now
        ready.append(event.identifier)
        pump()
        return true
    }

    /// Takes a dead letter away; false when there is none of that name.
    func removeDeadLetter(_ identifier: String) async throws -> Bool {
        guard let index = dead.firstIndex(of: identifier) else { return false }
        dead.remove(at: index)
        try await log.append(.done(identifier))
        return true
    }

    /// Has a dead letter delivered once more, as often as at first; durable when it returns true, false when there is none of that name.
    func replay(_ identifier: String) async throws -> Bool {
        guard !isStopped, let index = dead.firstIndex(of: identifier), var event = log[identifier] else { return false }
        dead.remove(at: index)
        // It is nobody's until it is durable.
        delayed[identifier] = .max
        (event.attempts, event.deadAt, event.failure) = (0, nil, nil)
        // As if it came now: it is not old before it was tried.
        (event.receivedAt, event.nextAt) = (limits.disk.wall(), limits.disk.wall())
        let again = event
        do {
            try await log.append(.event(again))
        } catch {
            delayed[identifier] = nil
            dead.append(identifier)
            throw error
        }
        delayed[identifier] = nil
        arrivals[identifier] = now
        ready.append(identifier)
        pump()
        return true
    }

    /// Delivers no more; what is being delivered goes on, and is delivered again later if it does not end well.
    func stop() {
        isStopped = true
        alarm?.cancel()
    }

    private func wake() {
        guard !isStopped else { return }
        let now = now
        let due = delayed.filter { $0.value <= now }.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        for (identifier, _) in due {
            delayed[identifier] = nil
            ready.append(identifier)
        }
        pump()
        alarm?.cancel()
        guard let next = delayed.values.min(), next < .max else { return }
        alarm = Task {
            try? await Task.sleep(for: .milliseconds(max(1, min(next - now, 60_000))))
            if !Task.isCancelled { self.wake() }
        }
    }

    private func pump() {
        while !isStopped, running.count < limits.deliveriesMax, readyStart < ready.count {
            let identifier = ready[readyStart]
            readyStart += 1
            if readyStart > 1024, readyStart * 2 > ready.count {
                ready.removeFirst(readyStart)
                readyStart = 0
            }
            guard let event = log[identifier] else { continue }
            running.insert(identifier)
            Task {
                let delivery = await deliver(event)
                self.end(event, delivery)
            }
        }
    }

    private func end(_ event: StoredEvent, _ delivery: Delivery) {
        running.remove(event.identifier)
        // A gateway that ends cuts deliveries off: that is not the function's failure.
        if isStopped, case .done = delivery {} else if isStopped { return }
        var event = event
        let isOld = now - arrivals[event.identifier, default: now] > limits.ageMillisecondsMax
        var isOver = true
        switch delivery {
        case .done: log.note(.done(event.identifier))
        case .failed(let reason, _):
            event.attempts += 1
            event.failure = reason
            isOver = event.attempts > limits.retriesMax || isOld
            if !isOver { delay(&event, by: retryDelay(event.attempts)) }
        case .unavailable(let reason):
            let count = throttles[event.identifier, default: 0]
            throttles[event.identifier] = count + 1
            event.failure = reason
            isOver = isOld
            if !isOver { delay(&event, by: min(EventQueue.unavailableMax, 1000 << Int64(min(count, 20)))) }
        case .hopeless(let reason): event.failure = reason
        }
        if isOver {
            (throttles[event.identifier], arrivals[event.identifier]) = (nil, nil)
            if !isDone(delivery) { giveUp(&event, delivery) }
        }
        report(event, delivery, isOver)
        pump()
    }

    private func isDone(_ delivery: Delivery) -> Bool { if case .done = delivery { true } else { false } }

    private func delay(_ event: inout StoredEvent, by milliseconds: Int64) {
        event.nextAt = limits.disk.wall() + milliseconds
        log.note(.event(event))
        delayed[event.identifier] = now + milliseconds
        wake()
    }

    /// Hands an event on, in the place of which what it became is delivered; or keeps it.
    private func giveUp(_ event: inout StoredEvent, _ delivery: Delivery) {
        var answer: [UInt8] = []
        if case .failed(_, let said) = delivery { answer = said }
        switch fate(event, answer, limits.disk.wall()) {
        case .kept: return bury(&event)
        case .refused(let reason): event.failure = "\(event.failure ?? "") (not handed on: \(reason))"
        case .handedOn(let letter):
            guard log.liveBytes + letter.payload.count <= limits.bytesMax else {
                event.failure = "\(event.failure ?? "") (not handed on: the queue is full)"
                break
            }
            // In this order: what is lost by a crash between them is that the one before is over, and it is delivered once more.
            log.note(.event(letter))
            log.note(.done(event.identifier))
            arrivals[letter.identifier] = now
            ready.append(letter.identifier)
            return
        }
        bury(&event)
    }

    private func bury(_ event: inout StoredEvent) {
        event.deadAt = limits.disk.wall()
        log.note(.event(event))
        dead.append(event.identifier)
        while dead.count > limits.deadLettersMax { log.note(.done(dead.removeFirst())) }
    }
}
