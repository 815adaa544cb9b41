/// The instances and waiting requests of all functions: who may take, start, or must wait.
///
/// A plain value without clocks or tasks, so that every rule can be tested on its own.
struct InstanceShelf {
    /// An instance that waits for a request.
    struct Idle {
        var instance: any FunctionInstance
        var revision: String
        /// Whose it is; nil: the function has no tenants.
        var tenant: String?
        var since: Int64
        /// Memory it was promised.
        var bytes: Int
    }

    /// What a waiting request is told.
    enum Turn: Sendable {
        /// Here is an instance.
        case instance(any FunctionInstance)
        /// There is room: start one.
        case start
        /// It took too long, or the gateway ends.
        case refused(InvokerError)
    }

    /// A waiting request.
    struct Waiter {
        var ticket: UInt64
        var revision: String
        var tenant: String?
        /// Memory of an instance for it.
        var bytes: Int
        var resume: @Sendable (Turn) -> Void
    }

    /// What a request gets at once.
    enum Grant {
        case instance(any FunctionInstance)
        case start
        case wait
        case refused(String)
    }

    private struct Line {
        var idle: [Idle] = []
        var waiters: [Waiter] = []
        /// Requests that have an instance, or start one.
        var active = 0
        var concurrencyMax: Int?
        var isEmpty: Bool { idle.isEmpty && waiters.isEmpty && active == 0 }
    }

    private let limits: InvokerLimits
    private var lines: [String: Line] = [:]
    private(set) var activeCount = 0
    private(set) var startingCount = 0
    private(set) var idleCount = 0
    private(set) var waiterCount = 0
    /// Bytes of memory promised to live instances.
    private(set) var promisedBytes = 0
    /// Instances to be ended by whoever holds the shelf, outside its lock.
    private(set) var discarded: [any FunctionInstance] = []

    init(limits: InvokerLimits) { self.limits = limits }

    /// Live instances, starting ones included.
    var instanceCount: Int { activeCount + idleCount }

    /// Instances of a function: serving or starting, and idle.
    func counts(_ name: String) -> (active: Int, idle: Int, waiting: Int) {
        guard let line = lines[name] else { return (0, 0, 0) }
        return (line.active, line.idle.count, line.waiters.count)
    }

    /// Instances to be ended; they are the caller's now.
    mutating func takeDiscarded() -> [any FunctionInstance] {
        defer { discarded = [] }
        return discarded
    }

    /// What a new request may do.
    mutating func arrive(_ function: DeployedFunction, tenant: String? = nil, concurrencyMax: Int?) -> Grant {
        var line = lines[function.name] ?? Line()
        line.concurrencyMax = concurrencyMax
        defer { put(line, function.name) }
        if concurrencyMax == 0 { return .refused("the function's reserved concurrency is 0") }
        dropStale(&line, revision: function.revision)
        guard isRoom(line) else { return wait(line) }
        if line.waiters.isEmpty, let instance = takeIdle(&line, tenant) {
            activate(&line)
            return .instance(instance)
        }
        guard startingCount < limits.startsMax else { return wait(line) }
        guard makeRoom(&line, function.name, function.memoryBytes) else {
            return .refused(
                "\(promisedBytes >> 20) MiB of memory are promised to instances, at most \(limits.memoryPromisedMax >> 20) MiB may be")
        }
        activate(&line)
        startingCount += 1
        return .start
    }

    /// Puts a request in the line; `arrive` said it has to wait.
    mutating func add(_ waiter: Waiter, _ name: String) {
        lines[name, default: Line()].waiters.append(waiter)
        waiterCount += 1
    }

    /// Takes a request out of the line; nil when it had its turn already.
    mutating func removeWaiter(_ ticket: UInt64, _ name: String) -> Waiter? {
        guard var line = lines[name], let index = line.waiters.firstIndex(where: { $0.ticket == ticket }) else { return nil }
        let waiter = line.waiters.remove(at: index)
        waiterCount -= 1
        put(line, name)
        return waiter
    }

    /// A start ended, well or not: the request that did it stays active.
    mutating func started() { startingCount -= 1 }

    /// A request that was active is over; its instance, if it is good for more, goes to the next or on the shelf.
    mutating func leave(
        _ function: DeployedFunction, tenant: String? = nil, instance: (any FunctionInstance)?, now: Int64
    ) -> [() -> Void] {
        var line = lines[function.name] ?? Line()
        line.active -= 1
        activeCount -= 1
        if let instance {
            line.idle.append(
                Idle(instance: instance, revision: function.revision, tenant: tenant, since: now, bytes: function.memoryBytes))
            idleCount += 1
        } else {
            promisedBytes -= function.memoryBytes
        }
        put(line, function.name)
        return serveWaiters(first: function.name)
    }

