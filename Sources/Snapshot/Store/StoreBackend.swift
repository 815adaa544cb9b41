internal import AuroraVMM
internal import Linux
public import Store
import Synchronization

/// The backend that makes a group's epochs durable: one stream of the store.
///
/// `@unchecked Sendable`: the pipeline calls it from one thread; counters are under a lock.
public final class StoreBackend: Backend, @unchecked Sendable {
    /// What the backend has done since it was made.
    public struct Counters: Hashable, Sendable {
        /// Bytes written to the disk, all included.
        public var writtenBytes: UInt64 = 0
        /// Pages that were given.
        public var offeredPages: UInt64 = 0
        /// Of those, pages that had to be stored.
        public var newPages: UInt64 = 0
    }

    /// What a backend needs of its group.
    public struct Environment: Sendable {
        /// What is kept beside the machine's state in a checkpoint: called after the stop, with the epoch.
        public var envelope: @Sendable (EpochNumber, _ machine: [UInt8]) throws -> [UInt8]
        /// Makes room when there is none, or waits for it, with no epoch open; false to give up.
        public var makeRoom: @Sendable (StoreError) -> Bool

        /// Describes a group.
        public init(
            envelope: @escaping @Sendable (EpochNumber, _ machine: [UInt8]) throws -> [UInt8],
            makeRoom: @escaping @Sendable (StoreError) -> Bool = { _ in false }
        ) {
            self.envelope = envelope
            self.makeRoom = makeRoom
        }
    }

    /// Its name in a pipeline.
    public static let name = "store"
    /// Its name.
    public var name: String { StoreBackend.name }
    /// Pages handed to the store at once.
    private static let batchPages = 1024

    private let writer: StreamWriter
    private let environment: Environment
    private var isOpen = false
    private let state = Mutex(Counters())

    /// Takes over a stream's writer.
    public init(_ writer: StreamWriter, _ environment: Environment) {
        self.writer = writer
        self.environment = environment
    }

    /// What it has done.
    public var counters: Counters { state.withLock { $0 } }

    /// Makes pages zero in the first epoch, unless they are given later: for a stream that has contents of another time.
    ///
    /// - Throws: `BackendError`.
    public func clear(_ keys: [Store::PageKey]) throws(BackendError) {
        try guarded { () throws(StoreError) in
            try open(writer.lastNumber + 1)
            try writer.add(keys.map { PageInput(key: $0, bytes: nil) })
        }
    }

    /// Writes pages ahead of their epoch.
    public func stage(_ pages: PageSet) throws(BackendError) {
        try findingRoom { () throws(StoreError) in
            // The epoch's number is known when it is closed.
            try open(writer.lastNumber + 1)
            try add(pages, retained: false)
        }
    }

    /// Writes an epoch; it is durable after `flush`.
    public func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) {
        let bytes: [UInt8]
        do { bytes = try environment.envelope(epoch.number, try epoch.encodedState()) } catch {
            abandon()
            throw BackendError(backend: name, reason: "\(error)")
        }
        let figures = CheckpointFigures(epoch.statistics, previous: previous)
        try findingRoom { () throws(StoreError) in
            try open(epoch.number.rawValue)
            try add(epoch.pages, retained: true)
            let closed = try close(epoch, bytes, figures)
            isOpen = false
            state.withLock { counters in
                counters.writtenBytes &+= closed.writtenBytes
                counters.offeredPages &+= closed.offeredPages
                counters.newPages &+= closed.newPages
            }
        }
    }

    /// Makes what was written durable.
    public func flush() throws(BackendError) {
        try guarded { () throws(StoreError) in try writer.flush() }
    }

    /// Ends the writing in good order, when the pipeline uses the backend no more.
    public func finish() throws(BackendError) {
        try guarded { () throws(StoreError) in try writer.finish() }
    }

    // MARK: - Parts

    private func open(_ number: UInt64) throws(StoreError) {
        if isOpen { return try writer.renumber(number) }
        try writer.begin(number)
        isOpen = true
    }

    private func add(_ pages: PageSet, retained: Bool) throws(StoreError) {
        var inputs: [PageInput] = []
        inputs.reserveCapacity(min(pages.count, StoreBackend.batchPages))
        for index in 0..<pages.count {
            let key = Store::PageKey(rawValue: pages[index].rawValue)
            if pages.isZero(at: index) {
                inputs.append(PageInput(key: key, bytes: nil))
            } else {
                pages.withBytes(at: index) { inputs.append(PageInput(key: key, bytes: $0.baseAddress)) }
            }
            if inputs.count == StoreBackend.batchPages || index == pages.count - 1 {
                try writer.add(inputs, retained: retained)
                inputs.removeAll(keepingCapacity: true)
            }
        }
    }

    private func close(_ epoch: Epoch, _ bytes: [UInt8], _ figures: CheckpointFigures) throws(StoreError) -> Store::EpochStatistics {
        let result: Result<Store::EpochStatistics, StoreError> = bytes.withUnsafeBytes { state in
            do throws(StoreError) {
                let closed = try writer.close(
                    state: state, name: epoch.name ?? "", time: UInt64(clamping: epoch.wallClock), statistics: figures.encoded)
                return .success(closed.statistics)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Does what writes; where there is no room, abandons the epoch, has room made, and begins it anew.
    ///
    /// Not with the epoch open: its gate keeps the collector out, and what it shares with others may be freed. Pages that came in
    /// earlier calls are no longer there, so that an epoch of several parts cannot begin anew.
    private func findingRoom(_ body: () throws(StoreError) -> Void) throws(BackendError) {
        let hasEarlierParts = isOpen
        while true {
            let failure: StoreError
            do throws(StoreError) { return try body() } catch { failure = error }
            abandon()
            guard failure.isNoRoom, !writer.isBroken else { throw BackendError(backend: name, reason: "\(failure)") }
            let isWorthATry = !hasEarlierParts && environment.makeRoom(failure)
            guard isWorthATry else { throw BackendError(backend: name, reason: "\(failure)", errno: .noSpace) }
        }
    }

    private func abandon() {
        if isOpen { writer.abandon() }
        isOpen = false
    }

    private func guarded(_ body: () throws(StoreError) -> Void) throws(BackendError) {
        do throws(StoreError) { try body() } catch {
            abandon()
            throw BackendError(backend: name, reason: "\(error)")
        }
    }
}
