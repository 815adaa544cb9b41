internal import CLinux
public import Store
import Synchronization

/// A disk in memory that counts its operations, fails them on demand, and records them so that power cuts can be played back.
///
/// Each `SimulatedDisk` is an open file of a process: `openedAgain` gives another one of the same medium, `kill` ends the process.
/// `@unchecked Sendable` is not needed: all state is in one mutex. Each lock taken is its own owner, as with a file.
public final class SimulatedDisk: Disk {
    /// An operation as the medium saw it.
    public enum Event: Sendable {
        /// Bytes that arrived; lost, torn or reordered by a power cut until a flush follows.
        case write(offset: UInt64, bytes: [UInt8])
        /// Everything before is durable.
        case flush
        /// Writes before that lie in this range are durable.
        case settle(offset: UInt64, count: UInt64)
        /// A flush or a write-back that failed: whether the writes before it are durable is never known.
        case failedFlush
        /// Writes before that lie in this range have not reached the disk and never will, though they are read.
        case lost(offset: UInt64, count: UInt64)
        /// Bytes given up.
        case discard(offset: UInt64, count: UInt64)
    }

    /// What error messages call it.
    public let name: String
    /// Size in bytes.
    public let byteCount: UInt64
    /// As of a file, so that what is written for one is simulated, too.
    public var isSparse: Bool { true }
    /// Passes over what was never written, as a file's holes.
    public func firstData(from offset: UInt64) -> UInt64 { medium.state.withLock { $0.image.firstData(from: offset) } }

    private struct State {
        var image: DiskImage
        var initial: DiskImage
        var events: [Event] = []
        var isRecording = true
        var counts: [DiskError.Operation: Int] = [:]
        var plan: FaultPlan?
        var operations = 0
        var locks: [(token: Int, process: Int, isExclusive: Bool, ranges: [Range<UInt64>])] = []
        var nextToken = 0
        /// Failed write-backs that an open file has not been told of, as Linux keeps them (errseq_t).
        var untold: [Int: Int32] = [:]
        /// One that nobody has been told of: whoever opens the file will be.
        var unseen: Int32?
        var dead: Set<Int> = []
        /// What the disk has in sectors that are read otherwise, because a write-back has failed.
        var behind: [UInt64: [UInt8]] = [:]

        mutating func open() -> Int {
            nextToken += 1
            untold[nextToken] = unseen
            return nextToken
        }

        /// What a flush through an open file has to say of what failed before.
        mutating func tell(_ file: Int) -> Int32? {
            guard let code = untold[file] else { return nil }
            untold[file] = nil
            unseen = nil
            return code
        }

        func isHeld(_ lock: DiskLock, against exclusive: Bool) -> Bool {
            let ranges = lock.ranges
            return locks.contains { held in
                (held.isExclusive || exclusive) && held.ranges.contains { range in ranges.contains { $0.overlaps(range) } }
            }
        }

        mutating func fault(_ operation: DiskError.Operation, by process: Int) -> FaultPlan.Kind? {
            if dead.contains(process) { return .code(ESHUTDOWN) }
            counts[operation, default: 0] += 1
            guard let plan, plan.operations.contains(operation) else {
                if plan == nil, FaultPlan.counted.contains(operation) { operations += 1 }
                return nil
            }
            operations += 1
            guard plan.isForEver ? operations >= plan.index : operations == plan.index else { return nil }
            return plan.kind
        }
    }
    private final class Medium: Sendable {
        let state: Mutex<State>
        init(_ image: DiskImage) { state = Mutex(State(image: image, initial: image)) }
    }
    private let medium: Medium
    private let process: Int
    private let file: Int

    /// A disk of zeros.
    public convenience init(byteCount: UInt64, name: String = "simulated disk") {
        self.init(DiskImage(byteCount: byteCount), name: name)
    }

    /// A disk with a content, as found after a power cut.
    public init(_ image: DiskImage, name: String = "simulated disk") {
        self.name = name
        byteCount = image.byteCount
        medium = Medium(image)
        file = medium.state.withLock { $0.open() }
        process = file
    }

