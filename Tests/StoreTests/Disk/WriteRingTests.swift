import CLinux
import Linux
import Testing

@testable import Store

/// A kernel that takes some of the writes it is handed, and carries them out when it is waited for.
private final class StubbornQueue: WriteQueue {
    private struct Pending {
        var vectors: [iovec]
        var descriptor: Int32
        var offset: UInt64
        var tag: UInt64
    }
    /// How many writes it takes before it refuses all others.
    private let takes: Int
    private let code: Int32
    /// Whether it refuses to be waited for.
    private let refusesWait: Bool
    private var queued: [Pending] = []
    private var taken: [Pending] = []
    private(set) var takenCount = 0
    var inFlight: Int { taken.count }

    init(takes: Int, code: Int32, refusesWait: Bool = false) {
        self.takes = takes
        self.code = code
        self.refusesWait = refusesWait
    }

    func push(_ parts: UnsafePointer<iovec>?, count: UInt32, to descriptor: Int32, at offset: UInt64, tag: UInt64) -> Bool {
        let vectors = Array(UnsafeBufferPointer(start: parts, count: Int(count)))
        queued.append(Pending(vectors: vectors, descriptor: descriptor, offset: offset, tag: tag))
        return true
    }

    func submit() -> Int32 {
        guard takenCount < takes, !queued.isEmpty else { return code }
        taken.append(queued.removeFirst())
        takenCount += 1
        return 1
    }

    func wait() -> (status: Int32, completion: WriteCompletion?) {
        if refusesWait { return (-EINVAL, nil) }
        return (0, peek())
    }

    func peek() -> WriteCompletion? {
        guard let next = taken.popLast() else { return nil }
        let result = clinux_pwritev(next.descriptor, next.vectors, Int32(next.vectors.count), Int64(next.offset))
        return WriteCompletion(tag: next.tag, result: Int32(result))
    }
}

@Suite struct WriteRingTests {
    /// Some of a batch is taken, the rest refused: what was taken is waited for before the caller has its bytes back, and all is written.
    @Test(arguments: [(0, EIO, false), (1, EIO, false), (2, EAGAIN, false), (2, EBUSY, true), (3, EIO, true)])
    func whatTheKernelTookIsWaitedForWhateverFails(takes: Int, code: Int32, refusesWait: Bool) throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/file"
        let file = Int32(clinux_open(path, O_RDWR | O_CREAT, 0o600))
        try #require(file >= 0)
        defer { close(file) }
        // Three pieces: more parts than two calls take.
        let bytes = (0..<(2 * IOVectors.countMax + 10)).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
        defer { buffer.deallocate() }
        buffer.copyBytes(from: bytes)
        var vectors = IOVectors(bytes.indices.map { UnsafeRawBufferPointer(rebasing: buffer[$0..<$0 + 1]) })
        let queue = StubbornQueue(takes: takes, code: -code, refusesWait: refusesWait)
        var ring = WriteRing(queue)
        #expect(ring.write(&vectors, to: file, at: 100) == nil)
        #expect(queue.inFlight == 0, "the kernel still reads the caller's bytes")
        #expect(queue.takenCount == min(takes, 3))
        #expect(ring.isAbandoned == (takes < 3), "what is left in the ring must never be handed over")
        var found = [UInt8](repeating: 0, count: bytes.count)
        #expect(pread(file, &found, found.count, 100) == found.count)
        #expect(found == bytes)
    }
}
