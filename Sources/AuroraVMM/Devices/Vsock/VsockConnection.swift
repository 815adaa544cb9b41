internal import CLinux
import Linux

/// One stream between a socket of the host and a port of the guest, with the credit of both directions
/// (virtio 1.2, section 5.10.6.3).
final class VsockConnection {
    /// Bytes of the guest kept while the host's socket is full; also what the guest is told.
    static let bufferBytes: UInt32 = 256 * 1024

    enum Phase {
        /// A client of `vsock.sock` has not said yet what it wants.
        case greeting
        /// The guest has been asked.
        case connecting
        /// Data flows.
        case established
        /// The guest is done with it; what it sent last still goes to the host's socket.
        case draining
    }

    /// Who waits for the guest's answer.
    enum Waiter {
        case nobody
        /// A client of `vsock.sock`, who gets "OK PORT".
        case client
        /// A caller inside this process, who gets the outcome.
        case caller(@Sendable (VsockError?) -> Void)
    }

    let socket: OwnedDescriptor
    var key: VsockKey
    var phase: Phase
    var waiter: Waiter
    /// When waiting for the other side ends, on the monotonic clock in milliseconds; nil when nothing is waited for.
    var deadline: Int64?

    /// What is watched now, so that the kernel is only told of changes.
    var interest: EventLoop.Interest = []
    /// The host's side has sent everything it will.
    var isHostDone = false
    /// Nobody holds the host's side any more.
    var isHostClosed = false
    /// What the guest will not do any more.
    var guestShutdown: VsockShutdown = []

    /// Bytes from the guest that wait for the host's socket.
    private(set) var backlog = ByteQueue()
    /// Bytes from the guest that the host's socket has taken, modulo 2^32.
    private(set) var forwarded: UInt32 = 0
    /// The value of `forwarded` the guest has been told last.
    var announced: UInt32 = 0
    /// Bytes sent to the guest, modulo 2^32.
    private(set) var sent: UInt32 = 0
    private var guestBufferBytes: UInt32 = 0
    private var guestForwarded: UInt32 = 0
    /// A packet that is queued already need not be queued twice.
    var isCreditUpdateQueued = false
    var isCreditRequestQueued = false

    init(socket: consuming OwnedDescriptor, key: VsockKey, phase: Phase, waiter: Waiter) {
        self.socket = socket
        self.key = key
        self.phase = phase
        self.waiter = waiter
    }

    /// How many bytes the guest has room for.
    ///
    /// A guest that claims to have taken more than it was sent gets nothing.
    var credit: Int {
        let underWay = sent &- guestForwarded
        return underWay >= guestBufferBytes ? 0 : Int(guestBufferBytes - underWay)
    }

    func note(_ header: VsockHeader) {
        guestBufferBytes = header.bufferBytes
        guestForwarded = header.forwarded
    }

    func didSend(_ count: Int) { sent &+= UInt32(truncatingIfNeeded: count) }

    /// Whether the guest should hear that room has become free.
    var owesCreditUpdate: Bool { forwarded &- announced >= Self.bufferBytes / 4 }

    /// What to watch the host's socket for.
    var wantedInterest: EventLoop.Interest {
        var interest: EventLoop.Interest = []
        if phase == .greeting { interest.insert(.readable) }
        if phase == .established, !isHostDone, !guestShutdown.contains(.receive), credit > 0 { interest.insert(.readable) }
        if phase == .established, isHostDone, !isHostClosed { interest.insert(.closed) }
        if !backlog.isEmpty { interest.insert(.writable) }
        return interest
    }

    // MARK: - Guest to host

    /// Passes data of the guest on, keeping what the socket does not take.
    ///
    /// - Returns: false when the connection is lost: the socket is broken, or the guest ignored its credit.
    func deliver(_ chain: DescriptorChain, count: Int, vectors: inout IOVectors) -> Bool {
        var done = 0
        if backlog.isEmpty {
            _ = chain.fill(&vectors, writable: false, from: VsockHeader.byteCount, limit: count)
            let descriptor = socket.rawValue
            let result = vectors.withPointer { clinux_ignoringInterrupts(cdevice_send_vectors(descriptor, $0, $1)) } ?? 0
            if result < 0, result != -Int(EAGAIN) { return false }
            done = max(result, 0)
            forwarded &+= UInt32(truncatingIfNeeded: done)
        }
        guard done < count else { return true }
        guard count - done <= Int(Self.bufferBytes) - backlog.count else { return false }
        backlog.append(count: count - done) { chain.read(at: VsockHeader.byteCount + done, into: $0) }
        return true
    }

    /// Gives the backlog to the socket; false when the socket is broken.
    func drain() -> Bool {
        while !backlog.isEmpty {
            let descriptor = socket.rawValue
            let result = backlog.withFirst { clinux_ignoringInterrupts(cdevice_send(descriptor, $0.baseAddress, $0.count)) }
            if result == -Int(EAGAIN) { return true }
            if result <= 0 { return false }
            backlog.removeFirst(result)
            forwarded &+= UInt32(truncatingIfNeeded: result)
        }
        return true
    }
}

/// A signal during a non-blocking call means the same as a full socket: try later.
@inline(__always)
func clinux_ignoringInterrupts(_ result: Int) -> Int { result == -Int(EINTR) ? -Int(EAGAIN) : result }

/// Bytes in the order they came, taken from the front in any portion.
struct ByteQueue {
    private var bytes: [UInt8] = []
    private var start = 0

    var count: Int { bytes.count - start }
    var isEmpty: Bool { count == 0 }

    mutating func append(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
        if start > 0, start * 2 >= bytes.count {
            bytes.removeFirst(start)
            start = 0
        }
        let end = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: count))
        bytes.withUnsafeMutableBytes { fill(UnsafeMutableRawBufferPointer(rebasing: $0[end...])) }
    }

    func withFirst<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
    }

    mutating func removeFirst(_ count: Int) {
        start += count
        precondition(start <= bytes.count)
        if start == bytes.count {
            bytes.removeAll(keepingCapacity: start <= 64 * 1024)
            start = 0
        }
    }
}
