import Glibc

/// The bytes of a simulated disk: sparse, a value, cheap to copy.
public struct DiskImage: Sendable {
    /// Bytes of a piece; what was never written is in no piece and reads as zeros.
    static let pieceBytes = 4096
    /// Size in bytes.
    public let byteCount: UInt64
    var pieces: [UInt64: [UInt8]] = [:]

    /// An empty disk.
    public init(byteCount: UInt64) { self.byteCount = byteCount }

    /// Bytes that were ever written, in whole pieces.
    public var writtenBytes: Int { pieces.count * Self.pieceBytes }
    /// Offsets of the pieces that were ever written, in order.
    public var writtenOffsets: [UInt64] { pieces.keys.sorted().map { $0 * UInt64(Self.pieceBytes) } }

    /// Where the first bytes lie that were ever written, at or behind an offset; the end of the disk if there are none.
    func firstData(from offset: UInt64) -> UInt64 {
        let first = offset / UInt64(Self.pieceBytes)
        return pieces.keys.lazy.filter { $0 >= first }.min().map { max(offset, $0 * UInt64(Self.pieceBytes)) } ?? byteCount
    }

    /// Reads bytes; nil beyond the end.
    public func bytes(at offset: UInt64, count: Int) -> [UInt8]? {
        var result = [UInt8](repeating: 0, count: count)
        return result.withUnsafeMutableBytes { read(at: offset, into: $0) } ? result : nil
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else { return false }
        forEachPiece(offset, buffer.count) { piece, start, done, count in
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
            if let bytes = pieces[piece] {
                bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
            } else {
                // Not `initializeMemory`, which goes byte by byte in a debug build: a scrub reads whole free segments.
                if let base = target.baseAddress { memset(base, 0, target.count) }
            }
        }
        return true
    }

    /// Writes bytes; false beyond the end.
    @discardableResult public mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Bool {
        guard offset <= byteCount, UInt64(bytes.count) <= byteCount - offset else { return false }
        forEachPiece(offset, bytes.count) { piece, start, done, count in
            pieces[piece, default: [UInt8](repeating: 0, count: Self.pieceBytes)].withUnsafeMutableBytes {
                UnsafeMutableRawBufferPointer(rebasing: $0[start..<start + count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]))
            }
        }
        return true
    }

    /// Writes bytes; false beyond the end.
    @discardableResult public mutating func write(_ bytes: [UInt8], at offset: UInt64) -> Bool {
        bytes.withUnsafeBytes { write($0, at: offset) }
    }

    /// Turns bytes into zeros, and forgets whole pieces.
    public mutating func discard(at offset: UInt64, count: UInt64) {
        let end = min(byteCount, offset.addingReportingOverflow(count).partialValue)
        guard offset < end else { return }
        forEachPiece(offset, Int(end - offset)) { piece, start, _, count in
            if count == Self.pieceBytes {
                pieces[piece] = nil
            } else if pieces[piece] != nil {
                pieces[piece]?.replaceSubrange(start..<start + count, with: repeatElement(0, count: count))
            }
        }
    }

    /// Inverts one bit.
    public mutating func flip(bit: Int, at offset: UInt64) {
        guard let byte = bytes(at: offset, count: 1)?.first else { return }
        write([byte ^ (1 << UInt8(bit & 7))], at: offset)
    }

    /// Puts a copy of one sector in another's place, as a misdirected write does.
    public mutating func copySector(from source: UInt64, to target: UInt64) {
        guard let bytes = bytes(at: source, count: 512) else { return }
        write(bytes, at: target)
    }

    private func forEachPiece(_ offset: UInt64, _ count: Int, _ body: (_ piece: UInt64, _ start: Int, _ done: Int, _ count: Int) -> Void) {
        var done = 0
        while done < count {
            let position = offset + UInt64(done)
            let start = Int(position % UInt64(Self.pieceBytes))
            let length = min(Self.pieceBytes - start, count - done)
            body(position / UInt64(Self.pieceBytes), start, done, length)
            done += length
        }
    }
}
