internal import CLinux

/// The buffers of one request, as checked host memory.
///
/// One object is reused for all requests of a queue, so that the hot path allocates nothing.
final class DescriptorChain {
    /// More parts than this are refused; also the most `preadv` takes (IOV_MAX).
    static let segmentsMax = 1024
    /// The used ring tells a length in 32 bits.
    static let bytesMax = Int(UInt32.max)

    /// The head's descriptor number, for the used ring.
    private(set) var head: UInt16 = 0
    /// Parts the device reads, in order.
    private(set) var readable: [GuestWindow] = []
    /// Parts the device writes, in order.
    private(set) var writable: [GuestWindow] = []
    /// Bytes of all readable parts.
    private(set) var readableCount = 0
    /// Bytes of all writable parts.
    private(set) var writableCount = 0
    /// Descriptors looked at to find the parts.
    var descriptors = 0
    /// Fetches pages of the parts that are not there yet; nil when all are.
    private var lazy: LazyMemory?

    init() {
        readable.reserveCapacity(16)
        writable.reserveCapacity(16)
    }

    func begin(head: UInt16, lazy: LazyMemory? = nil) {
        self.head = head
        self.lazy = lazy
        descriptors = 0
        readable.removeAll(keepingCapacity: true)
        writable.removeAll(keepingCapacity: true)
        readableCount = 0
        writableCount = 0
    }

    /// Adds one part; empty parts are legal and vanish.
    func append(_ window: GuestWindow, isWritable: Bool, queue: Int) throws(VirtioError) {
        if !isWritable, !writable.isEmpty { throw .readableAfterWritable(queue: queue) }
        guard window.count <= Self.bytesMax - readableCount - writableCount else { throw .chainTooLarge(queue: queue) }
        if window.count == 0 { return }
        if isWritable {
            writable.append(window)
            writableCount += window.count
        } else {
            readable.append(window)
            readableCount += window.count
        }
    }

    /// Fetches what is about to be used of a part.
    ///
    /// What cannot be had ends the machine, which has been told then, and reads as zeros.
    private func reach(_ part: GuestWindow, from offset: Int, _ count: Int) {
        guard let lazy else { return }
        do throws(PageSourceError) { try lazy.ensure(extent: part.region, offset: part.offset + offset, count: count) } catch {}
    }

    /// Copies readable bytes from `offset` on into `target`; answers how many there were.
    @discardableResult
    func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Int {
        var skip = offset
        var done = 0
        for part in readable where done < target.count {
            if skip >= part.count {
                skip -= part.count
                continue
            }
            let count = min(part.count - skip, target.count - done)
            reach(part, from: skip, count)
            if let base = target.baseAddress { memcpy(base + done, part.base + skip, count) }
            done += count
            skip = 0
        }
        return done
    }

    /// Reads a little-endian integer from the readable bytes; nil when there are too few.
    func load<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type = Value.self) -> Value? {
        var value: Value = 0
        let count = withUnsafeMutableBytes(of: &value) { read(at: offset, into: $0) }
        return count == MemoryLayout<Value>.size ? Value(littleEndian: value) : nil
    }

    /// Copies `source` into the writable bytes from `offset` on and marks the pages; answers how many bytes fitted.
    @discardableResult
    func write(at offset: Int, _ source: UnsafeRawBufferPointer) -> Int {
        var skip = offset
        var done = 0
        for part in writable where done < source.count {
            if skip >= part.count {
                skip -= part.count
                continue
            }
            let count = min(part.count - skip, source.count - done)
            reach(part, from: skip, count)
            if let base = source.baseAddress { memcpy(part.base + skip, base + done, count) }
            part.markDirty(from: skip, length: count)
            done += count
            skip = 0
        }
        return done
    }

    /// Writes a little-endian integer into the writable bytes.
    @discardableResult
    func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) -> Bool {
        withUnsafeBytes(of: value.littleEndian) { write(at: offset, $0) == MemoryLayout<Value>.size }
    }

    /// Fills `vectors` with the readable (or writable) bytes from `offset` on, at most `limit` of them; answers their number.
    func fill(_ vectors: inout IOVectors, writable isWritable: Bool, from offset: Int, limit: Int) -> Int {
        vectors.removeAll()
        var skip = offset
        var left = limit
        for part in isWritable ? writable : readable where left > 0 {
            if skip >= part.count {
                skip -= part.count
                continue
            }
            let count = min(part.count - skip, left)
            reach(part, from: skip, count)
            vectors.append(base: part.base + skip, count: count)
            left -= count
            skip = 0
        }
        return limit - left
    }

    /// Marks `count` writable bytes from `offset` on as written, after a system call wrote them.
    func markWritten(from offset: Int, count: Int) {
        var skip = offset
        var left = count
        for part in writable where left > 0 {
            if skip >= part.count {
                skip -= part.count
                continue
            }
            let length = min(part.count - skip, left)
            part.markDirty(from: skip, length: length)
            left -= length
            skip = 0
        }
    }
}
