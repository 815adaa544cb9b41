/// How many functions are built at once, and how many may wait for that.
public struct BuildLimits: Sendable {
    /// Builds at once.
    public var buildsMax = 2
    /// Builds beyond these that have taken longer than `patienceMilliseconds`.
    public var slowMax = 2
    /// Milliseconds after which a build leaves its place to the next one, and goes on beside it.
    public var patienceMilliseconds = 15_000
    /// Changes that wait to be built; for one more, clients are told to come again (429).
    public var waitingMax = 64

    /// The limits of the documentation.
    public init() {}
}

/// Who is built next: a value without clocks and tasks, so that each rule can be tested on its own.
///
/// In the order of their coming, but: what takes long holds up nobody (it goes on in the slow lane, as long as there is room in that),
/// and functions whose initialization is only tried again leave a place free for changes.
struct BuildLine {
    /// A build that waits or runs.
    typealias Ticket = UInt64

    private let limits: BuildLimits
    /// Builds that wait: a change of a function, or another try of an initialization.
    private var waiting: [(ticket: Ticket, isRetry: Bool)] = []
    private var running: [Ticket: (isRetry: Bool, isSlow: Bool)] = [:]
    private var last: Ticket = 0
    /// Places in the line that were promised.
    private var reserved = 0

    init(_ limits: BuildLimits) { self.limits = limits }

    /// Builds that wait, places promised included.
    var waitingCount: Int { waiting.count + reserved }
    /// Builds that run.
    var runningCount: Int { running.count }

    /// Promises a place in the line; false when it is full.
    mutating func reserve() -> Bool {
        guard waitingCount < limits.waitingMax else { return false }
        reserved += 1
        return true
    }

    /// A promised place is not needed, or is taken now.
    mutating func unreserve() { reserved -= 1 }

    /// Joins the line.
    mutating func add(isRetry: Bool) -> Ticket {
        last += 1
        waiting.append((last, isRetry))
        return last
    }

    /// Those whose turn it is.
    mutating func next() -> [Ticket] {
        var turns: [Ticket] = []
        while let index = waiting.firstIndex(where: { mayRun(isRetry: $0.isRetry) }) {
            let (ticket, isRetry) = waiting.remove(at: index)
            running[ticket] = (isRetry, false)
            turns.append(ticket)
        }
        return turns
    }

    /// A build takes long: it leaves its place if there is room for it in the slow lane; false: it does not.
    mutating func slow(_ ticket: Ticket) -> Bool {
        guard running[ticket]?.isSlow == false, running.values.count(where: \.isSlow) < limits.slowMax else { return false }
        running[ticket]?.isSlow = true
        return true
    }

    /// A build is over.
    mutating func remove(_ ticket: Ticket) { running[ticket] = nil }

    /// Builds that would leave their places, were there room in the slow lane.
    var prompt: [Ticket] { running.filter { !$0.value.isSlow }.map(\.key).sorted() }

    private func mayRun(isRetry: Bool) -> Bool {
        let prompt = running.values.filter { !$0.isSlow }
        guard prompt.count < max(1, limits.buildsMax) else { return false }
        return !isRetry || prompt.count(where: \.isRetry) < max(1, limits.buildsMax - 1)
    }
}
