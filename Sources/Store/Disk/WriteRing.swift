internal import CLinux
internal import CStore
internal import Linux

/// What `WriteRing` asks of the kernel.
protocol WriteQueue: AnyObject {
    /// Queues a write; false when there is no room.
    func push(_ parts: UnsafePointer<iovec>?, count: UInt32, to descriptor: Int32, at offset: UInt64, tag: UInt64) -> Bool
    /// Hands over what is queued: how many of them the kernel took, or -errno.
    func submit() -> Int32
    /// Waits for a completion; nil for one that could not be waited for (-errno in `status`).
    func wait() -> (status: Int32, completion: WriteCompletion?)
    /// Takes a completion that is there, without asking the kernel.
    func peek() -> WriteCompletion?
}

/// What became of a queued write.
struct WriteCompletion: Equatable {
    /// What it was queued with.
    var tag: UInt64
    /// Bytes written, or -errno.
    var result: Int32
}

/// The owner of an io_uring through which a disk is written.
///
/// Pieces of a large write are in flight together; the caller waits for all of them. `@unchecked Sendable`: only whoever owns it uses it.
struct WriteRing: ~Copyable, @unchecked Sendable {
    private static let entries: UInt32 = 32
    /// Until the next look, where the kernel refuses to be waited for.
    private static let peekMicroseconds: UInt32 = 1000
    /// How often a batch is handed over again before it is written otherwise.
    private static let refusalsMax = 1000
    private let queue: any WriteQueue
    /// Whether the kernel refused something: what is still queued must never be handed over, so the ring is not used any more.
    private(set) var isAbandoned = false

    /// - Throws: `Errno` where the kernel has no io_uring or forbids it.
    init() throws(Errno) { queue = try KernelQueue(entries: Self.entries) }

    /// Uses a queue of at least `entries`.
    init(_ queue: any WriteQueue) { self.queue = queue }

    /// Writes all parts from an offset on; the reason when that fails.
    ///
    /// What comes back short, or is not taken, is written by plain calls, which also find the reason. When this returns the kernel reads
    /// none of the parts any more, whatever failed.
    mutating func write(_ vectors: inout IOVectors, to descriptor: Int32, at offset: UInt64) -> Errno? {
        let pieces = Self.pieces(of: vectors, at: offset)
        var isWhole = true
        var next = 0
        while next < pieces.count, !isAbandoned {
            let batch = pieces[next..<min(next + Int(Self.entries), pieces.count)]
            var queued = 0
            for (index, piece) in zip(batch.indices, batch) {
                let isQueued = vectors.withNext(from: piece.start) { parts, _ in
                    queue.push(parts, count: UInt32(piece.count), to: descriptor, at: piece.offset, tag: UInt64(index))
                }
                guard isQueued else { break }
                queued += 1
            }
            let taken = submit(queued)
            for _ in 0..<taken {
                let completion = reap()
                let index = Int(clamping: completion.tag)
                if !batch.indices.contains(index) || pieces[index].bytes != completion.result { isWhole = false }
            }
            if taken < batch.count { isAbandoned = true }
            next += batch.count
        }
        return isWhole && !isAbandoned ? nil : vectors.writePlainly(to: descriptor, at: offset)
    }

    private static func pieces(of vectors: borrowing IOVectors, at offset: UInt64) -> [(start: Int, count: Int, offset: UInt64, bytes: Int)]
    {
        var pieces: [(start: Int, count: Int, offset: UInt64, bytes: Int)] = []
        var position = offset
        var start = 0
        while start < vectors.vectors.count {
            let end = min(start + IOVectors.countMax, vectors.vectors.count)
            let bytes = vectors.vectors[start..<end].reduce(0) { $0 + $1.iov_len }
            pieces.append((start, end - start, position, bytes))
            position += UInt64(bytes)
            start = end
        }
        return pieces
    }

    /// Hands everything queued to the kernel; returns how many it took.
    ///
    /// What it does not take at once is handed over again: leaving it in the ring would write it later, from memory long reused.
    private func submit(_ count: Int) -> Int {
        var submitted = 0
        var refusals = 0
        while submitted < count {
            let result = queue.submit()
            if result == -EINTR || result == -EAGAIN || result == -EBUSY, refusals < Self.refusalsMax {
                refusals += 1
                continue
            }
            guard result > 0 else { break }
            submitted += Int(result)
        }
        return submitted
    }

    /// Waits until one write is done.
    ///
    /// Without a bound, as a plain write to a disk that hangs: until then the kernel reads the caller's bytes.
    private func reap() -> WriteCompletion {
        while true {
            let (status, completion) = queue.wait()
            if let completion { return completion }
            if status == -EINTR || status == -EAGAIN { continue }
            if let completion = queue.peek() { return completion }
            usleep(Self.peekMicroseconds)
        }
    }
}

/// The kernel's ring.
private final class KernelQueue: WriteQueue {
    private let ring: UnsafeMutablePointer<io_uring>

    init(entries: UInt32) throws(Errno) {
        ring = .allocate(capacity: 1)
        ring.initialize(to: io_uring())
        let result = cstore_ring_open(ring, entries)
        guard result >= 0 else {
            ring.deallocate()
            throw Errno(rawValue: -result)
        }
    }

    deinit {
        cstore_ring_close(ring)
        ring.deallocate()
    }

    func push(_ parts: UnsafePointer<iovec>?, count: UInt32, to descriptor: Int32, at offset: UInt64, tag: UInt64) -> Bool {
        cstore_ring_write(ring, descriptor, parts, count, offset, tag) == 0
    }

    func submit() -> Int32 { cstore_ring_submit(ring, 0) }

    func wait() -> (status: Int32, completion: WriteCompletion?) {
        var found = WriteCompletion(tag: 0, result: 0)
        let status = cstore_ring_complete(ring, &found.tag, &found.result)
        return (status, status < 0 ? nil : found)
    }

    func peek() -> WriteCompletion? {
        var found = WriteCompletion(tag: 0, result: 0)
        return cstore_ring_peek(ring, &found.tag, &found.result) == 0 ? found : nil
    }
}