    private init(_ medium: Medium, name: String, byteCount: UInt64, process: Int?) {
        self.medium = medium
        self.name = name
        self.byteCount = byteCount
        file = medium.state.withLock { $0.open() }
        self.process = process ?? file
    }

    /// The same disk, opened by another process.
    public func openedAgain() -> SimulatedDisk { SimulatedDisk(medium, name: name, byteCount: byteCount, process: nil) }

    /// The process that opened it here dies: its locks are free, and whatever it still tries fails.
    public func kill() {
        medium.state.withLock { state in
            state.dead.insert(process)
            state.locks.removeAll { $0.process == process }
        }
    }

    /// A write-back fails behind everybody's back: what no flush has covered may be lost, and every open file is told once.
    public func failWriteBack(code: Int32) {
        medium.state.withLock { state in
            if state.isRecording { state.events.append(.failedFlush) }
            state.unseen = code
            for file in 0...state.nextToken { state.untold[file] = code }
        }
    }

    /// As `failWriteBack`, and known for certain: what lies in a range is on the disk as it was at another time, and as it is for readers.
    public func loseWriteBack(code: Int32, at offset: UInt64, count: Int, before: DiskImage) {
        failWriteBack(code: code)
        medium.state.withLock { state in
            if state.isRecording {
                state.events.removeLast()
                state.events.append(.lost(offset: offset, count: UInt64(count)))
            }
            for sector in stride(from: offset / 512 * 512, to: offset + UInt64(count), by: 512) {
                state.behind[sector] = before.bytes(at: sector, count: 512)
            }
        }
    }

    /// The content as a power cut would leave it if everything else had been written.
    public var platter: DiskImage {
        medium.state.withLock { state in
            var image = state.image
            for (sector, bytes) in state.behind { image.write(bytes, at: sector) }
            return image
        }
    }

    /// Reads what the disk has.
    public func readPastCache(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) {
        try read(at: offset, into: buffer)
        medium.state.withLock { state in
            for (sector, bytes) in state.behind where sector >= offset && sector + 512 <= offset + UInt64(buffer.count) {
                let place = Int(sector - offset)
                UnsafeMutableRawBufferPointer(rebasing: buffer[place..<place + 512]).copyBytes(from: bytes)
            }
        }
    }

    /// The content as readers see it now.
    public var image: DiskImage { medium.state.withLock { $0.image } }
    /// How often an operation was asked for, failed ones included.
    public func count(of operation: DiskError.Operation) -> Int { medium.state.withLock { $0.counts[operation, default: 0] } }
    /// Operations that a fault plan could have failed, since the plan was set or the disk was made.
    public var operationCount: Int { medium.state.withLock { $0.operations } }

    /// Starts to fail operations; nil ends it.
    ///
    /// Operations count from 1 again.
    public func setFaults(_ plan: FaultPlan?) {
        medium.state.withLock {
            $0.plan = plan
            $0.operations = 0
        }
    }

    /// What happened so far, and the content before it.
    public var trace: DiskTrace { medium.state.withLock { DiskTrace(initial: $0.initial, events: $0.events) } }
    /// Number of events so far: what was acknowledged now must be there after a cut at this event or later.
    public var eventCount: Int { medium.state.withLock { $0.events.count } }
    /// Forgets what happened: playback then starts from the present content.
    public func restartTrace(recording: Bool = true) {
        medium.state.withLock {
            $0.initial = $0.image
            $0.events = []
            $0.isRecording = recording
        }
    }
    /// Changes the content behind the store's back.
    public func damage(_ change: (inout DiskImage) -> Void) { medium.state.withLock { change(&$0.image) } }

