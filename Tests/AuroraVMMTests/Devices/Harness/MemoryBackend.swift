import Linux

@testable import AuroraVMM

/// A disk in an array.
final class MemoryBackend: BlockBackend {
    private(set) var bytes: [UInt8]
    let isReadOnly: Bool
    private(set) var flushes = 0
    /// Bytes read, written and cleared.
    private(set) var moved = 0
    /// When set, every access fails with it.
    var failure: SystemError?

    init(byteCount: Int, isReadOnly: Bool = false) {
        bytes = [UInt8](repeating: 0, count: byteCount)
        self.isReadOnly = isReadOnly
    }

    var byteCount: Int64 { Int64(bytes.count) }

    private func check(_ offset: Int64, _ count: Int) throws(SystemError) {
        if let failure { throw failure }
        moved += count
        precondition(offset >= 0 && offset % 512 == 0 && count % 512 == 0 && offset + Int64(count) <= byteCount, "the device did not check")
    }

    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try check(offset, buffers.byteCount)
        var position = Int(offset)
        buffers.forEach { buffer in
            buffer.copyBytes(from: bytes[position..<position + buffer.count])
            position += buffer.count
        }
    }

    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try check(offset, buffers.byteCount)
        var position = Int(offset)
        buffers.forEach { buffer in
            bytes.replaceSubrange(position..<position + buffer.count, with: buffer)
            position += buffer.count
        }
    }

    func flush() throws(SystemError) {
        if let failure { throw failure }
        flushes += 1
    }

    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        try check(offset, Int(count))
        bytes.replaceSubrange(Int(offset)..<Int(offset + count), with: repeatElement(0, count: Int(count)))
    }

    func discard(at offset: Int64, count: Int64) throws(SystemError) { try writeZeroes(at: offset, count: count, mayFree: true) }
}
