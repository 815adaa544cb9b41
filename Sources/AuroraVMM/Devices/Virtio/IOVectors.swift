public import CLinux

/// A reusable list of host buffers for `preadv` and its kin.
public struct IOVectors {
    private var vectors: [iovec] = []
    /// Bytes of all buffers.
    public private(set) var byteCount = 0

    /// An empty list.
    public init() { vectors.reserveCapacity(DescriptorChain.segmentsMax) }

    /// The number of buffers.
    public var count: Int { vectors.count }

    /// Empties the list.
    public mutating func removeAll() {
        vectors.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    /// Adds a buffer, which must outlive every use of the list.
    public mutating func append(base: UnsafeMutableRawPointer, count: Int) {
        vectors.append(iovec(iov_base: base, iov_len: count))
        byteCount += count
    }

    /// Calls `body` with what the kernel wants.
    public func withPointer<Result>(_ body: (UnsafePointer<iovec>, Int32) -> Result) -> Result? {
        vectors.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return nil }
            return body(base, Int32(truncatingIfNeeded: buffer.count))
        }
    }

    /// Calls `body` with each buffer in order.
    public func forEach(_ body: (UnsafeMutableRawBufferPointer) -> Void) {
        for vector in vectors { body(UnsafeMutableRawBufferPointer(start: vector.iov_base, count: vector.iov_len)) }
    }

    /// Replaces this list by `limit` bytes of `other` from `offset` on.
    public mutating func assign(_ other: borrowing IOVectors, from offset: Int, limit: Int) {
        removeAll()
        var skip = offset
        for vector in other.vectors where byteCount < limit {
            guard let base = vector.iov_base else { continue }
            if skip >= vector.iov_len {
                skip -= vector.iov_len
                continue
            }
            append(base: base + skip, count: min(vector.iov_len - skip, limit - byteCount))
            skip = 0
        }
    }
}
