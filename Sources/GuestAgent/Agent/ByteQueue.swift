import CAgent

/// Bytes waiting to be written to a non-blocking descriptor.
struct ByteQueue {
    private var bytes: [UInt8] = []
    private var head = 0

    /// Bytes waiting.
    var count: Int { bytes.count - head }

    /// Whether nothing waits.
    var isEmpty: Bool { head == bytes.count }

    /// Adds bytes at the end through the array itself, so that frames are built in place.
    mutating func append(_ build: (inout [UInt8]) -> Void) { build(&bytes) }

    /// Forgets everything.
    mutating func removeAll() {
        bytes = []
        head = 0
    }

    /// Writes until nothing waits or the descriptor is full.
    ///
    /// Returns the bytes written, or -errno.
    mutating func flush(to descriptor: Int32) -> Int {
        var total = 0
        while !isEmpty {
            let written = bytes.withUnsafeBytes { sys_write(descriptor, $0.baseAddress.unsafelyUnwrapped + head, $0.count - head) }
            if written == -Int(EAGAIN) { break }
            guard written >= 0 else { return written }
            head += written
            total += written
        }
        if isEmpty {
            // Keep a modest buffer for the next frame and give a large one back.
            if bytes.capacity > 262_144 { bytes = [] } else { bytes.removeAll(keepingCapacity: true) }
            head = 0
        } else if head > 1_048_576 {
            bytes.removeFirst(head)
            head = 0
        }
        return total
    }
}
