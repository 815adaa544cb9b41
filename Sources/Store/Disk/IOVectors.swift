internal import CLinux
internal import Linux

/// The parts of a vectored write, and how far it has come.
struct IOVectors {
    /// More than this the kernel takes in no call.
    static let countMax = 1024
    private(set) var vectors: [iovec]
    private var first = 0

    init(_ parts: [UnsafeRawBufferPointer]) {
        vectors = parts.compactMap { part in
            part.isEmpty ? nil : iovec(iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress), iov_len: part.count)
        }
    }

    /// Whether everything has been written.
    var isDone: Bool { first == vectors.count }

    /// What one call may take, from where the last one stopped.
    func withNext<Result>(from start: Int, _ body: (UnsafePointer<iovec>?, Int32) -> Result) -> Result {
        vectors.withUnsafeBufferPointer { all in
            let count = min(all.count - start, Self.countMax)
            return body(all.baseAddress.map { $0 + start }, Int32(truncatingIfNeeded: count))
        }
    }

    /// Notes that so many bytes have been written.
    mutating func advance(_ count: Int) {
        var left = count
        while left > 0, first < vectors.count {
            let length = vectors[first].iov_len
            if left < length {
                vectors[first].iov_base = vectors[first].iov_base.map { $0 + left }
                vectors[first].iov_len = length - left
                return
            }
            left -= length
            first += 1
        }
    }

    /// Writes what is left by `pwritev`; the reason when that fails.
    mutating func writePlainly(to descriptor: Int32, at offset: UInt64) -> Errno? {
        var position = Int64(clamping: offset)
        while !isDone {
            let result = withNext(from: first) { clinux_pwritev(descriptor, $0, $1, position) }
            if result == -Int(EINTR) { continue }
            guard result > 0 else { return Errno(rawValue: result == 0 ? EIO : Int32(truncatingIfNeeded: -result)) }
            position += Int64(result)
            advance(result)
        }
        return nil
    }
}
