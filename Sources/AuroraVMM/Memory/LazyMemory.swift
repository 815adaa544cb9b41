internal import CLinux
public import Linux
import Synchronization

/// How a lazily restored memory is filled.
public struct LazyPolicy: Sendable, Hashable {
    /// Pages fetched around a touched one, a power of two: the window that holds it, aligned to its own size.
    public var readAheadPages = 16
    /// Whether a thread that only runs when nobody else wants to fetches all other pages.
    public var populatesInBackground = false
    /// Pages that are fetched at once, by a thread of its own, in this order: what earlier restores had to wait for.
    ///
    /// Only a hint: pages that do not exist are passed over.
    public var pagesAhead: [UInt32] = []
    /// Touched pages that are remembered, at most.
    public var workingSetMax = 1 << 16
    /// How long the handler looks for the next fault before it sleeps, in nanoseconds.
    public var spinNanoseconds: Int64 = 100_000

    /// The defaults.
    public init() {}
}

/// What a lazily restored memory has done so far.
public struct LazyStatistics: Sendable, Hashable {
    /// Faults of vCPUs and of the kernel, each of which waited.
    public var faults = 0
    /// Pages fetched from the source.
    public var pagesRead = 0
    /// Pages that `LazyPolicy.pagesAhead` named and that were fetched before anybody touched them.
    public var pagesAhead = 0
    /// Pages filled with zeros.
    public var pagesZeroed = 0
    /// Time spent on faults by the handler, in nanoseconds.
    public var faultNanoseconds: Int64 = 0
}

/// Guest memory that is fetched from a `PageSource` page by page when it is first touched.
///
/// A vCPU, or KVM on its behalf, that touches a missing page waits for the handler thread (userfaultfd). The VMM's own
/// threads ask by `ensure` first and fetch on the spot: no switch of threads, and an error is an error there rather than a
/// wait. Filled pages count as filled for good: what is released later (the balloon) reads as zeros.
///
/// A page that cannot be had ends the machine: `setFailureHandler`'s handler is called before anybody sees a byte of it.
///
/// `@unchecked Sendable`: extents never change; the rest is guarded by mutexes.
public final class LazyMemory: @unchecked Sendable {
    struct Extent {
        let mapping: Mapping
        let firstPage: Int
        var pages: Int { mapping.count / pageBytes }
    }
    struct Counters {
        var statistics = LazyStatistics()
        var workingSet: [UInt32] = []
        var failure: PageSourceError?
        var isStopped = false
    }

    let extents: [Extent]
    /// Pages of all extents.
    public let pageCount: Int
    let policy: LazyPolicy
    let source: any PageSource
    let faults: UserFaults
    let present: PresentPages
    let counters = Mutex(Counters())
    private let failureHandler = Mutex<(@Sendable (PageSourceError) -> Void)?>(nil)
    private let ownBuffer: Mutex<Buffer>
    let stopEvent: EventDescriptor
    let isStopping = Atomic(false)
    private let threads = Mutex<[(name: String, thread: Thread)]>([])

    /// Room for one read, aligned for direct I/O.
    final class Buffer: @unchecked Sendable {
        // Safety: used by one thread at a time: the handler's own, the populator's own, or under `ownBuffer`.
        let bytes: UnsafeMutableRawBufferPointer
        init(pages: Int) { bytes = .allocate(byteCount: pages * pageBytes, alignment: pageBytes) }
        deinit { bytes.deallocate() }
    }

    /// Watches mappings of fresh anonymous memory, and begins to serve them.
    ///
    /// - Parameter mappings: one for each of `MachineState.memory`, in order.
    /// - Throws: `SystemError` when userfaultfd is not permitted or there are no threads.
    public init(_ mappings: [Mapping], source: any PageSource, policy: LazyPolicy = LazyPolicy()) throws(SystemError) {
        var extents: [Extent] = []
        var firstPage = 0
        for mapping in mappings {
            extents.append(Extent(mapping: mapping, firstPage: firstPage))
            firstPage += mapping.count / pageBytes
        }
        self.extents = extents
        pageCount = firstPage
        self.source = source
        var policy = policy
        policy.readAheadPages = min(max(policy.readAheadPages, 1), LazyMemory.readAheadMax)
        self.policy = policy
        faults = try UserFaults()
        present = try PresentPages(pages: firstPage)
        stopEvent = try EventDescriptor()
        ownBuffer = Mutex(Buffer(pages: policy.readAheadPages))
        for mapping in mappings { try faults.register(mapping, what: "guest memory") }
        do throws(SystemError) {
            try start("page faults") { memory in memory.serveFaults() }
            if !self.policy.pagesAhead.isEmpty { try start("pages ahead") { memory in memory.populateAhead() } }
            if policy.populatesInBackground { try start("populate") { memory in memory.populateAll() } }
        } catch {
            stop()
            throw error
        }
    }

