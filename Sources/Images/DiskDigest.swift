internal import CLinux
internal import Linux

/// The digest of a disk's contents, at the cost of its data: an image of 4 GiB has some megabytes of it, and holes.
///
/// It is the SHA-256 of: "aurora-disk-1\n", the size in bytes (64 bits, little-endian), and of every block of 4096 bytes that is not all
/// zeros, in order, its number (64 bits, little-endian) and its bytes, the last one filled up with zeros. So it does not depend on what of
/// the zeros is stored, and what copies the file without its holes does not change it.
struct DiskDigest {
    /// What a manifest calls this form; none is the SHA-256 of the whole file, as older versions have it.
    static let form = "aurora-disk-1"
    private static let blockBytes = 4096
    private static let chunkBytes = 1 << 20

    private let path: String
    private let size: Int
    private let file: SharedDescriptor
    private let output: SharedDescriptor

    /// Reads a file and writes what is hashed to a socket.
    ///
    /// - Throws: `ImageError.system`; `EPIPE` when nobody reads any more.
    static func feed(_ path: String, to output: SharedDescriptor) throws(ImageError) {
        let size = try Files.size(path).bytes
        do throws(SystemError) {
            let file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY))
            try DiskDigest(path: path, size: size, file: file, output: output).feed()
        } catch { throw .system(error) }
    }

    private func feed() throws(SystemError) {
        try send(Array("\(Self.form)\n".utf8) + Self.number(size))
        let number = file.rawValue
        var chunk = [UInt8](repeating: 0, count: Self.chunkBytes)
        var offset = 0
        while offset < size {
            let data = Int(lseek(number, off_t(offset), SEEK_DATA))
            // No data behind this place; a file system without holes answers with the place itself.
            guard data >= 0 else {
                let reason = Errno(rawValue: clinux_errno())
                if reason.rawValue == ENXIO { return }
                throw SystemError("find the data of", path, errno: reason)
            }
            offset = data / Self.blockBytes * Self.blockBytes
            let count = try fill(&chunk, at: offset)
            try send(Self.blocks(chunk, count: count, from: offset / Self.blockBytes))
            offset += Self.chunkBytes
        }
    }

    /// Reads a piece of the file; what is missing of its last block is zero.
    private func fill(_ chunk: inout [UInt8], at offset: Int) throws(SystemError) -> Int {
        let wanted = min(chunk.count, size - offset)
        let number = file.rawValue
        var done = 0
        while done < wanted {
            let got = try systemCall("read", path) {
                chunk.withUnsafeMutableBytes { clinux_pread(number, $0.baseAddress.map { $0 + done }, wanted - done, Int64(offset + done)) }
            }
            guard got > 0 else { throw SystemError("read all of", path, errno: .inputOutput) }
            done += got
        }
        let count = (wanted + Self.blockBytes - 1) / Self.blockBytes * Self.blockBytes
        for index in wanted..<count { chunk[index] = 0 }
        return count
    }

    /// The blocks of a piece that are not all zeros, each behind its number.
    private static func blocks(_ chunk: [UInt8], count: Int, from first: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count + count / blockBytes * 8)
        chunk.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: count, by: blockBytes) {
                let block = UnsafeRawBufferPointer(rebasing: bytes[start..<start + blockBytes])
                guard !CopyBuffer.isZero(block) else { continue }
                result += number(first + start / blockBytes)
                result.append(contentsOf: block)
            }
        }
        return result
    }

    private static func number(_ value: Int) -> [UInt8] { withUnsafeBytes(of: UInt64(value).littleEndian, Array.init) }

    private func send(_ bytes: [UInt8]) throws(SystemError) {
        let number = output.rawValue
        var sent = 0
        while sent < bytes.count {
            sent += try systemCall("hash", path) {
                bytes.withUnsafeBytes { clinux_send(number, $0.baseAddress.map { $0 + sent }, $0.count - sent) }
            }
        }
    }
}