    /// Reads, or fails as planned.
    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) {
        let code: Int32? = medium.state.withLock { state in
            switch state.fault(.read, by: process) {
            case .none: return state.image.read(at: offset, into: buffer) ? nil : 0
            case .code(let code), .partial(let code): return code
            case .short: return 0
            }
        }
        if let code { throw DiskError(.read, name, offset: offset, code: code) }
    }

    /// Writes, or fails as planned.
    public func write(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        let code: Int32? = medium.state.withLock { state in
            var bytes: [UInt8] = []
            for part in parts { bytes.append(contentsOf: part) }
            let fault = state.fault(.write, by: process)
            if case .code(let code) = fault { return code }
            // A short write leaves whole sectors, as a full file system or a cut transfer does.
            if fault != nil { bytes.removeLast(bytes.count - bytes.count / 2 / 512 * 512) }
            guard state.image.write(bytes, at: offset) else { return ENOSPC }
            // Whole sectors are dirty again, and reach the disk after all.
            let end = offset + UInt64(bytes.count)
            if !state.behind.isEmpty { state.behind = state.behind.filter { $0.key < offset || $0.key + 512 > end } }
            if state.isRecording, !bytes.isEmpty { state.events.append(.write(offset: offset, bytes: bytes)) }
            if case .partial(let code) = fault { return code }
            return fault == .short ? 0 : nil
        }
        if let code { throw DiskError(.write, name, offset: offset, code: code) }
    }

    /// Writes and makes durable what it wrote: counts as a write and as a flush.
    public func writeDurably(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try write(parts, at: offset)
        let count = parts.reduce(UInt64(0)) { $0 + UInt64($1.count) }
        let code: Int32? = medium.state.withLock { state in
            switch state.fault(.flush, by: process) {
            case .none:
                if let code = state.tell(file) { return code }
                if state.isRecording { state.events.append(.settle(offset: offset, count: count)) }
                return nil
            case .code(let code), .partial(let code): return code
            case .short: return EIO
            }
        }
        if let code { throw DiskError(.flush, name, code: code) }
    }

    /// Makes everything written before durable, or fails as planned.
    public func flush() throws(DiskError) {
        let code: Int32? = medium.state.withLock { state in
            switch state.fault(.flush, by: process) {
            case .none:
                if let code = state.tell(file) { return code }
                if state.isRecording { state.events.append(.flush) }
                return nil
            case .code(let code), .partial(let code):
                if state.isRecording { state.events.append(.failedFlush) }
                return code
            case .short: return EIO
            }
        }
        if let code { throw DiskError(.flush, name, code: code) }
    }

    /// An open file of its own, of the same process.
    public func openFlusher() throws(DiskError) -> any DiskFlusher {
        Flusher(disk: SimulatedDisk(medium, name: name, byteCount: byteCount, process: process))
    }

    private final class Flusher: DiskFlusher {
        let disk: SimulatedDisk
        init(disk: SimulatedDisk) { self.disk = disk }
        func flush() throws(DiskError) { try disk.flush() }
    }

    /// Gives bytes up: they read as zeros.
    public func discard(at offset: UInt64, count: UInt64) throws(DiskError) {
        let code: Int32? = medium.state.withLock { state in
            switch state.fault(.discard, by: process) {
            case .none:
                state.image.discard(at: offset, count: count)
                if state.isRecording { state.events.append(.discard(offset: offset, count: count)) }
                return nil
            case .code(let code), .partial(let code): return code
            case .short: return EIO
            }
        }
        if let code { throw DiskError(.discard, name, offset: offset, code: code) }
    }

    /// Takes a lock; each is its own owner.
    public func lock(_ range: DiskLock, exclusive: Bool, wait: Bool) throws(DiskError) -> (any DiskLockHandle)? {
        let code: Int32? = medium.state.withLock { state in
            if case .code(let code) = state.fault(.lock, by: process) { return code }
            return nil
        }
        if let code { throw DiskError(.lock, name, code: code) }
        while true {
            let token: Int? = medium.state.withLock { state in
                guard !state.isHeld(range, against: exclusive) else { return nil }
                state.nextToken += 1
                state.locks.append((state.nextToken, process, exclusive, range.ranges))
                return state.nextToken
            }
            if let token { return Handle(disk: self, token: token) }
            guard wait else { return nil }
            usleep(50)
        }
    }

    /// Whether anybody holds it exclusively.
    public func isLocked(_ range: DiskLock) throws(DiskError) -> Bool { medium.state.withLock { $0.isHeld(range, against: false) } }

    private final class Handle: DiskLockHandle {
        let disk: SimulatedDisk
        let token: Int
        init(disk: SimulatedDisk, token: Int) {
            self.disk = disk
            self.token = token
        }
        deinit { disk.medium.state.withLock { state in state.locks.removeAll { $0.token == token } } }
    }
}
