internal import CLinux
internal import CStore
internal import Linux

/// The owner of an io_uring through which a disk is written.
///
/// Pieces of a large write are in flight together; the caller waits for all of them. `@unchecked Sendable`: only whoever owns it uses it.
struct WriteRing: ~Copyable, @unchecked Sendable {
    private static let entries: UInt32 = 32
    private let ring: UnsafeMutablePointer<io_uring>

    /// - Throws: `Errno` where the kernel has no io_uring or forbids it.
    init() throws(Errno) {
        ring = .allocate(capacity: 1)
        ring.initialize(to: io_uring())
        let result = cstore_ring_open(ring, Self.entries)
        guard result >= 0 else {
            ring.deallocate()
            throw Errno(rawValue: -result)
        }
    }

    deinit {
        cstore_ring_close(ring)
        ring.deallocate()
    }

    /// Writes all parts from an offset on; the reason when that fails.
    ///
    /// What comes back short is finished by plain calls, which also find the reason.
    func write(_ vectors: inout IOVectors, to descriptor: Int32, at offset: UInt64) -> Errno? {
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
        var isShort = false
        var next = 0
        while next < pieces.count {
            let batch = pieces[next..<min(next + Int(Self.entries), pieces.count)]
            for (index, piece) in zip(batch.indices, batch) {
                let queued = vectors.withNext(from: piece.start) { parts, _ in
                    cstore_ring_write(ring, descriptor, parts, UInt32(piece.count), piece.offset, UInt64(index))
                }
                precondition(queued == 0, "the ring has room for a batch")
            }
            if let failure = submit(batch.count) { return failure }
            for _ in batch {
                guard let completion = complete() else { return .inputOutput }
                let isWhole = pieces.indices.contains(Int(completion.tag)) && pieces[Int(completion.tag)].bytes == completion.result
                isShort = isShort || !isWhole
            }
            next += batch.count
        }
        return isShort ? vectors.writePlainly(to: descriptor, at: offset) : nil
    }

    /// Hands everything queued to the kernel.
    ///
    /// What it does not take at once is handed over again: leaving it in the ring would write it later, from memory long reused.
    private func submit(_ count: Int) -> Errno? {
        var submitted = 0
        while submitted < count {
            let result = cstore_ring_submit(ring, 0)
            if result == -EINTR || result == -EAGAIN || result == -EBUSY { continue }
            guard result > 0 else { return Errno(rawValue: result == 0 ? EIO : -result) }
            submitted += Int(result)
        }
        return nil
    }

    private func complete() -> (tag: UInt64, result: Int)? {
        var tag: UInt64 = 0
        var result: Int32 = 0
        var status = cstore_ring_complete(ring, &tag, &result)
        while status == -EINTR || status == -EAGAIN { status = cstore_ring_complete(ring, &tag, &result) }
        return status < 0 ? nil : (tag, Int(result))
    }
}
