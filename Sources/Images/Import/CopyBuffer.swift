internal import CLinux
internal import Linux

/// Copies contents from a layer into files, leaving holes where there are only zeros.
final class CopyBuffer {
    private let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    private static let blockBytes = 4096

    deinit { bytes.deallocate() }

    /// Fills a file, or a part of it, where it has been empty.
    func copy(
        _ source: FileBytes, at offset: Int, count: Int, to file: borrowing OwnedDescriptor, at place: Int = 0, _ shown: String
    ) throws(ImportRefusal) {
        let number = file.rawValue
        var done = 0
        while done < count {
            let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<min(bytes.count, count - done)])
            try source.read(at: offset + done, into: part)
            var start = 0
            while start < part.count {
                let run = Self.run(in: part, from: start)
                if !run.isZero {
                    try ImportRefusal.of { () throws(SystemError) in
                        try Self.write(UnsafeRawBufferPointer(rebasing: part[start..<run.end]), number, Int64(place + done + start), shown)
                    }
                }
                start = run.end
            }
            done += part.count
        }
        _ = try ImportRefusal.of { () throws(SystemError) in
            try systemCall("write", shown) { ftruncate(number, off_t(place + count)) == 0 ? 0 : -Int(clinux_errno()) }
        }
    }

    /// Blocks that are all zeros, or all not.
    private static func run(in part: UnsafeMutableRawBufferPointer, from start: Int) -> (end: Int, isZero: Bool) {
        func isZero(_ at: Int) -> Bool { Self.isZero(UnsafeRawBufferPointer(rebasing: part[at..<min(at + blockBytes, part.count)])) }
        let first = isZero(start)
        var end = min(start + blockBytes, part.count)
        while end < part.count, isZero(end) == first { end = min(end + blockBytes, part.count) }
        return (end, first)
    }

    /// Whether bytes, one at least, are all zeros.
    static func isZero(_ block: UnsafeRawBufferPointer) -> Bool {
        guard let base = block.baseAddress, base.load(as: UInt8.self) == 0 else { return false }
        // Equal to itself one byte further means: all bytes are the first.
        return block.count == 1 || memcmp(base, base + 1, block.count - 1) == 0
    }

    private static func write(_ part: UnsafeRawBufferPointer, _ number: Int32, _ offset: Int64, _ shown: String) throws(SystemError) {
        var done = 0
        while done < part.count {
            done += try systemCall("write", shown) {
                clinux_pwrite(number, part.baseAddress.map { $0 + done }, part.count - done, offset + Int64(done))
            }
        }
    }
}