    static let readAheadMax = 512

    // Nobody may use what is freed: here, and only here, the threads are waited for without a bound. Who has machines that may hang stops
    // them first, which leaves behind what does not come back, and this object with it.
    deinit {
        for (_, thread) in askToStop() { thread.join() }
        unregister()
    }

    private func start(_ name: String, _ body: @escaping @Sendable (LazyMemory) -> Void) throws(SystemError) {
        // Safety: `deinit` joins the threads; one that has just begun then must still find its memory.
        let thread = try Thread(name: name) { @Sendable [unowned(unsafe) self] in body(self) }
        threads.withLock { $0.append((name, thread)) }
    }

    /// Ends the threads.
    ///
    /// Idempotent. Nobody may wait for a page any more: machines stop their vCPUs and devices first.
    /// Pages that are still missing are lost, so the memory cannot be saved any more.
    ///
    /// - Parameter seconds: how long a source may take for the pages that a thread is at.
    /// - Returns: the names of the threads whose source has not come back; they live on, and so does this object.
    @discardableResult
    public func stop(seconds: Int = EventLoop.handlerSecondsMax) -> [String] {
        let deadline = clinux_clock_ns(CLOCK_MONOTONIC) + Int64(seconds) * 1_000_000_000
        var stuck: [String] = []
        for (name, thread) in askToStop() where !thread.join(withinNanoseconds: deadline - clinux_clock_ns(CLOCK_MONOTONIC)) {
            thread.leave()
            stuck.append(name)
        }
        guard stuck.isEmpty else {
            // The thread refers to it.
            _ = Unmanaged.passRetained(self)
            return stuck
        }
        unregister()
        return []
    }

    private func askToStop() -> [(name: String, thread: Thread)] {
        isStopping.store(true, ordering: .releasing)
        stopEvent.signal()
        return threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
    }

    private func unregister() {
        let wasStopped = counters.withLock { counters in
            defer { counters.isStopped = true }
            return counters.isStopped
        }
        if !wasStopped { for extent in extents { faults.unregister(extent.mapping) } }
    }

    // MARK: - What is known

    /// What has been done so far.
    public var statistics: LazyStatistics { counters.withLock { $0.statistics } }

    /// The pages that vCPUs touched first, in the order of their faults, without what was read ahead.
    public var workingSet: [UInt32] { counters.withLock { $0.workingSet } }

    /// The page that could not be had; nil as long as all is well.
    public var failure: PageSourceError? { counters.withLock { $0.failure } }

    /// Pages filled so far.
    public var presentPages: Int { present.count(pages: pageCount) }

    /// Whether all pages can still be had.
    var isWhole: Bool {
        counters.withLock { $0.failure == nil && !$0.isStopped } || (failure == nil && presentPages == pageCount)
    }

    // MARK: - Failure

    /// Names who ends the machine when a page cannot be had; nil: nobody.
    ///
    /// Returns when no call is under way. The handler returns when no vCPU will execute another instruction.
    func setFailureHandler(_ handler: (@Sendable (PageSourceError) -> Void)?) { failureHandler.withLock { $0 = handler } }

    func fail(_ error: PageSourceError) {
        counters.withLock { if $0.failure == nil { $0.failure = error } }
        failureHandler.withLock { $0?(error) }
    }

    // MARK: - The VMM's own accesses

    /// Makes sure that a checked range of an extent is there; fetches on the calling thread what is not.
    ///
    /// - Throws: `PageSourceError`; the machine has been told.
    @inline(__always)
    func ensure(extent: Int, offset: Int, count: Int) throws(PageSourceError) {
        guard count > 0 else { return }
        let first = extents[extent].firstPage
        let pages = (first + offset / pageBytes)..<(first + (offset + count - 1) / pageBytes + 1)
        for page in pages where !present[page] { return try ensureSlowly(pages) }
    }

    /// Fetches pages ahead of their use, for example a recorded working set.
    ///
    /// - Throws: `PageSourceError` for the first page that cannot be had; it is not lost, a touch tries again.
    public func populate(_ pages: Range<Int>) throws(PageSourceError) {
        let pages = pages.clamped(to: 0..<pageCount)
        try ownBuffer.withLock { buffer throws(PageSourceError) in try fill(pages, buffer.bytes) }
    }

    @inline(never)
    private func ensureSlowly(_ pages: Range<Int>) throws(PageSourceError) {
        do throws(PageSourceError) { try populate(pages) } catch {
            fail(error)
            throw error
        }
    }
}