    /// Gives turns to those who wait, as far as there is room.
    mutating func serveWaiters(first: String? = nil) -> [() -> Void] {
        guard waiterCount > 0 else { return [] }
        var turns: [() -> Void] = []
        var names = first.map { [$0] } ?? []
        names += lines.keys.filter { $0 != first && !(lines[$0]?.waiters.isEmpty ?? true) }
        for name in names {
            guard var line = lines[name] else { continue }
            while let waiter = line.waiters.first, isRoom(line) {
                dropStale(&line, revision: waiter.revision)
                if let instance = takeIdle(&line, waiter.tenant) {
                    turns.append { waiter.resume(.instance(instance)) }
                } else if startingCount < limits.startsMax, makeRoom(&line, name, waiter.bytes) {
                    startingCount += 1
                    turns.append { waiter.resume(.start) }
                } else {
                    break
                }
                line.waiters.removeFirst()
                waiterCount -= 1
                activate(&line)
            }
            put(line, name)
        }
        return turns
    }

    /// Refuses all who wait.
    mutating func refuseAll(_ error: InvokerError) -> [() -> Void] {
        var turns: [() -> Void] = []
        for (name, var line) in lines {
            for waiter in line.waiters { turns.append { waiter.resume(.refused(error)) } }
            waiterCount -= line.waiters.count
            line.waiters = []
            put(line, name)
        }
        return turns
    }

    /// Puts away instances that are idle since before a time, of one function or of all.
    mutating func expire(before: Int64, name: String? = nil) {
        for (key, var line) in lines where name == nil || key == name {
            let stale = line.idle.prefix { $0.since < before }
            guard !stale.isEmpty else { continue }
            discard(Array(stale))
            line.idle.removeFirst(stale.count)
            put(line, key)
        }
    }

    /// Puts away the instance that is idle for longest; false when none is.
    mutating func evictOldest() -> Bool {
        let oldest = lines.compactMap { name, line in line.idle.first.map { (name, $0.since) } }.min { $0.1 < $1.1 }
        guard let name = oldest?.0, var line = lines[name] else { return false }
        discard([line.idle.removeFirst()])
        put(line, name)
        return true
    }

    private func wait(_ line: Line) -> Grant {
        line.waiters.count < limits.waitersMax ? .wait : .refused("\(limits.waitersMax) requests wait for it already")
    }

    private func isRoom(_ line: Line) -> Bool {
        activeCount < limits.concurrencyMax && line.active < line.concurrencyMax ?? Int.max
    }

    private mutating func activate(_ line: inout Line) {
        line.active += 1
        activeCount += 1
    }

    /// The instance of a tenant used last, which has the most of its memory in the processor's caches.
    private mutating func takeIdle(_ line: inout Line, _ tenant: String?) -> (any FunctionInstance)? {
        while let index = line.idle.lastIndex(where: { $0.tenant == tenant }) {
            let idle = line.idle.remove(at: index)
            idleCount -= 1
            if idle.instance.isUsable { return idle.instance }
            promisedBytes -= idle.bytes
            discarded.append(idle.instance)
        }
        return nil
    }

    private mutating func dropStale(_ line: inout Line, revision: String) {
        let stale = line.idle.filter { $0.revision != revision }
        guard !stale.isEmpty else { return }
        line.idle.removeAll { $0.revision != revision }
        discard(stale)
    }

    /// Makes room for one instance more, and takes it; the function's own line is not in `lines` but in the caller's hand.
    private mutating func makeRoom(_ line: inout Line, _ name: String, _ bytes: Int) -> Bool {
        put(line, name)
        if instanceCount >= limits.instancesMax { _ = evictOldest() }
        while limits.memoryPromisedMax - promisedBytes < bytes, evictOldest() {}
        line = lines[name] ?? line
        guard limits.memoryPromisedMax - promisedBytes >= bytes else { return false }
        promisedBytes += bytes
        return true
    }

    private mutating func discard(_ instances: [Idle]) {
        idleCount -= instances.count
        promisedBytes -= instances.reduce(0) { $0 + $1.bytes }
        discarded += instances.map(\.instance)
    }

    private mutating func put(_ line: Line, _ name: String) { lines[name] = line.isEmpty ? nil : line }
}
